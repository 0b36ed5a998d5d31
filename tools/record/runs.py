"""Finished runs, as a record takes them in, and why some cannot stand in one record together.

runs = [read_run(Path(name)) for name in names]
require_one_configuration(runs)                    seeds and nothing else may differ
require_sources(runs, sources_sha256)              and all ran the code that is shipped
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from base.config import Layer, build, load, to_dict
from base.errors import BadInput
from base.files import file_sha256
from base.run_folder import CONFIG, RESULT
from run_config import RunConfig

LOG, METRICS = "train.log", "metrics.jsonl"
FREE = {"seed", "data.path"}  # what seeds of one configuration may differ in


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a record needs of result.json; the rest is the run's own affair."""

    seed: int
    params: int
    steps: int
    train_seconds: float
    calibration_seconds: float
    val_bpb: float  # of the averaged weights, before packing
    packed_bpb: float
    artifact: str
    artifact_sha256: str
    data_sha256: str
    val_sha256: str
    tokenizer_sha256: str
    sources_sha256: str
    bundle_sha256: str  # "": run from the modules
    device: str
    torch: str
    python: str


@dataclass(frozen=True)
class Run:
    folder: Path
    config: RunConfig
    result: Result

    @property
    def artifact(self) -> Path:
        """Where it lies now: a run's folder may have moved since it said its artifact's path."""
        return self.folder / Path(self.result.artifact).name

    @property
    def last_step_seconds(self) -> float:
        """A run may overrun its time by the step that it was in."""
        return float([row["step_s"] for row in metric_rows(self.folder / METRICS) if "step_s" in row][-1])


def read_run(folder: Path) -> Run:
    if not (folder / CONFIG).is_file():
        raise BadInput(f"{folder}: not a run (no {CONFIG}); name folders that train_gpt.py has made")
    config: RunConfig = load(RunConfig, folder / CONFIG)
    path = folder / RESULT
    if not path.is_file():
        raise BadInput(f"{folder}: not finished (no {RESULT}); the command that began it goes on with it")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name: said[field.name] for field in fields(Result) if field.name in said}
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path}: not a run's result: {error}") from None
    missing = [field.name for field in fields(Result) if field.name not in known]
    if missing:
        raise BadInput(f"{path}: does not say {', '.join(missing)}; this train_gpt.py would: train it again")
    run = Run(folder, config, build(Result, [Layer(str(path), known)]))
    for needed in (run.artifact, folder / LOG, folder / METRICS):
        if not needed.is_file():
            raise BadInput(f"{needed}: the run's own file is missing; a record needs it: train it again")
    if (found := file_sha256(run.artifact)) != run.result.artifact_sha256:
        raise BadInput(
            f"{run.artifact}: sha256 {found[:12]}… is not the {run.result.artifact_sha256[:12]}… that the run packed; "
            "it was changed or packed again since: put the run's own back, or train it again"
        )
    if run.result.seed != config.seed:
        raise BadInput(f"{path}: seed {run.result.seed} is not the {config.seed} of {CONFIG}; one of them was changed")
    return run


def metric_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl: at least one step's."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if any("loss" in row and "step_s" in row for row in rows):
            return rows
    except (ValueError, TypeError):
        pass
    raise BadInput(f"{path}: not what a run measures, a JSON object a line with step, loss, step_s; train it again")


def flat(values: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """{"model": {"dim": 8}} -> {"model.dim": 8}."""
    found = dict[str, Any]()
    for key, value in values.items():
        found |= flat(value, f"{at}{key}.") if isinstance(value, Mapping) else {f"{at}{key}": value}
    return found


def differences(one: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> both values, of what makes two configurations two."""
    ours, theirs = flat(to_dict(one)), flat(to_dict(other))
    return {key: (ours[key], theirs[key]) for key in ours if key not in FREE and ours[key] != theirs[key]}


def require_one_configuration(runs: Sequence[Run]) -> None:
    """Seeds of one configuration, each once, on the same data."""
    for one, other in pairwise(sorted(runs, key=lambda run: run.config.seed)):
        both = f"{one.folder} and {other.folder}"
        if one.config.seed == other.config.seed:
            raise BadInput(f"{both}: both are seed {one.config.seed}; a seed counts once: leave one out")
        for key, (mine, his) in differences(one.config, other.config).items():
            raise BadInput(f"{both}: {key} is {mine!r} in one and {his!r} in the other; only the seed may differ")
        for what in ("data_sha256", "val_sha256", "tokenizer_sha256", "params"):
            mine, his = getattr(one.result, what), getattr(other.result, what)
            if mine != his:
                raise BadInput(f"{both}: {what} {mine!s:.12}… and {his!s:.12}…: trained on different data")


def require_one_source(runs: Sequence[Run]) -> None:
    for one, other in pairwise(runs):
        mine, his = one.result.sources_sha256, other.result.sources_sha256
        if mine != his:
            raise BadInput(
                f"{one.folder} and {other.folder}: different code, sources {mine:.12}… and {his:.12}…; train both "
                "again with the same, or give --rerun"
            )


def require_sources(runs: Sequence[Run], sources_sha256: str) -> None:
    """Each ran what is shipped: the modules of this tree, of which the single file is made."""
    for run in runs:
        if (mine := run.result.sources_sha256) != sources_sha256:
            raise BadInput(
                f"{run.folder}: its code's sources {mine:.12}… are not this tree's {sources_sha256:.12}…; go back to "
                "the tree that it ran from, give the file that it ran as --bundle FILE, or train again with --rerun"
            )


def require_bundle(runs: Sequence[Run], file: Path, sha256: str) -> None:
    for run in runs:
        if run.result.bundle_sha256 != sha256:
            ran = f"the file {run.result.bundle_sha256[:12]}…" if run.result.bundle_sha256 else "the modules"
            raise BadInput(f"{run.folder}: was run from {ran}, not from --bundle {file} ({sha256[:12]}…)")
