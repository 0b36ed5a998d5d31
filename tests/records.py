"""One tiny record, made by tools.record of three seeds that train_gpt.py trained, and the ways to tamper with a copy.

folder = copied(record, tmp_path)                          a copy that a test may change
edit_json(folder / "submission.json", lambda v: ...)       change one thing
resign(folder)                                             hash all files again, as a forger would
renew(folder)                                              compute claim, page and hashes again from the evidence
"""

import contextlib
import json
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from base.cli import Answer
from base.errors import CheckFailed
from base.files import write_json
from base.run_folder import METRICS, RESULT
from eval.score import score_artifact
from run_config import RunConfig
from tests.runs import CPU, make_dataset, small
from tools.bundle import bundle
from tools.record.__main__ import act, list_files, parser
from tools.record.__main__ import write_computed as renew
from tools.record.evidence import Floats
from tools.verify.__main__ import Verified
from tools.verify.__main__ import act as verify
from tools.verify.__main__ import parser as verify_parser
from tools.verify.folder import Folder
from tools.verify.verdict import Finding
from train_gpt import train_pack_score

__all__ = ["renew"]

TRACK = "track_cpu_10min_1mb"
SEEDS = (7, 42, 1337)
MACHINE = "1 x cpu (2 threads)"
QUICK = ["train.steps=6", "train.compile=off", "eval.during=0"]


@pytest.fixture(scope="session")
def seeds(jsonl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and runs/seed7, seed42, seed1337; tests that write copy it."""
    root = tmp_path_factory.mktemp("seeds")
    make_dataset(jsonl, root / "data")
    with contextlib.chdir(root):
        for seed in SEEDS:
            result = train_pack_score(small(*QUICK, f"seed={seed}"), f"seed{seed}", CPU)
            set_machine(Path(result.run), step_s=seed / 1000)
    return root


def set_machine(run: Path, step_s: float) -> None:
    """The machine and the clock are those of a table, so that no test depends on how fast a run was."""
    rows = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    for row in rows:
        row["elapsed_s"] = row["step"] * step_s
        if "step_s" in row:
            row["step_s"] = step_s
    (run / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    seconds = {"train_seconds": rows[-1]["step"] * step_s, "calibration_seconds": 2.0, "eval_seconds": 3.0}
    edit_json(run / RESULT, lambda values: values.update(device=MACHINE, **seconds))


def score_here(code: bytes, artifact: Path, data: Path, ranks: int) -> tuple[Floats, float]:
    """What the single file would measure, in this process; tests/tools/test_record.py has the real thing."""
    return score_artifact(artifact, str(data), None, CPU)[0].block_nats, 4.5


@pytest.fixture
def quick(seeds: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_quick(monkeypatch)
    return seeds


@pytest.fixture
def data(seeds: Path) -> Path:
    """What the seeds trained and are scored on."""
    return seeds / "data"


@pytest.fixture
def scores_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without probes and codec, which take ten times as long."""
    monkeypatch.setattr("tools.verify.measure.check_probes", lambda *_: iter(()))
    monkeypatch.setattr("tools.verify.measure.check_codec", lambda *_: Finding("codec.measured", "note", ""))


def make_quick(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("tools.record.__main__.score_shipped", score_here)
    patch.setattr("tools.record.shipping.bundle", bundle_once)
    patch.setattr("tools.record.__main__.is_network_cut", lambda: True)


@lru_cache
def bundle_once(config: RunConfig, name: str, readable: bool) -> Any:
    return bundle(config, name, readable)


def make_record(root: Path, out: Path, *words: str, runs: Path | None = None) -> Answer:
    """`python -m tools.record ...` of all seeds, in this process."""
    folders = [str((runs or root / "runs") / f"seed{seed}") for seed in SEEDS]
    flags = ["--name", "Tiny seeds", "--date", "2026-11-21", "-o", str(out), "--data", str(root / "data")]
    track = [] if "--track" in words else ["--track", TRACK]
    return act(parser().parse_args([*folders, *flags, *track, *words]))


@pytest.fixture(scope="session")
def record(seeds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid record, never written to."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return Path(make_record(seeds, tmp_path_factory.mktemp("records"), "--author", "Ada")["path"])


@pytest.fixture(scope="session")
def single(record: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record with its median seed alone, on the track that needs no more. Never written to."""
    folder = copied(record, tmp_path_factory.mktemp("single"))
    median = seed_of(folder)
    for seed in set(SEEDS) - {median}:
        remove_seed(folder, seed)

    def describe(values: dict[str, Any]) -> None:
        values["statement"]["track"] = "track_non_record_16mb"
        values["scoring"]["seconds"] = {str(median): 4.5}

    edit_json(folder / "evidence.json", describe)
    renew(folder)
    return folder


# -- tampering ------------------------------------------------------------------------------------------------------


def copied(record: Path, tmp_path: Path) -> Path:
    target = tmp_path / "records" / record.parent.name / record.name
    shutil.copytree(record, target)
    return target


def seed_of(folder: Path) -> int:
    """The seed that model.golf is of."""
    return int(json.loads((folder / "submission.json").read_text())["median_seed"])


def remove_seed(folder: Path, seed: int) -> None:
    for path in folder.glob(f"*seed{seed}.*"):
        path.unlink()


def edit_json(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    edit(values)
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def edit_result(path: Path, **changed: Any) -> None:
    """Values of a run's result, or functions of the value that is there."""

    def edit(values: dict[str, Any]) -> None:
        for key, value in changed.items():
            values[key] = value(values[key]) if callable(value) else value

    edit_json(path, edit)


def resign(folder: Path) -> None:
    write_json(folder / "manifest.json", list_files(Folder(folder)))


def check(folder: Path, *words: str) -> Verified:
    """The answer of `python -m tools.verify --fast`, whatever its verdict."""
    tier = [] if "--data" in words else ["--fast"]
    try:
        return verify(verify_parser().parse_args([str(folder), *tier, "--records", str(folder.parents[1]), *words]))
    except CheckFailed as failed:
        answer: Verified = failed.answer
        return answer


def accusations(answer: Verified) -> dict[str, str]:
    """Rule -> level, of everything that is not a note."""
    return {found["rule"]: found["level"] for found in answer.findings if found["level"] != "note"}
