"""tools.record --rerun: the single file trains, and what it trained is recorded."""

import json
import shutil
from pathlib import Path

import pytest

from base.config import Layer, build
from base.files import file_sha256
from tests.tools.conftest import TRACK, edited
from tools.record.__main__ import act, parser
from tools.record.runs import read_run
from tools.record.schema import Submission


def test_rerun_records_what_the_single_file_trains(
    seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.record.__main__.RERUNS", tmp_path / "runs")
    shutil.copytree(seeds / "runs" / "seed7", tmp_path / "old")
    edited(tmp_path / "old" / "result.json", sources_sha256="3" * 64)  # the tree has moved on: no matter
    flags = ["--name", "again", "--date", "2026-11-21", "-o", str(tmp_path / "out"), "--data", str(seeds / "data")]
    words = [str(tmp_path / "old"), "--track", TRACK, "--readable", "--rerun", *flags]
    folder = Path(act(parser().parse_args(words))["path"])
    values = json.loads((folder / "submission.json").read_text())
    submission: Submission = build(Submission, [Layer("submission.json", values)])
    before = read_run(seeds / "runs" / "seed7").result
    assert submission.notes["code"]["trained"] == "this file"
    assert submission.seed_results["7"].artifact_sha256 == file_sha256(folder / "model.golf")
    assert submission.val_bpb == pytest.approx(before.packed_bpb, rel=1e-3)  # the same steps, from the same seed
    assert "seed: 7" in (folder / "train_seed7.log").read_text()
