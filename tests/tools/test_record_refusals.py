"""tools.record: what cannot be recorded is refused in one line, and leaves nothing behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.config import Layer, build, load
from base.errors import BadInput, CheckFailed
from base.files import file_sha256
from tests.conftest import prep
from tests.tools.conftest import SEEDS, TRACK, edited, record
from tools.record.code import Code, generated
from tools.record.tracks import Track, Tracks, load_tracks
from train_gpt import RunConfig

Edit = Callable[[Path], None]


def other_config(runs: Path) -> None:
    path = runs / "seed42" / "config.yaml"
    path.write_text(path.read_text().replace("batch_tokens: 256", "batch_tokens: 512"))


def other_source(runs: Path) -> None:
    edited(runs / "seed42" / "result.json", sources_sha256="0" * 64)


def other_tree(runs: Path) -> None:
    for seed in SEEDS:
        edited(runs / f"seed{seed}" / "result.json", sources_sha256="0" * 64)


def same_seed(runs: Path) -> None:
    shutil.rmtree(runs / "seed42")
    shutil.copytree(runs / "seed7", runs / "seed42")


def changed_artifact(runs: Path) -> None:
    path = runs / "seed42" / "model.golf"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def removed(name: str) -> Edit:
    return lambda runs: (runs / "seed42" / name).unlink()


def older_result(runs: Path) -> None:
    values = json.loads((runs / "seed42" / "result.json").read_text())
    del values["calibration_seconds"]
    (runs / "seed42" / "result.json").write_text(json.dumps(values))


def other_data(runs: Path) -> None:
    edited(runs / "seed42" / "result.json", data_sha256="1" * 64)


def no_metrics(runs: Path) -> None:
    (runs / "seed42" / "metrics.jsonl").write_text("{}\n")


def no_json(runs: Path) -> None:
    (runs / "seed42" / "result.json").write_text("[")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (other_config, r"train\.batch_tokens is 256 in one and 512 in the other; only the seed may differ"),
        (other_source, "different code, .* or give --rerun"),
        (other_tree, "its code's sources .* are not this tree's .* --bundle FILE, or train again with --rerun"),
        (same_seed, "both are seed 7; a seed counts once"),
        (changed_artifact, "is not the .* that the run packed"),
        (removed("result.json"), r"not finished \(no result.json\)"),
        (removed("config.yaml"), r"not a run \(no config.yaml\)"),
        (removed("metrics.jsonl"), "the run's own file is missing"),
        (older_result, "does not say calibration_seconds; this train_gpt.py would"),
        (other_data, "data_sha256 .* trained on different data"),
        (no_json, "not a run's result"),
        (no_metrics, "not what a run measures"),
    ],
)
def test_runs_that_cannot_stand_in_one_record_are_refused(quick: Path, tmp_path: Path, edit: Edit, said: str) -> None:
    shutil.copytree(quick / "runs", tmp_path / "runs")
    edit(tmp_path / "runs")
    with pytest.raises(BadInput, match=said):
        record(quick, tmp_path / "out", runs=tmp_path / "runs")
    assert not (tmp_path / "out").exists()


def test_a_score_that_is_not_the_runs_own_is_refused_and_leaves_nothing(quick: Path, tmp_path: Path) -> None:
    shutil.copytree(quick / "runs", tmp_path / "runs")
    result = tmp_path / "runs" / "seed42" / "result.json"
    edited(result, packed_bpb=json.loads(result.read_text())["packed_bpb"] * (1 + 2e-6))
    with pytest.raises(CheckFailed, match="not within 1e-06 of each other"):
        record(quick, tmp_path / "out", runs=tmp_path / "runs")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"cap_bytes": 1000}, "over the 1,000 of track_non_record_16mb"),
        ({"train_seconds": 1e-6}, "of training are over the 1e-06"),
        ({"train_seconds": 1e-6, "calibration": "inside"}, "of training are over"),
    ],
)
def test_what_is_over_the_tracks_budget_is_refused(
    quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: dict[str, Any], said: str
) -> None:
    known = load_tracks()
    track = build(Track, [Layer("a test", {**vars(known.tracks[TRACK]), **rules})])
    monkeypatch.setattr("tools.record.__main__.load_tracks", lambda: Tracks(version=1, tracks={TRACK: track}))
    with pytest.raises(BadInput, match=said):
        record(quick, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(quick: Path, tmp_path: Path) -> None:
    there = tmp_path / TRACK / "2026-11-21_Two-tiny-seeds"
    there.mkdir(parents=True)
    record(quick, tmp_path)  # an empty one is taken
    before = file_sha256(there / "manifest.json")
    with pytest.raises(BadInput, match="there is a record already"):
        record(quick, tmp_path)
    assert file_sha256(there / "manifest.json") == before


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError("disk full")])
def test_what_is_cut_short_leaves_no_folder(
    quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Any
) -> None:
    def stopped(*_: Any) -> None:
        raise stop

    monkeypatch.setattr("tools.record.folder.draw_bytes", stopped)
    with pytest.raises((KeyboardInterrupt, OSError)):
        record(quick, tmp_path)
    assert list((tmp_path / TRACK).iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--track", "track_x"], "no track is called track_x"),
        (["--name", "???"], "give it 1 to 80 letters and digits"),
        (["--date", "21.11.2026"], "write it as 2026-11-21"),
        (["--bundle", "absent.py"], "no such file"),
        (["--layout", "contest", "--track", "track_cpu_10min_1mb"], "the contest has no track_cpu_10min_1mb"),
    ],
)
def test_bad_flags_are_refused(quick: Path, tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        record(quick, tmp_path / "out", *words)


def test_a_dataset_that_the_runs_were_not_trained_on_is_refused(quick: Path, jsonl: Path, tmp_path: Path) -> None:
    prep(jsonl, "--vocab", 400, "--val-fraction", 0.3, "--out", tmp_path / "other", "--workers", 1)
    with pytest.raises(BadInput, match="that the runs were trained on; name theirs with --data"):
        record(quick, tmp_path / "out", "--data", str(tmp_path / "other"))


def test_a_bundle_is_taken_where_the_runs_ran_it_and_refused_elsewhere(quick: Path, tmp_path: Path) -> None:
    config = load(RunConfig, quick / "runs" / "seed7" / "config.yaml")
    code: Code = generated(config, False)
    file = tmp_path / "train_gpt.py"
    file.write_bytes(code.data)
    with pytest.raises(BadInput, match="was run from the modules, not from --bundle"):
        record(quick, tmp_path / "out", "--bundle", str(file))
    shutil.copytree(quick / "runs", tmp_path / "runs")
    for seed in SEEDS:  # as if this tree had moved on since
        result = tmp_path / "runs" / f"seed{seed}" / "result.json"
        edited(result, bundle_sha256=code.sha256, sources_sha256="2" * 64)
    made = Path(record(quick, tmp_path / "out", "--bundle", str(file), runs=tmp_path / "runs")["path"])
    assert (made / "train_gpt.py").read_bytes() == code.data
    assert json.loads((made / "manifest.json").read_text())["code"] == {
        "sources": {}, "sources_sha256": "2" * 64, "packed": False,
    }  # fmt: skip
    assert "made by this very `train_gpt.py`" in (made / "README.md").read_text()
    for seed in SEEDS:  # a tree that has not: the file's own sections say what it was made of
        edited(tmp_path / "runs" / f"seed{seed}" / "result.json", sources_sha256=code.sources_sha256)
    made = Path(record(quick, tmp_path / "again", "--bundle", str(file), runs=tmp_path / "runs")["path"])
    assert json.loads((made / "manifest.json").read_text())["code"]["sources"] == code.sources
