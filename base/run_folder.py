"""A run's folder in `runs/`: the names of its files, what result.json holds, how metrics.jsonl is read.

Not a registry: a folder that holds config.yaml is a run, one that holds result.json as well is a finished run.
"""

import itertools
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from base.errors import BadInput
from base.files import locked, read_json
from base.precision import Precision

RUNS = Path("runs")
CONFIG = "config.yaml"  # the resolved config
CHECKPOINT = "checkpoint"  # -STEP: folders of an unfinished run (engine/saver.py)
MODEL = "model.pt"  # the averaged float weights
ARTIFACT = "model.golf"
RESULT = "result.json"
METRICS = "metrics.jsonl"  # one object per step and per validation
LOG = "train.log"  # for people; no program reads it
LOSS_PLOT = "loss.png"
SCORE = "score.json"  # eval.bpb's answer


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """result.json, and the answer of `train_gpt.py --json`. `val_bpb` is scored from the artifact, as everywhere; where
    quant.method is none there is no artifact, and it is null like all that describes one."""

    run: str  # absolute path of the folder
    params: int
    steps: int
    train_seconds: float
    tokens_per_second: float  # of training
    float_bpb: float  # of the averaged weights, before packing
    float_nats_per_token: float
    val_bpb: float | None  # of the artifact
    val_nats_per_token: float | None
    val_tokens: int  # targets scored
    val_bytes: int
    contest_bytes: int
    artifact: str | None
    artifact_sha256: str | None
    artifact_bytes: int | None
    code_bytes: int
    total_bytes: int | None
    over_cap_bytes: int = 0  # beyond quant.cap_bytes, which quant.solve=false only checks
    calibration_seconds: float  # quantizing and packing
    eval_seconds: float  # scoring the artifact, or the float weights where there is none
    seed: int
    stride: int
    context: int
    adapt: str = "off"  # eval.adapt.kind; runs that are older than it did not adapt
    precision: Precision = "fp32"  # of all its scores; runs that are older than it had no other
    data_sha256: str
    val_sha256: str
    tokenizer_sha256: str
    sources_sha256: str  # of the modules that ran
    bundle_sha256: str  # of the single file that ran; "" where the modules did
    device: str
    torch: str
    python: str
    peak_memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class RunResult(TrainResult):
    """Of a run that packed an artifact: what a record or a sweep can take."""

    val_bpb: float
    val_nats_per_token: float
    artifact: str
    artifact_sha256: str
    artifact_bytes: int
    total_bytes: int


def read_metrics(text: str, name: str) -> list[dict[str, float]]:
    """The rows of a metrics.jsonl: objects of numbers, one per line."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        row = read_json(line, f"{name}, line {number}")
        if not isinstance(row, dict) or not all(isinstance(value, int | float) for value in row.values()):
            raise BadInput(f"{name}, line {number}: not an object of numbers")
        rows.append(row)
    return rows


def newest(mark: str, root: Path = RUNS) -> Path:
    """The most recently written `root/*/mark`."""
    found = [path for path in root.glob(f"*/{mark}") if path.is_file()]
    if not found:
        raise BadInput(f"no {mark} in {root}/*/; name one, or make one with: python train_gpt.py")
    path = max(found, key=lambda path: (path.stat().st_mtime_ns, path.as_posix()))
    print(f"taking the newest: {path}", file=sys.stderr)
    return path


def named_or_newest(given: str | None, mark: str, root: Path = RUNS) -> Path:
    """`given` as a file, or as a folder that holds `mark`; the newest run's if nothing is given."""
    if given is None:
        return newest(mark, root)
    path = Path(given)
    path = path / mark if path.is_dir() else path
    if not path.is_file():
        is_unpacked = mark == ARTIFACT and path.with_name(MODEL).is_file()
        way_out = (
            f"pack it: python -m quant.pack {path.parent}" if is_unpacked else f"name a run's folder or its {mark}"
        )
        raise BadInput(f"{path}: no such file; {way_out}")
    return path


def new_or_unfinished(name: str, config: str, root: Path = RUNS) -> Path:
    """`root/name` to resume in if it is unfinished and holds this very config; else a new folder beside it."""
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise BadInput(f"--name {name}: leads out of {root}/; use a plain name")
    for number in itertools.count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        written = folder / CONFIG
        if not folder.exists():
            folder.mkdir(parents=True)
            written.write_text(config, encoding="utf-8")
            return folder
        if written.is_file() and not (folder / RESULT).exists():
            others = set(written.read_text(encoding="utf-8").splitlines()) ^ set(config.splitlines())
            if not others:
                return folder
            keys = ", ".join(sorted({line.partition(":")[0].strip() for line in others}))
            print(f"{folder} is unfinished, but of another config ({keys}): it is left as it is", file=sys.stderr)
    raise AssertionError("unreachable")


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Two runs would mix their files."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder, wait=False))
        except BlockingIOError:
            raise BadInput(f"{folder}: another process is training in it; wait for it, or use another --name") from None
        yield
