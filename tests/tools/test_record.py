"""tools.record end to end on tiny runs: what is in the folder, where its numbers come from, what is refused."""

import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from base.config import Layer, build
from base.errors import BadInput, CheckFailed
from base.files import file_sha256
from base.source import sources_sha256
from tests.records import SEEDS, TRACK, accusations, check, edit_result, make_record
from tests.runs import ROOT
from tools.record.__main__ import act, parser
from tools.record.page import page
from tools.record.rows import read_submission
from tools.record.schema import Submission, Track, Tracks, load_tracks
from tools.record.shipping import requirements, score_shipped
from tools.verify.sandbox import is_network_cut
from tools.verify.verdict import Finding, Level, verdict

# -- what is in it --------------------------------------------------------------------------------------------------


def test_a_record_has_its_evidence_and_what_is_computed_from_it(record: Path) -> None:
    assert (record.parent.name, record.name) == (TRACK, "2026-11-21_Tiny-seeds")
    found = {path.relative_to(record).as_posix() for path in record.rglob("*") if path.is_file()}
    kinds = ("train_seed{}.log", "metrics_seed{}.jsonl", "result_seed{}.json", "nats_seed{}.npy")
    claim = read_submission(record)
    others = {f"model_seed{seed}.golf" for seed in SEEDS if seed != claim.median_seed}
    assert found == {
        "README.md", "submission.json", "manifest.json", "evidence.json", "requirements.txt", "train_gpt.py",
        "model.golf", "tokenizer.model", "figures/loss.png", "figures/bytes.png", "figures/position.png",
        *(kind.format(seed) for kind in kinds for seed in SEEDS), *others,
    }  # fmt: skip
    manifest = json.loads((record / "manifest.json").read_text())
    assert manifest["files"] == {
        name: {"sha256": file_sha256(record / name), "bytes": (record / name).stat().st_size}
        for name in found - {"manifest.json"}
    }
    assert [path.name for path in record.parent.iterdir()] == [record.name]  # nothing half-written beside it


def test_its_scores_are_those_of_its_runs_and_its_page_has_them(record: Path, seeds: Path) -> None:
    claim = read_submission(record)
    for seed in SEEDS:
        result = json.loads((seeds / "runs" / f"seed{seed}" / "result.json").read_text())
        assert claim.seed_results[str(seed)].val_bpb == pytest.approx(result["val_bpb"], rel=1e-9)
        assert claim.seed_results[str(seed)].artifact_sha256 == result["artifact_sha256"]
    assert claim.code.sources_sha256 == sources_sha256()
    assert claim.data.name == "texts-400"
    text = (record / "README.md").read_text()
    assert text == page(claim)
    assert text.startswith(f"# Tiny seeds: {claim.val_bpb:.5f} bits per byte in {claim.bytes_total:,} bytes\n")
    for link in re.findall(r"\]\(([^)h][^)]*)\)", text):
        assert (record / link).is_file(), link
    assert "/tmp" not in text


def test_requirements_are_the_projects_pins_of_what_the_file_imports(record: Path) -> None:
    lines = (record / "requirements.txt").read_text().splitlines()
    pins = {line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()}
    assert set(lines) <= pins
    names = {line.split("==")[0] for line in lines}
    assert {"torch", "numpy", "pydantic", "pyyaml", "sentencepiece"} <= names
    assert not {"pyarrow", "huggingface_hub", "scipy"} & names
    assert requirements((record / "train_gpt.py").read_bytes()) == "".join(f"{line}\n" for line in lines)


@pytest.mark.slow
def test_the_single_file_scores_and_the_record_verifies(seeds: Path, tmp_path: Path) -> None:
    """The real thing: packed code, the artifact scored by it in a process of its own."""
    words = [str(seeds / "runs" / "seed7"), "--track", "track_non_record_16mb", "--name", "one"]
    answer = act(parser().parse_args([*words, "-o", str(tmp_path), "--data", str(seeds / "data")]))
    claim = read_submission(Path(answer["path"]))
    result = json.loads((seeds / "runs" / "seed7" / "result.json").read_text())
    assert claim.val_bpb == pytest.approx(result["val_bpb"], rel=1e-9)
    assert claim.seed_results["7"].eval_seconds > 1  # a complete process, torch's import included
    assert claim.compliance["scored_without_network"] is is_network_cut()
    assert set(accusations(check(Path(answer["path"])))) <= {"claim.compliance"}
    code = (Path(answer["path"]) / "train_gpt.py").read_bytes()
    alone, together = (score_shipped(code, Path(result["artifact"]), seeds / "data", ranks)[0] for ranks in (1, 2))
    np.testing.assert_allclose(together, alone, rtol=1e-9)


# -- how it is scored -----------------------------------------------------------------------------------------------

SPY = """
import json, os, socket, sys
import numpy as np
assert sys.flags.isolated and sorted(os.listdir()) == ["model.golf", "train_gpt.py"], os.listdir()
assert sys.argv[1:3] == ["--score", "model.golf"] and sys.argv[-1] == "--json"
{more}
np.save(sys.argv[sys.argv.index("--nats") + 1], np.array([1.0, 2.0]))
print(json.dumps(dict(partial={partial}, coverage=0.5)))
"""


def spy(tmp_path: Path, more: str = "", partial: bool = False) -> list[float]:
    artifact = tmp_path / "any.golf"
    artifact.write_bytes(b"artifact")
    nats, _ = score_shipped(SPY.format(more=more, partial=partial).encode(), artifact, tmp_path, 1)
    return nats.tolist()


def test_the_file_scores_all_of_the_text_alone_in_an_isolated_folder(tmp_path: Path) -> None:
    assert spy(tmp_path) == [1.0, 2.0]
    with pytest.raises(CheckFailed, match="a record needs all"):
        spy(tmp_path, partial=True)


@pytest.mark.skipif(not is_network_cut(), reason="this kernel gives no network namespace to a user")
def test_the_file_scores_without_a_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(CheckFailed, match="exit code 1"):
        spy(tmp_path, f"socket.create_connection({server.getsockname()}, 2)")


# -- what is refused ------------------------------------------------------------------------------------------------

Edit = Callable[[Path], Any]


def of_42(**changed: Any) -> Edit:
    return lambda runs: edit_result(runs / "seed42" / "result.json", **changed)


def other_config(runs: Path) -> None:
    path = runs / "seed42" / "config.yaml"
    path.write_text(path.read_text().replace("batch_tokens: 256", "batch_tokens: 512"))


def other_tree(runs: Path) -> None:
    for seed in SEEDS:
        edit_result(runs / f"seed{seed}" / "result.json", sources_sha256="0" * 64)


def same_seed(runs: Path) -> None:
    shutil.rmtree(runs / "seed42")
    shutil.copytree(runs / "seed7", runs / "seed42")


def changed_artifact(runs: Path) -> None:
    path = runs / "seed42" / "model.golf"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def removed(name: str) -> Edit:
    return lambda runs: (runs / "seed42" / name).unlink()


REFUSED: list[tuple[Edit, str]] = [
    (other_config, r"differ in train\.batch_tokens; only the seed may differ"),
    (of_42(sources_sha256="0" * 64), "sources_sha256 .* train both again with the same"),
    (of_42(data_sha256="1" * 64), "data_sha256 .* train both again"),
    (other_tree, "are not this tree's .* with --bundle FILE"),
    (same_seed, "both are seed 7; a seed counts once"),
    (changed_artifact, "is not the artifact that the run packed"),
    (removed("result.json"), r"not finished \(no result.json\)"),
    (removed("metrics.jsonl"), "metrics.jsonl: is missing; a record needs it"),
    (removed("config.yaml"), r"not a run \(no config.yaml\)"),
    (lambda runs: (runs / "seed42" / "result.json").write_text("{}"), "lacks run, params"),
]


def test_runs_that_cannot_be_one_record_are_refused(quick: Path, tmp_path: Path) -> None:
    for number, (edit, message) in enumerate(REFUSED):
        runs = shutil.copytree(quick / "runs", tmp_path / str(number))
        edit(runs)
        with pytest.raises(BadInput, match=message):
            make_record(quick, tmp_path / "out", runs=runs)
    assert not (tmp_path / "out").exists()


def test_the_file_that_the_runs_ran_is_shipped(quick: Path, record: Path, tmp_path: Path) -> None:
    code = record / "train_gpt.py"
    with pytest.raises(BadInput, match="did not run the --bundle file"):
        make_record(quick, tmp_path / "out", "--bundle", str(code))
    shutil.copytree(quick / "runs", tmp_path / "runs")
    for seed in SEEDS:
        edit_result(tmp_path / "runs" / f"seed{seed}" / "result.json", bundle_sha256=file_sha256(code))
    folder = Path(make_record(quick, tmp_path / "out", "--bundle", str(code), runs=tmp_path / "runs")["path"])
    assert read_submission(folder).code.trained
    assert (folder / "train_gpt.py").read_bytes() == code.read_bytes()


def test_a_score_that_is_not_the_runs_own_is_refused_and_leaves_nothing(quick: Path, tmp_path: Path) -> None:
    shutil.copytree(quick / "runs", tmp_path / "runs")
    of_42(val_bpb=lambda bpb: bpb * (1 + 2e-6))(tmp_path / "runs")
    with pytest.raises(CheckFailed, match="not within 1e-06"):
        make_record(quick, tmp_path / "out", runs=tmp_path / "runs")
    assert not list((tmp_path / "out" / TRACK).iterdir())


def test_what_is_over_the_cap_is_refused(quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track = build(Track, [Layer("a test", {**vars(load_tracks().tracks[TRACK]), "cap_bytes": 1000})])
    monkeypatch.setattr("tools.record.__main__.load_tracks", lambda: Tracks(version=1, tracks={TRACK: track}))
    with pytest.raises(BadInput, match=f"over the 1,000 of {TRACK}"):
        make_record(quick, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(quick: Path, tmp_path: Path) -> None:
    target = tmp_path / TRACK / "2026-11-21_Tiny-seeds"
    target.mkdir(parents=True)
    make_record(quick, tmp_path)  # an empty one is taken
    before = file_sha256(target / "manifest.json")
    with pytest.raises(BadInput, match="is there already"):
        make_record(quick, tmp_path)
    assert file_sha256(target / "manifest.json") == before


def test_bad_flags_are_refused(quick: Path, tmp_path: Path) -> None:
    for flag, value, message in (
        ("--track", "track_x", "no track is called track_x"),
        ("--name", "???", "give it 1 to 80 letters and digits"),
        ("--date", "21.11.2026", "write it as 2026-11-21"),
        ("--bundle", "absent.py", "no such file"),
        ("--bundle", __file__, "not a single file that tools.bundle made"),
        ("--layout", "contest", f"the contest has no {TRACK}"),
    ):
        with pytest.raises(BadInput, match=message):
            make_record(quick, tmp_path / "out", flag, value)


# -- the contest's layout -------------------------------------------------------------------------------------------


def test_the_contests_layout_has_its_keys_and_the_pull_request_beside_it(quick: Path, tmp_path: Path) -> None:
    words = ["--layout", "contest", "--track", "track_10min_16mb", "--against", "9.5", "9.6"]
    answer = make_record(quick, tmp_path, *words)
    folder = Path(answer["path"])
    assert folder.relative_to(tmp_path).as_posix() == (
        "2026-11-21_Tiny-seeds/records/track_10min_16mb/2026-11-21_Tiny-seeds"
    )
    values = json.loads((folder / "submission.json").read_text())
    assert values["track"] == "10min_16mb"
    assert set(values["seed_results"]["7"]) >= {"val_loss", "val_bpb", "artifact_bytes", "steps"}
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "submission.json", "requirements.txt", "train_gpt.py", "model.golf", "tokenizer.model", "figures",
        *(f"train_seed{seed}.log" for seed in SEEDS),
    }  # fmt: skip
    request = Path(answer["pull_request"]).read_text()
    assert request.splitlines()[0] == f"Draft: Tiny seeds (val_bpb: {values['val_bpb']:.4f}, 3-seed mean)"
    assert [miss.split(":")[0] for miss in answer["missing"]] == ["who and what", "hardware", "data"]
    assert all(f"- {miss}" in request for miss in answer["missing"])


# -- names, schema, verdicts ----------------------------------------------------------------------------------------


def test_the_published_schema_is_the_one_of_the_code() -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(Submission).json_schema()}
    assert json.loads((ROOT / "records" / "schema.json").read_text()) == schema


def test_the_worst_finding_decides() -> None:
    levels: list[Level] = ["invalid", "unverified", "flag", "note"]
    findings = [Finding("a.b", level, "found") for level in levels]
    found = [verdict(findings[at:]) for at in range(5)]
    assert found == ["invalid", "unverified", "flagged", "valid", "valid"]
