"""Finished runs, read for a record, and the reasons why some cannot be seeds of one record."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from base.config import load, to_dict
from base.errors import BadInput
from base.files import file_sha256
from base.result_file import read_result
from base.run_folder import ARTIFACT, CONFIG, LOG, LOSS_PLOT, METRICS, RESULT, RunResult
from run_config import RunConfig

FREE = {"seed", "data.path"}  # what seeds of one configuration may differ in
SHARED = ("data_sha256", "val_sha256", "tokenizer_sha256", "params", "sources_sha256")  # of result.json
ROUNDING = 1e-11  # relative: the same float sums on another machine
ABSENT = "(absent)"


@dataclass(frozen=True)
class Run:
    folder: Path
    config: RunConfig
    result: RunResult

    @property
    def seed(self) -> int:
        return self.config.seed


def read_run(folder: Path) -> Run:
    if not (folder / CONFIG).is_file():
        raise BadInput(f"{folder}: not a run (no {CONFIG}); name folders that train_gpt.py has made")
    if not (folder / RESULT).is_file():
        raise BadInput(f"{folder}: not finished (no {RESULT}); the command that began it resumes it")
    run = Run(folder, load(RunConfig, folder / CONFIG), read_result(folder / RESULT))
    for needed in (ARTIFACT, LOG, METRICS, LOSS_PLOT):
        if not (folder / needed).is_file():
            raise BadInput(f"{folder / needed}: is missing; a record needs it: train again")
    if file_sha256(folder / ARTIFACT) != run.result.artifact_sha256:
        raise BadInput(f"{folder / ARTIFACT}: is not the artifact that the run packed; put that one back")
    if run.result.seed != run.seed:
        raise BadInput(f"{folder}: seed {run.result.seed} in {RESULT}, {run.seed} in {CONFIG}; one of them was changed")
    return run


def require_one_configuration(runs: Sequence[Run]) -> None:
    """Seeds of one configuration, each once, on the same data, by the same code."""
    for one, other in pairwise(sorted(runs, key=lambda run: run.seed)):
        both = f"{one.folder} and {other.folder}"
        if one.seed == other.seed:
            raise BadInput(f"{both}: both are seed {one.seed}; a seed counts once: leave one out")
        keys = differing_keys(to_dict(one.config), to_dict(other.config))
        if keys:
            raise BadInput(f"{both} differ in {', '.join(keys)}; only the seed may differ")
        for key in SHARED:
            ours = getattr(one.result, key)
            theirs = getattr(other.result, key)
            if ours != theirs:
                raise BadInput(f"{both}: {key} {ours!s:.12}… and {theirs!s:.12}…; train both again with the same")


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The dotted keys that make two configs two configurations."""
    return [key for key, _, _ in differences(one, other) if key not in FREE]


def differences(one: Any, other: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key and both values, of JSON values; floats may differ by the rounding of another machine."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**other, **one}:
            name = f"{at}.{key}" if at else str(key)
            yield from differences(one.get(key, ABSENT), other.get(key, ABSENT), name)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{at}.{number}")
    elif isinstance(one, float) and isinstance(other, float):
        if not math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING):
            yield at, one, other
    elif one != other or type(one) is not type(other):
        yield at, one, other
