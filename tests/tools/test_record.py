"""tools.record end to end on two tiny seeds: what is in the folder, where its numbers come from, what it refuses."""

import contextlib
import hashlib
import json
import re
import shutil
import socket
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from base.cli import run, show_pairs
from base.config import Layer, build, load
from base.errors import BadInput, CheckFailed
from base.files import file_sha256
from data.dataset import open_dataset
from engine.device import Device
from tests.conftest import prep
from tests.test_train import SMALL
from tools.claims.submission import Submission
from tools.claims.tracks import Track, Tracks, load_tracks
from tools.record import act, parser, show
from tools.recording.code import Code, generated
from tools.recording.readme import readme
from tools.recording.runs import read_run
from tools.recording.scoring import Scored, network_is_cut, score_shipped
from train_gpt import RunConfig, whole_run

TRACK = "track_non_record_16mb"
SEEDS = (7, 42)
QUICK = [*SMALL, "train.steps=3", "train.compile=off", "data.path=data"]
Edit = Callable[[Path], None]


@pytest.fixture(scope="session")
def seeds(jsonl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and runs/seed7, runs/seed42; never written to again."""
    root = tmp_path_factory.mktemp("seeds")
    prep(jsonl, "--vocab", 400, "--val-fraction", 0.2, "--out", root / "data", "--workers", 1)
    with contextlib.chdir(root):
        for seed in SEEDS:
            whole_run(load(RunConfig, None, [*QUICK, f"seed={seed}"]), f"seed{seed}", Device(torch.device("cpu")))
    return root


def record(root: Path, out: Path, *words: str, runs: Path | None = None) -> dict[str, Any]:
    folders = [str((runs or root / "runs") / f"seed{seed}") for seed in SEEDS]
    flags = ["--name", "Two tiny seeds", "--date", "2026-11-21", "-o", str(out), "--data", str(root / "data")]
    track = [] if "--track" in words else ["--track", TRACK]
    return act(parser().parse_args([*folders, *flags, *track, *words]))


@pytest.fixture(scope="session")
def made(seeds: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The real thing: packed code, each artifact scored by it in a process of its own."""
    answer = record(seeds, tmp_path_factory.mktemp("out"), "--author", "Ada", "--blurb", "Nothing new.")
    return answer, Path(answer["path"])


@pytest.fixture
def quick(made: tuple[dict[str, Any], Path], seeds: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Further records take the scores that `made` has measured, and code that is quicker to make."""
    results = json.loads((made[1] / "submission.json").read_text())
    known = {
        r["artifact_sha256"]: Scored(
            r["val_bpb"], r["val_loss"], **{k: results["evaluation"][f"val_{k}"] for k in ("tokens", "bytes")},
            **{k: results["evaluation"][k] for k in ("contest_bytes", "stride", "context")}, seconds=r["eval_seconds"],
        )
        for r in results["seed_results"].values()
    }  # fmt: skip
    monkeypatch.setattr("tools.record.score_shipped", lambda code, artifact, data: known[file_sha256(artifact)])
    monkeypatch.setattr("tools.record.generated", lambda config, packed: generated(config, False))
    return seeds


def submission_of(folder: Path) -> Submission:
    values = json.loads((folder / "submission.json").read_text())
    submission: Submission = build(Submission, [Layer("submission.json", values)])
    return submission


def edited(values: Path, **changes: Any) -> None:
    values.write_text(json.dumps({**json.loads(values.read_text()), **changes}))


# -- what is in it --------------------------------------------------------------------------------------------------


def test_a_record_has_every_file_and_the_manifest_has_their_hashes(made: tuple[dict[str, Any], Path]) -> None:
    folder = made[1]
    assert folder.parent.name == TRACK
    assert folder.name == "2026-11-21_Two-tiny-seeds"
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(found.pop("manifest.json").read_text())
    assert set(found) == {
        "README.md", "submission.json", "requirements.txt", "train_gpt.py", "model.golf", "tokenizer.model",
        *(f"train_seed{seed}.log" for seed in SEEDS), *(f"metrics_seed{seed}.jsonl" for seed in SEEDS),
        *(f"figures/{name}.png" for name in ("loss", "bytes", "position")),
        next(name for name in found if re.fullmatch(r"model_seed(7|42)\.golf", name)),
    }  # fmt: skip
    assert manifest["schema"] == "bitgolf-manifest-1"
    assert manifest["files"] == {
        name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for name, path in found.items()
    }
    assert manifest["data"] == json.loads(found["submission.json"].read_text())["data"]
    assert manifest["code"]["packed"] is True
    assert manifest["code"]["sources"]["train_gpt.py"] == file_sha256(Path(__file__).parents[2] / "train_gpt.py")
    assert manifest["environment"]["torch"] == torch.__version__
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing half-written beside it


def test_the_scores_are_the_shipped_files_and_agree_with_the_logs(
    made: tuple[dict[str, Any], Path], seeds: Path
) -> None:
    answer, folder = made
    submission = submission_of(folder)
    assert submission.seeds == SEEDS
    for seed in SEEDS:
        result, said = submission.seed_results[str(seed)], read_run(seeds / "runs" / f"seed{seed}").result
        assert result.val_bpb == pytest.approx(said.packed_bpb, rel=1e-9)
        last = (folder / result.log).read_text().splitlines()[-1]
        assert f"final val_loss:{result.val_loss:.8f} val_bpb:{result.val_bpb:.8f} " in last
        assert file_sha256(folder / result.artifact) == result.artifact_sha256 == said.artifact_sha256
        assert (folder / result.artifact).stat().st_size == result.bytes_model
        assert result.pre_quant_val_bpb == said.val_bpb
        assert result.eval_seconds > 1  # a whole process, torch's import included
    scores = [result.val_bpb for result in submission.seed_results.values()]
    assert answer["val_bpb"] == submission.val_bpb == statistics.fmean(scores)
    assert answer["val_bpb_std"] == submission.val_bpb_std == statistics.stdev(scores)
    dataset = open_dataset(seeds / "data")
    assert submission.evaluation.val_tokens == dataset.manifest.val.tokens - 1
    assert submission.evaluation.val_bytes == dataset.manifest.val.bytes
    assert submission.compliance["scored_without_network"] is network_is_cut()


def test_bytes_are_those_on_disk_and_the_lower_of_two_seeds_is_the_model(made: tuple[dict[str, Any], Path]) -> None:
    folder, submission = made[1], submission_of(made[1])
    artifacts = [path.stat().st_size for path in folder.glob("*.golf")]
    assert submission.bytes_code == (folder / "train_gpt.py").stat().st_size
    assert submission.bytes_model == max(artifacts)
    assert submission.bytes_total == submission.bytes_code + max(artifacts)
    assert submission.bytes_tokenizer == (folder / "tokenizer.model").stat().st_size
    lower = min(submission.seed_results.values(), key=lambda result: result.val_bpb)
    assert lower.artifact == "model.golf"


def test_the_readme_is_the_submission_in_words_and_nothing_else(made: tuple[dict[str, Any], Path]) -> None:
    folder, submission = made[1], submission_of(made[1])
    text = (folder / "README.md").read_text()
    sizes: dict[str, int | None] = {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()
    }
    assert text == readme(submission, sizes | {"README.md": None, "manifest.json": None})
    assert text.startswith(
        f"# Two tiny seeds: {submission.val_bpb:.5f} bits a byte in {submission.bytes_total:,} bytes\n"
    )
    for section in (
        "Results", "What changed", "Architecture", "Quantisation", "Evaluation", "Timing", "Compliance", "Bytes",
        "Reproduce", "Files", "Environment",
    ):  # fmt: skip
        assert f"\n## {section}\n" in text
    assert all(f"| C{n}: " in text for n in (1, 2, 3, 4))
    for link in re.findall(r"\]\(([^)h][^)]*)\)", text):
        assert (folder / link).is_file(), link
    assert str(Path.home()) not in text
    assert "/tmp" not in text


def test_the_requirements_are_the_projects_pins_of_what_the_file_imports(made: tuple[dict[str, Any], Path]) -> None:
    lines = (made[1] / "requirements.txt").read_text().splitlines()
    project = {line.split("#")[0].strip() for line in Path("requirements.txt").read_text().splitlines()}
    assert set(lines) <= project
    names = {line.split("==")[0] for line in lines}
    assert {"torch", "numpy", "pydantic", "pyyaml", "sentencepiece"} <= names
    assert not {"pyarrow", "huggingface_hub", "httpx2"} & names


def test_an_answer_is_one_json_object(quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(quick / "runs" / "seed7"), "--track", TRACK, "--name", "one", "-o", str(tmp_path), "--json"]
    assert run(parser(), act, show, [*words, "--data", str(quick / "data")]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["val_bpb_std"] is None
    assert "one seed" in (Path(answer["path"]) / "README.md").read_text()
    assert show(answer).count("\n") == 3
    assert show_pairs(answer)


# -- how it is scored -----------------------------------------------------------------------------------------------

SPY = """
import json, os, socket, sys
assert sys.flags.isolated and sorted(os.listdir()) == ["model.golf", "train_gpt.py"], os.listdir()
assert sys.argv[1:3] == ["--score", "model.golf"] and sys.argv[-1] == "--json"
{more}
print(json.dumps(dict(bpb=1.0, nats_per_token=2.0, tokens=3, bytes=4, contest_bytes=5, stride=6, context=7,
                      partial={partial}, coverage=1.0)))
"""


def spied(tmp_path: Path, more: str = "", partial: bool = False) -> Scored:
    artifact = tmp_path / "any.golf"
    artifact.write_bytes(b"artifact")
    return score_shipped(SPY.format(more=more, partial=partial).encode(), artifact, tmp_path)


def test_the_file_scores_alone_isolated_in_a_directory_with_nothing_else(tmp_path: Path) -> None:
    assert spied(tmp_path)[:-1] == (1.0, 2.0, 3, 4, 5, 6, 7)


@pytest.mark.skipif(not network_is_cut(), reason="this kernel gives no network namespace to a user")
def test_the_file_scores_without_a_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(CheckFailed, match="exit code 1"):
        spied(tmp_path, f"socket.create_connection({server.getsockname()}, 2)")


def test_a_part_of_the_text_is_no_score(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="a record has them all"):
        spied(tmp_path, partial=True)


# -- what it refuses ------------------------------------------------------------------------------------------------


def other_config(runs: Path) -> None:
    path = runs / "seed42" / "config.yaml"
    path.write_text(path.read_text().replace("batch_tokens: 256", "batch_tokens: 512"))


def other_source(runs: Path) -> None:
    edited(runs / "seed42" / "result.json", sources={"train_gpt.py": "0" * 64})


def other_tree(runs: Path) -> None:
    for seed in SEEDS:
        edited(runs / f"seed{seed}" / "result.json", sources={"train_gpt.py": "0" * 64})


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


def no_json(runs: Path) -> None:
    (runs / "seed42" / "result.json").write_text("[")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (other_config, r"train\.batch_tokens is 256 in one and 512 in the other; only the seed may differ"),
        (other_source, "different code, .* or give --rerun"),
        (other_tree, "its code is not this tree's, .* --bundle FILE, or train again with --rerun"),
        (same_seed, "both are seed 7; a seed counts once"),
        (changed_artifact, "is not the .* that the run packed"),
        (removed("result.json"), r"not finished \(no result.json\)"),
        (removed("config.yaml"), r"not a run \(no config.yaml\)"),
        (removed("metrics.jsonl"), "the run's own file is missing"),
        (older_result, "does not say calibration_seconds; this train_gpt.py would"),
        (other_data, "data_sha256 .* trained on different data"),
        (no_json, "not a run's result"),
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
    monkeypatch.setattr("tools.record.load_tracks", lambda: Tracks(version=1, tracks={TRACK: track}))
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

    monkeypatch.setattr("tools.recording.folder.draw_bytes", stopped)
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
        edited(result, bundle_sha256=code.sha256, sources={"train_gpt.py": "2" * 64})
    made = Path(record(quick, tmp_path / "out", "--bundle", str(file), runs=tmp_path / "runs")["path"])
    assert (made / "train_gpt.py").read_bytes() == code.data
    assert json.loads((made / "manifest.json").read_text())["code"] == {
        "sources": {"train_gpt.py": "2" * 64}, "packed": False,
    }  # fmt: skip
    assert "made by this very `train_gpt.py`" in (made / "README.md").read_text()


# -- the contest's layout, and training again -----------------------------------------------------------------------


def test_the_contests_layout_has_its_keys_and_the_pull_request_beside_it(quick: Path, tmp_path: Path) -> None:
    words = ["--layout", "contest", "--track", "track_10min_16mb", "--against", "9.5", "9.6"]
    answer = record(quick, tmp_path, *words)
    folder = Path(answer["path"])
    assert folder.relative_to(tmp_path).as_posix() == (
        "2026-11-21_Two-tiny-seeds/records/track_10min_16mb/2026-11-21_Two-tiny-seeds"
    )
    values = json.loads((folder / "submission.json").read_text())
    assert set(values) >= {
        "author", "github_id", "name", "blurb", "date", "track", "val_loss", "val_bpb", "val_bpb_std", "seeds",
        "seed_results", "bytes_total", "bytes_code", "hardware", "pytorch_version", "compliance",
    }  # fmt: skip
    assert values["track"] == "10min_16mb"
    assert set(values["seed_results"]["7"]) >= {"val_loss", "val_bpb", "artifact_bytes", "steps"}
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "submission.json", "requirements.txt", "train_gpt.py", "model.golf", "tokenizer.model", "figures",
        "train_seed7.log", "train_seed42.log",
    }  # fmt: skip
    request = Path(answer["pull_request"]).read_text()
    assert Path(answer["pull_request"]).parent == tmp_path / folder.name
    assert request.splitlines()[0] == f"Draft: Two tiny seeds (val_bpb: {values['val_bpb']:.4f}, 2-seed mean)"
    assert [miss.split(":")[0] for miss in answer["missing"] if not miss.startswith(("network", "significance"))] == [
        "who and what", "hardware", "data", "seeds",
    ]  # fmt: skip
    assert all(f"- {miss}" in request for miss in answer["missing"])


def test_the_contests_code_is_readable_where_that_fits_and_packed_elsewhere(
    quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[bool]()

    def sized(config: RunConfig, packed: bool) -> Code:
        asked.append(packed)
        code = generated(config, False)
        return code if packed else Code(code.data + b"\n" * 16_000_000, code.sources)

    monkeypatch.setattr("tools.record.generated", sized)
    record(quick, tmp_path, "--layout", "contest")
    assert asked == [False, True]


def test_rerun_records_what_the_single_file_trains(
    seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.record.RERUNS", tmp_path / "runs")
    shutil.copytree(seeds / "runs" / "seed7", tmp_path / "old")
    edited(tmp_path / "old" / "result.json", sources={"train_gpt.py": "3" * 64})  # the tree has moved on: no matter
    flags = ["--name", "again", "--date", "2026-11-21", "-o", str(tmp_path / "out"), "--data", str(seeds / "data")]
    words = [str(tmp_path / "old"), "--track", TRACK, "--readable", "--rerun", *flags]
    folder = Path(act(parser().parse_args(words))["path"])
    submission, before = submission_of(folder), read_run(seeds / "runs" / "seed7").result
    assert submission.notes["code"]["trained"] == "this file"
    assert submission.seed_results["7"].artifact_sha256 == file_sha256(folder / "model.golf")
    assert submission.val_bpb == pytest.approx(before.packed_bpb, rel=1e-3)  # the same steps, from the same seed
    assert "seed: 7" in (folder / "train_seed7.log").read_text()
