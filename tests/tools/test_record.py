"""tools.record end to end on two tiny seeds: what is in the folder, and where its numbers come from."""

import hashlib
import json
import re
import socket
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from base.cli import run, show_pairs
from base.config import Layer, build
from base.errors import CheckFailed
from base.files import file_sha256
from base.source import hash_of
from data.dataset import open_dataset
from tests.tools.conftest import SEEDS, TRACK, record
from tools.record.__main__ import act, parser, show
from tools.record.code import Code, generated
from tools.record.page import readme
from tools.record.runs import read_run
from tools.record.schema import Submission
from tools.record.scoring import Scored, score_shipped
from tools.verify.measured_box import network_is_cut
from train_gpt import RunConfig


@pytest.fixture(scope="session")
def made(seeds: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The real thing: packed code, each artifact scored by it in a process of its own."""
    answer = record(seeds, tmp_path_factory.mktemp("out"), "--author", "Ada", "--blurb", "Nothing new.")
    return answer, Path(answer["path"])


def submission_of(folder: Path) -> Submission:
    values = json.loads((folder / "submission.json").read_text())
    submission: Submission = build(Submission, [Layer("submission.json", values)])
    return submission


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
    assert manifest["code"]["sources_sha256"] == hash_of(manifest["code"]["sources"])
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


# -- the contest's layout -----------------------------------------------------------------------


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
        return code if packed else Code(code.data + b"\n" * 16_000_000, code.sources, code.sources_sha256)

    monkeypatch.setattr("tools.record.__main__.generated", sized)
    record(quick, tmp_path, "--layout", "contest")
    assert asked == [False, True]
