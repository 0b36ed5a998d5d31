"""`python -m eval.probe`: a small artifact and a child process, the table, the object, the exit codes."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from base.cli import run
from data.dataset import Dataset, open_dataset
from eval.probe import NAMES, act, parser, show
from model.config import ModelConfig
from model.gpt import GPT
from quant.config import QuantConfig
from quant.packer import Packer
from tests.conftest import make_text, prep

CHILD = f"{sys.executable} {Path(__file__).parent / 'example_child.py'}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("probe")
    texts = [make_text(seed, 120) for seed in range(80)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    prep(folder / "text.jsonl", "--vocab", 400, "--val-fraction", 0.4, "--out", folder / "data", "--workers", 1)
    return open_dataset(folder / "data")


@pytest.fixture(scope="module")
def artifact(data: Dataset) -> Path:
    model = {"vocab_size": 400, "layers": 1, "dim": 16, "heads": 2, "kv_heads": 1}
    sections = {"stride": 16, "context": 0, "batch_tokens": 4096}
    config = {"model": model, "data": {"path": str(data.path)}, "train": {"seq_len": 48}, "eval": sections}
    path = data.path.parent / "model.golf"
    path.write_bytes(Packer(GPT(ModelConfig(**model)), config, data).pack(QuantConfig()).data)
    return path


@pytest.fixture(scope="module")
def fresh(data: Dataset) -> Path:
    path = data.path.parent / "fresh.jsonl"
    path.write_text("".join(json.dumps({"text": make_text(seed, 120)}) + "\n" for seed in range(1000, 1030)))
    return path


def main(*words: object) -> int:
    return run(parser(), act, show, [str(word) for word in words])


def probe(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> tuple[str, str]:
    assert main(*words, "--seed", 1, "--tokens", 256, "--coins", 32) == code
    said = capsys.readouterr()
    return said.out, said.err


def answer(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)
    return found


def test_an_honest_artifact_passes_all(artifact: Path, fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(probe(capsys, 0, artifact, "--fresh", fresh, "--json")[0])
    assert found["passed"]
    assert list(found["probes"]) == list(NAMES)
    assert all(each["passed"] is True for each in found["probes"].values())


def test_without_fresh_text_that_probe_is_not_run_and_says_why(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = probe(capsys, 0, artifact, "--only", "fresh", "coverage")
    assert "coverage    passed" in out
    assert "fresh       not run" in out
    assert "no --fresh FILE" in out
    found = answer(probe(capsys, 0, artifact, "--only", "fresh", "--json")[0])
    assert found["probes"]["fresh"]["passed"] is None


def test_fresh_text_that_is_on_a_side_of_the_dataset_is_refused(
    artifact: Path, data: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    known = data.path.parent / "text.jsonl"
    _, err = probe(capsys, 2, artifact, "--fresh", known, "--only", "fresh")
    assert "is not fresh, it is train document" in err


@pytest.mark.parametrize("form", ["scorer", "predictor"])
def test_a_child_is_probed_and_its_false_byte_count_found(
    form: str, data: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--command", f"{CHILD} {form} 400", "--data", data.path]
    out, err = probe(capsys, 1 if form == "scorer" else 0, *command, "--json", "--only", *(set(NAMES) - {"fresh"}))
    found = answer(out)
    failed = {name for name, each in found["probes"].items() if each["passed"] is False}
    assert failed == ({"bytes"} if form == "scorer" else set())  # it counts one byte a token; in turns, it is not asked
    if failed:
        assert not found["passed"]
        assert "eval.probe: bytes: a text of odd characters:" in err


def test_bad_requests_end_with_one_line(artifact: Path, data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    for code, words, said in (
        (2, ["--command", f"{CHILD} scorer 400"], "--data DIR"),
        (2, [artifact, "--data", "nowhere"], "not a dataset"),
        (2, ["--command", f"{CHILD} scorer 400", "--data", data.path, "--adapt", "mix"], "takes the place of"),
        (2, [artifact, "--limit", "inf"], "at most 86400 seconds"),
        (2, [artifact, "--tolerance", "0"], "above 0 nats"),
        (1, ["--command", f"{CHILD} scorer 300", "--data", data.path], "knows 300 tokens, the dataset 400"),
    ):
        out, err = probe(capsys, code, *words)
        assert not out
        assert said in err
        assert "Traceback" not in err
    assert main(artifact, "--seed", "-1") == 2
    assert "--seed -1: a whole number" in capsys.readouterr().err
    assert main(artifact, "--tokens", "99999999") == 2
    assert "too few for a sample" in capsys.readouterr().err
