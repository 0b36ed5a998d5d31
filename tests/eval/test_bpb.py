"""eval.bpb: the command's number is the definition's, however it is cut; bad input is one line."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.dataset import Dataset
from eval import bpb
from eval.score import score_artifact
from quant.unpack import open_artifact
from tests.conftest import prep
from tests.eval.tiny import packed
from tests.runs import CPU, ROOT, printed, refusal

CONTEXT, STRIDE = 24, 8


@pytest.fixture
def artifact(dataset: Dataset, tmp_path: Path) -> Path:
    return packed(dataset, tmp_path / "runs" / "r" / "model.golf")


def score(*words: object) -> dict[str, Any]:
    return bpb.act(bpb.parser().parse_args([str(word) for word in words]))


@torch.no_grad()
def loss_by_loss(path: Path, tokens: np.ndarray, context: int, stride: int, begins: list[int]) -> np.ndarray:
    """Every target from a forward of its own: its window begins as late as the stride allows, within its document."""
    model, nats = open_artifact(path).model.double(), []
    for target in range(len(tokens) - 1):
        begin = max(b for b in begins if b <= target)
        inside = target - begin
        start = begin + max(0, math.ceil((inside + 1 - context) / stride)) * stride
        logits = model(torch.from_numpy(tokens[None, start : target + 1].astype(np.int64)))[0, -1]
        nats.append(float(F.cross_entropy(logits, torch.tensor(int(tokens[target + 1])))))
    return np.array(nats)


@pytest.mark.parametrize("docs", [False, True])
def test_the_score_is_the_definition_written_out(dataset: Dataset, artifact: Path, tmp_path: Path, docs: bool) -> None:
    limit = 700
    tokens = dataset.val.read(0, limit + 1)
    begins = np.flatnonzero(tokens == dataset.tokenizer.bos_id).tolist() if docs else [0]
    expected = loss_by_loss(artifact, tokens, CONTEXT, STRIDE, begins)
    answer = score(artifact, "--limit", limit, "--dump", tmp_path / "d.npz", *["--docs"] * docs)
    size = int(dataset.table.exact_bytes(tokens[1:]).sum())
    assert answer["bpb"] == pytest.approx(expected.sum() / math.log(2) / size, rel=1e-6)
    assert (answer["tokens"], answer["bytes"], answer["partial"]) == (limit, size, True)
    assert answer["coverage"] == limit / (len(dataset.val) - 1)
    dump = np.load(tmp_path / "d.npz")
    assert dump["nats"].dtype == np.float64
    np.testing.assert_allclose(dump["nats"], expected, rtol=1e-4)
    np.testing.assert_array_equal(dump["token"], tokens[1:])
    assert dump["bytes"].sum() == size
    if docs:
        assert len(begins) >= 3
        assert dump["document"].tolist() == [sum(b <= t for b in begins) - 1 for t in range(limit)]
        first = dump["position_in_document"] < CONTEXT
        np.testing.assert_array_equal(dump["position_in_window"][first], dump["position_in_document"][first])


def test_a_complete_score_is_kept_beside_it(dataset: Dataset, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(artifact.parents[2])
    out, err = printed("eval.bpb", "--plot", artifact.with_suffix(".png"), "--json")  # with its own data and protocol
    answer = json.loads(out)
    assert "taking the newest" in err
    assert json.loads((artifact.parent / "score.json").read_text()) == answer
    assert answer["coverage"] == 1.0
    assert not answer["partial"]
    assert (answer["context"], answer["stride"]) == (CONTEXT, STRIDE)
    assert answer["tokens"] == len(dataset.val) - 1
    assert answer["bytes"] == dataset.manifest.side("val").bytes
    assert answer["data_sha256"] == dataset.manifest.data_sha256("val")
    assert answer["documents"] == dataset.manifest.side("val").documents
    assert artifact.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    by_documents = score(artifact, "--docs", "-o", artifact.parent / "docs.json")
    assert (by_documents["tokens"], by_documents["coverage"]) == (answer["tokens"], 1.0)
    assert score(artifact, "--limit", 10**9)["partial"] is False


@pytest.mark.slow
def test_ranks_answer_as_one_process_does(dataset: Dataset, artifact: Path, tmp_path: Path) -> None:
    alone = score(artifact, "--docs", "--dump", tmp_path / "one.npz")
    words = ["-m", "eval.bpb", artifact, "--docs", "--dump", tmp_path / "two.npz", "--json"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*torchrun, *map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    assert together["bpb"] == pytest.approx(alone["bpb"], rel=1e-7)
    for key in ("tokens", "bytes", "contest_bytes", "coverage", "artifact_sha256", "data_sha256"):
        assert together[key] == alone[key]
    one, two = (np.load(tmp_path / name) for name in ("one.npz", "two.npz"))
    np.testing.assert_allclose(one["nats"], two["nats"], rtol=1e-4)


def test_bad_input_is_refused_in_one_line(dataset: Dataset, artifact: Path, jsonl: Path, tmp_path: Path) -> None:
    for wrong in (0, CONTEXT + 1):
        assert f"use 1 to {CONTEXT}" in refusal("eval.bpb", artifact, "--stride", wrong)
        assert f"a context of 1 to {CONTEXT}" in refusal("eval.bpb", artifact, "--context", wrong)
    assert "choose one" in refusal("eval.bpb", artifact, "--adapt", "mix", "--docs")
    assert "--limit 0" in refusal("eval.bpb", artifact, "--limit", 0)
    prep(jsonl, "--vocab", 390, "--val-fraction", 0.2, "--out", tmp_path / "other", "--workers", 1)
    assert "is not the artifact's" in refusal("eval.bpb", artifact, "--data", tmp_path / "other")
    for flag in ("-o", "--dump", "--plot"):
        assert "its folder does not exist" in refusal("eval.bpb", artifact, flag, tmp_path / "none" / "f")
    assert not (artifact.parent / "score.json").exists()


def test_a_context_may_be_as_long_as_yarn_stretches_it(dataset: Dataset, tmp_path: Path) -> None:
    endless = packed(dataset, tmp_path / "endless.golf", "model.pos=none")
    assert score(endless, "--context", 500, "--limit", 300)["context"] == 500
    path = packed(dataset, tmp_path / "yarn.golf", "model.yarn_factor=4", "model.yarn_original=32")
    assert score(path, "--context", 128, "--limit", 300)["context"] == 128


@pytest.mark.parametrize("how", ["mix", "lora"])
def test_the_answer_has_what_adapting_gains_and_costs(artifact: Path, how: str) -> None:
    plain = score(artifact, "--limit", 300, "--adapt", "off", *(["--docs"] if how == "lora" else []))
    answer = score(artifact, "--limit", 300, "--adapt", how)
    assert (plain["adapt"], answer["docs"]) == ("off", how == "lora")
    assert (answer["adapt"], answer["tokens"], answer["partial"]) == (how, 300, True)
    assert answer["plain_bpb"] == pytest.approx(plain["bpb"], rel=1e-6)
    assert answer["gain"] == pytest.approx(1 - answer["bpb"] / plain["bpb"], rel=1e-4)
    assert answer["bpb"] < plain["bpb"]


@pytest.mark.parametrize("how", ["off", "lora", "mix"])
def test_an_artifact_is_scored_in_the_precision_that_it_names(dataset: Dataset, tmp_path: Path, how: str) -> None:
    path = packed(dataset, tmp_path / "model.golf", "eval.precision=bf16", f"eval.adapt.kind={how}")
    own, other = score(path, "--limit", 300), score(path, "--limit", 300, "--precision", "fp32")
    assert (own["precision"], other["precision"]) == ("bf16", "fp32")
    assert score_artifact(path, None, 300, CPU)[1]["bpb"] == own["bpb"] != other["bpb"]
    assert own["bpb"] == pytest.approx(other["bpb"], rel=2e-3)


def test_an_artifact_is_scored_as_its_run_adapted(dataset: Dataset, tmp_path: Path) -> None:
    path = packed(dataset, tmp_path / "model.golf", "eval.adapt.kind=mix", "eval.adapt.table_bits=14")
    own, plain = score(path, "--limit", 300), score(path, "--limit", 300, "--adapt", "off")
    assert (own["adapt"], own["streams"], plain["adapt"]) == ("mix", 1, "off")
    assert own["plain_bpb"] == pytest.approx(plain["bpb"], rel=1e-6)
    assert own["bpb"] < plain["bpb"]
    halves = score(path, "--limit", 300, "--streams", 2)
    assert (halves["adapt"], halves["streams"]) == ("mix", 2)
    assert own["bpb"] < halves["bpb"]
    assert "streams: 0: input should be greater" in refusal("eval.bpb", path, "--streams", 0)
    assert "add --adapt mix" in refusal("eval.bpb", path, "--adapt", "off", "--streams", 2)
    assert "add --adapt mix" in refusal("eval.bpb", path, "--adapt", "lora", "--table-bits", 12)
