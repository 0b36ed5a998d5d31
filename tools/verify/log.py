"""A run's train.log, read: the config at its head, the hashes, the validations, the five lines at its end.

`read_log` gives what is there and, in `troubles`, what is not as a run writes it; it judges no number.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from base.config import parse_yaml
from base.errors import BadInput

LARGEST_HEAD = 1 << 14  # characters of YAML; a config has about 3,000
MOST_BRACKETS = 64  # in it: nested ones take a reader of YAML very long
YAML_LINE = re.compile(r"\s+\S|- |[A-Za-z_][A-Za-z_0-9]*:( |$)")
HASHES = re.compile(r"data ([0-9a-f]{64}) tokenizer ([0-9a-f]{64})")
SOURCES = re.compile(r"\bsources ([0-9a-f]{64})\b")
MACHINE = re.compile(r"python \S+, torch \S+, on ((\d{1,4}) x (cpu|cuda) \((.{1,80})\)), torch\.compile (?:on|off)")
THREADS = re.compile(r"(\d{1,4}) threads")
VALIDATION = re.compile(r"step (\d{1,12}) val_bpb:(\d{1,6}\.\d{1,12})\b.*")
RESUMED = re.compile(r"going on at step (\d{1,12})")
INT, REAL, HEX = r"(\d{1,15})", r"(\d{1,9}\.\d{1,12})", r"([0-9a-f]{64})"
TAIL = {
    "steps": re.compile(rf"steps {INT} train_time:{INT}ms step_avg:{REAL}ms peak_memory:{INT}MiB"),
    "pre_quant": re.compile(rf"pre_quant val_loss:{REAL} val_bpb:{REAL} eval_time:{INT}ms"),
    "calibration": re.compile(rf"calibration_time:{INT}ms artifact_bytes:{INT} artifact_sha256:{HEX}"),
    "bytes": re.compile(rf"code_bytes:{INT} total_bytes:{INT}"),
    "final": re.compile(rf"final val_loss:{REAL} val_bpb:{REAL} eval_time:{INT}ms"),
}


@dataclass(frozen=True, kw_only=True)
class Tail:
    """The last five lines."""

    steps: int
    train_ms: int
    step_avg_ms: float
    pre_quant_loss: float
    pre_quant_bpb: float
    calibration_ms: int
    artifact_bytes: int
    artifact_sha256: str
    code_bytes: int
    total_bytes: int
    loss: float
    bpb: float
    eval_ms: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    described: str  # as it is written
    ranks: int
    kind: str  # cpu, cuda
    threads: int  # of a rank, on a CPU


@dataclass(frozen=True, kw_only=True)
class Log:
    config: dict[str, Any] = field(default_factory=dict)
    sources_sha256: str = ""
    data_sha256: str = ""
    tokenizer_sha256: str = ""
    machine: Machine | None = None
    validations: tuple[tuple[int, float], ...] = ()
    resumed: tuple[int, ...] = ()
    tail: Tail | None = None
    troubles: tuple[str, ...] = ()


def read_log(text: str) -> Log:
    troubles: list[str] = []
    lines = text.removesuffix("\n").split("\n")
    config, after = _head(lines, troubles)
    hashes = [found for line in lines[after:] if (found := HASHES.fullmatch(line))]
    if len(hashes) != 1:
        troubles.append(f"the line `data SHA tokenizer SHA` stands there {len(hashes)} times, not once")
    sources = [found[1] for line in lines[after:] for found in SOURCES.finditer(line)]
    if len(sources) != 1:
        troubles.append(f"`sources SHA` stands there {len(sources)} times, not once")
    validations, resumed = _steps(lines[after:], troubles)
    return Log(
        config=config,
        sources_sha256=sources[0] if sources else "",
        data_sha256=hashes[0][1] if hashes else "",
        tokenizer_sha256=hashes[0][2] if hashes else "",
        machine=next((_machine(found) for line in lines[after:] if (found := MACHINE.fullmatch(line))), None),
        validations=validations,
        resumed=resumed,
        tail=_tail(lines, troubles),
        troubles=tuple(troubles),
    )


def _head(lines: list[str], troubles: list[str]) -> tuple[dict[str, Any], int]:
    """The config, and where the lines after it begin."""
    after = next((at for at, line in enumerate(lines) if not YAML_LINE.match(line)), len(lines))
    head = "\n".join(lines[:after])
    try:
        if len(head) > LARGEST_HEAD:
            raise BadInput(f"a config of {len(head):,} characters; {LARGEST_HEAD:,} are read")
        if head.count("[") + head.count("{") > MOST_BRACKETS:
            raise BadInput(f"a config of more than {MOST_BRACKETS} brackets, which no run writes")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(head)):
            raise BadInput("a config that refers to itself, which no run writes")
        config = parse_yaml(head, "the log's head")
    except (BadInput, yaml.YAMLError, RecursionError) as error:
        troubles.append(f"its head is no config: {' '.join(str(error).split()):.160}")
        return {}, after
    if not isinstance(config, dict) or not isinstance(config.get("seed"), int):
        troubles.append("its head is no config with a seed")
        return {}, after
    return config, after


def _machine(found: re.Match[str]) -> Machine:
    threads = THREADS.fullmatch(found[4])
    return Machine(described=found[1], ranks=int(found[2]), kind=found[3], threads=int(threads[1]) if threads else 1)


def _steps(lines: list[str], troubles: list[str]) -> tuple[tuple[tuple[int, float], ...], tuple[int, ...]]:
    validations: list[tuple[int, float]] = []
    resumed: list[int] = []
    for line in lines:
        if again := RESUMED.fullmatch(line):
            resumed.append(int(again[1]))
            validations = [(step, bpb) for step, bpb in validations if step <= resumed[-1]]
        elif seen := VALIDATION.fullmatch(line):
            step = int(seen[1])
            if validations and step <= validations[-1][0]:
                troubles.append(f"step {step} stands after step {validations[-1][0]}")
            validations.append((step, float(seen[2])))
    return tuple(validations), tuple(resumed)


def _tail(lines: list[str], troubles: list[str]) -> Tail | None:
    found = {}
    for at, (name, pattern) in enumerate(TAIL.items()):
        places = [(place, seen) for place, line in enumerate(lines) if (seen := pattern.fullmatch(line))]
        if len(places) != 1:
            troubles.append(f"its `{name}` line stands there {len(places)} times, not once")
        elif places[0][0] != len(lines) - len(TAIL) + at:
            troubles.append(
                f"its `{name}` line is line {places[0][0] + 1} of {len(lines)}, not {len(TAIL) - at} from the end"
            )
        found[name] = places[0][1] if places else None
    steps, pre, packed, sizes, final = (found[name] for name in TAIL)
    if not (steps and pre and packed and sizes and final):
        return None
    return Tail(
        steps=int(steps[1]), train_ms=int(steps[2]), step_avg_ms=float(steps[3]),
        pre_quant_loss=float(pre[1]), pre_quant_bpb=float(pre[2]),
        calibration_ms=int(packed[1]), artifact_bytes=int(packed[2]), artifact_sha256=packed[3],
        code_bytes=int(sizes[1]), total_bytes=int(sizes[2]),
        loss=float(final[1]), bpb=float(final[2]), eval_ms=int(final[3]),
    )  # fmt: skip
