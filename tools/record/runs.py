"""Finished runs, read for a record, and the reasons why some cannot be seeds of one record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from base.config import load, to_dict
from base.errors import BadInput
from base.files import file_sha256
from base.run_folder import ARTIFACT, CONFIG, LOG, METRICS, RESULT, RunResult, read_result
from run_config import RunConfig
from tools.record.schema import Track

FREE = {"seed", "data.path"}  # what seeds of one configuration may differ in


@dataclass(frozen=True)
class Run:
    folder: Path
    config: RunConfig
    result: RunResult

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def artifact(self) -> Path:
        return self.folder / ARTIFACT


def read_run(folder: Path) -> Run:
    if not (folder / CONFIG).is_file():
        raise BadInput(f"{folder}: not a run (no {CONFIG}); name folders that train_gpt.py has made")
    if not (folder / RESULT).is_file():
        raise BadInput(f"{folder}: not finished (no {RESULT}); the command that began it resumes it")
    run = Run(folder, load(RunConfig, folder / CONFIG), read_result(folder / RESULT))
    for needed in (ARTIFACT, LOG, METRICS):
        if not (folder / needed).is_file():
            raise BadInput(f"{folder / needed}: the run's own file is missing; a record needs it: train it again")
    if (found := file_sha256(run.artifact)) != run.result.artifact_sha256:
        raise BadInput(
            f"{run.artifact}: sha256 {found[:12]}… is not the {run.result.artifact_sha256[:12]}… that the run packed; "
            "it was packed again since: put the run's own back, or train it again"
        )
    if run.result.seed != run.seed:
        raise BadInput(f"{folder}: seed {run.result.seed} in {RESULT}, {run.seed} in {CONFIG}; one of them was changed")
    return run


def flatten(values: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """{"model": {"dim": 8}} -> {"model.dim": 8}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{at}{key}.")
        else:
            found[f"{at}{key}"] = value
    return found


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The dotted keys that make two configs two configurations."""
    ours, theirs = flatten(one), flatten(other)
    keys = [key for key in {**ours, **theirs} if key not in FREE]
    return [key for key in keys if key not in ours or key not in theirs or ours[key] != theirs[key]]


def require_one_configuration(runs: Sequence[Run]) -> None:
    """Seeds of one configuration, each once, on the same data, by the same code."""
    for one, other in pairwise(sorted(runs, key=lambda run: run.seed)):
        both = f"{one.folder} and {other.folder}"
        if one.seed == other.seed:
            raise BadInput(f"{both}: both are seed {one.seed}; a seed counts once: leave one out")
        if keys := differing_keys(to_dict(one.config), to_dict(other.config)):
            raise BadInput(f"{both} differ in {', '.join(keys)}; only the seed may differ")
        for what in ("data_sha256", "val_sha256", "tokenizer_sha256", "params", "sources_sha256"):
            ours, theirs = getattr(one.result, what), getattr(other.result, what)
            if ours != theirs:
                raise BadInput(f"{both}: {what} {ours!s:.12}… and {theirs!s:.12}…; train both again with the same")


def require_code(runs: Sequence[Run], sources_sha256: str, bundle_sha256: str | None) -> None:
    """Each run ran what is shipped: the very file if `bundle_sha256` is given, else this tree's modules."""
    for run in runs:
        if bundle_sha256 is not None and run.result.bundle_sha256 != bundle_sha256:
            ran = f"the file {run.result.bundle_sha256[:12]}…" if run.result.bundle_sha256 else "the modules"
            raise BadInput(f"{run.folder}: ran from {ran}, not from the --bundle file {bundle_sha256[:12]}…")
        if bundle_sha256 is None and run.result.sources_sha256 != sources_sha256:
            raise BadInput(
                f"{run.folder}: the sources {run.result.sources_sha256:.12}… that it ran are not this tree's "
                f"{sources_sha256:.12}…; check out the tree that it ran, name the file that it ran with --bundle "
                "FILE, or train again with --rerun"
            )


def require_cap(runs: Sequence[Run], code_bytes: int, track: Track) -> None:
    for run in runs:
        total = code_bytes + run.result.artifact_bytes
        if total > track.cap_bytes:
            raise BadInput(
                f"{run.folder}: code {code_bytes:,} + artifact {run.result.artifact_bytes:,} = {total:,} bytes, "
                f"{total - track.cap_bytes:,} over the {track.cap_bytes:,} of {track.name}; lower quant.cap_bytes by "
                "that much, or drop --readable"
            )
