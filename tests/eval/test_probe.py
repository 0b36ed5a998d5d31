"""`python -m eval.probe`: a small artifact and a Python scorer, the table, the JSON, the exit codes."""

import json
from pathlib import Path

import pytest

from data.dataset import Dataset, open_dataset
from eval.probe import NAMES
from tests.conftest import make_text, prep
from tests.eval.tiny import packed
from tests.runs import printed, refusal, write_texts

PROTOCOL = ("train.seq_len=48", "eval.stride=16")
CHEATER = ["--scorer", "tests.eval.cheaters:count_leading_spaces_twice"]


def write_text(path: Path, seeds: range) -> Path:
    return write_texts(path, [make_text(seed, 120) for seed in seeds])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("probe")
    text = write_text(folder / "text.jsonl", range(80))
    prep(text, "--vocab", 400, "--val-fraction", 0.4, "--out", folder / "data", "--workers", 1)
    return open_dataset(folder / "data")


@pytest.fixture(scope="module")
def artifact(data: Dataset) -> Path:
    return packed(data, data.path.parent / "model.golf", *PROTOCOL)


def probe(code: int, *words: object) -> tuple[str, str]:
    return printed("eval.probe", *words, "--seed", 1, "--tokens", 256, "--coins", 32, code=code)


@pytest.mark.parametrize("canonical", ["false", "true"])
def test_an_honest_artifact_passes_every_probe(canonical: str, data: Dataset, tmp_path: Path) -> None:
    artifact = packed(data, tmp_path / "model.golf", *PROTOCOL, f"model.canonical={canonical}")
    fresh = write_text(artifact.with_name("fresh.jsonl"), range(1000, 1030))
    found = json.loads(probe(0, artifact, "--fresh", fresh, "--json")[0])
    assert found["passed"]
    assert list(found["probes"]) == list(NAMES)
    assert all(each["passed"] is True for each in found["probes"].values())


def test_fresh_text_may_be_missing_and_must_not_be_of_the_dataset(artifact: Path, data: Dataset) -> None:
    out, _ = probe(0, artifact, "--only", "fresh", "coverage")
    assert "coverage    passed" in out
    assert "fresh       not run" in out
    assert "no --fresh FILE" in out
    _, err = probe(2, artifact, "--fresh", data.path.parent / "text.jsonl", "--only", "fresh")
    assert "is not fresh, it is train document" in err


def test_a_python_scorer_is_probed_and_its_wrong_byte_count_found(data: Dataset) -> None:
    out, err = probe(1, *CHEATER, "--data", data.path, "--json")
    found = json.loads(out)
    assert not found["passed"]
    assert {name for name, each in found["probes"].items() if each["passed"] is False} == {"bytes"}
    assert found["probes"]["bytes"].keys() >= {"passed", "detail", "evidence", "seconds"}
    assert "eval.probe: bytes: a text of unusual characters:" in err


def test_bad_requests_end_with_one_line(artifact: Path, data: Dataset) -> None:
    for words, message in (
        (CHEATER, "--data DIR"),
        ([*CHEATER, "--data", data.path, "--adapt", "mix"], "takes the place of"),
        (["--scorer", "tests.eval.cheaters", "--data", data.path], "name MODULE:FACTORY"),
        (["--scorer", "no.such:thing", "--data", data.path], "No module named 'no'"),
        (["--scorer", "builtins:id", "--data", data.path], "has no score()"),
        ([artifact, "--coins", "31"], "use at least 32"),
        ([artifact, "--tokens", "99999999"], "too few, or too much alike, for a sample"),
    ):
        assert message in refusal("eval.probe", *words)
