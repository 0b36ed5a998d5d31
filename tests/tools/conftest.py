"""Two tiny seeds of one configuration, trained once a session, and the quick way to make records of them."""

import contextlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tools.record.code import generated
from tools.record.scoring import Scored

from base.config import load
from base.files import file_sha256
from engine.device import Device
from tests.conftest import prep
from tests.test_train import SMALL
from tools.bundle import bundle
from tools.record.__main__ import act, parser
from train_gpt import RunConfig, whole_run

TRACK = "track_non_record_16mb"
SEEDS = (7, 42)
QUICK = [*SMALL, "train.steps=3", "train.compile=off", "data.path=data"]


@pytest.fixture(scope="session", autouse=True)
def bundled_once() -> Iterator[None]:
    """A bundle takes seconds, and many records here are of one configuration."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tools.record.code.bundle", lru_cache(bundle))
        yield


@pytest.fixture(scope="session")
def seeds(jsonl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and runs/seed7, runs/seed42; never written to again."""
    root = tmp_path_factory.mktemp("seeds")
    prep(jsonl, "--vocab", 400, "--val-fraction", 0.2, "--out", root / "data", "--workers", 1)
    with contextlib.chdir(root):
        for seed in SEEDS:
            whole_run(load(RunConfig, None, [*QUICK, f"seed={seed}"]), f"seed{seed}", Device(torch.device("cpu")))
    return root


@pytest.fixture
def quick(seeds: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records take the runs' own scores, and code that is quicker to make; test_record.py has the real thing."""
    known = dict[str, Scored]()
    for seed in SEEDS:
        said = json.loads((seeds / "runs" / f"seed{seed}" / "result.json").read_text())
        known[said["artifact_sha256"]] = Scored(
            said["packed_bpb"], said["packed_nats_per_token"], said["val_tokens"], said["val_bytes"],
            said["contest_bytes"], said["stride"], said["context"], seconds=4.5,
        )  # fmt: skip
    monkeypatch.setattr("tools.record.__main__.score_shipped", lambda code, artifact, _: known[file_sha256(artifact)])
    monkeypatch.setattr("tools.record.__main__.generated", lambda config, packed: generated(config, False))
    return seeds


def record(root: Path, out: Path, *words: str, runs: Path | None = None) -> dict[str, Any]:
    """`python -m tools.record …` of both seeds, in this process: its answer."""
    folders = [str((runs or root / "runs") / f"seed{seed}") for seed in SEEDS]
    flags = ["--name", "Two tiny seeds", "--date", "2026-11-21", "-o", str(out), "--data", str(root / "data")]
    track = [] if "--track" in words else ["--track", TRACK]
    return act(parser().parse_args([*folders, *flags, *track, *words]))


def edited(values: Path, **changes: Any) -> None:
    """A JSON file with other values."""
    values.write_text(json.dumps({**json.loads(values.read_text()), **changes}))
