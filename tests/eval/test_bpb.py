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
from eval.batches import Losses, window_losses
from eval.metric import Score
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


def on_two_ranks(*words: object) -> "subprocess.CompletedProcess[str]":
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*torchrun, *map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--docs"], ["--adapt", "lora", "--limit", "700"]])
def test_ranks_answer_as_one_process_does(dataset: Dataset, artifact: Path, tmp_path: Path, how: list[str]) -> None:
    alone = score(artifact, *how, "--dump", tmp_path / "one.npz")
    done = on_two_ranks("-m", "eval.bpb", artifact, *how, "--dump", tmp_path / "two.npz", "--json")
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    assert together["bpb"] == pytest.approx(alone["bpb"], rel=1e-7)
    for key in ("tokens", "bytes", "contest_bytes", "coverage", "artifact_sha256", "data_sha256"):
        assert together[key] == alone[key]
    one, two = (np.load(tmp_path / name) for name in ("one.npz", "two.npz"))
    np.testing.assert_allclose(one["nats"], two["nats"], rtol=1e-4)


OWN_ARTIFACT = """
import os, sys
from base.cli import run
from engine.device import run_rank
from eval import bpb

del sys.argv[2 if os.environ["RANK"] == "0" else 1]
run_rank(lambda: run(bpb.parser(), bpb.act, bpb.show))
"""


@pytest.mark.slow
def test_nodes_with_different_artifacts_are_refused(dataset: Dataset, artifact: Path, tmp_path: Path) -> None:
    other = packed(dataset, tmp_path / "other.golf", "eval.stride=4")
    (tmp_path / "own.py").write_text(OWN_ARTIFACT)
    stderr = on_two_ranks(tmp_path / "own.py", artifact, other).stderr
    assert f"different files to score: 'artifact {open_artifact(artifact).sha256}" in stderr


def spy(monkeypatch: pytest.MonkeyPatch, most: int) -> tuple[list[Score], list[int]]:
    """Short rounds: the scores that come of it, and how many targets each batch scored; Ctrl-C after so many."""
    scores: list[Score] = []
    counts: list[int] = []
    real = bpb.score

    def kept_score(*words: Any) -> Score:
        scores.append(real(*words))
        return scores[-1]

    def counted_losses(*words: Any) -> Losses:
        for piece in window_losses(*words):
            if sum(counts) > most:
                raise KeyboardInterrupt
            counts.append(len(piece[0]))
            yield piece

    monkeypatch.setattr("eval.score.ROUND_TARGETS", 100)
    monkeypatch.setattr("eval.bpb.score", kept_score)
    monkeypatch.setattr("eval.score.window_losses", counted_losses)
    return scores, counts


def partials(artifact: Path) -> list[Path]:
    return list(artifact.parent.glob("*.json.*.partial")) + list(artifact.parent.glob("out.partial.*"))


def test_a_scoring_that_was_stopped_goes_on_after_its_last_round(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        scores, counts = spy(patch, 10**9)
        score(artifact)
    targets = sum(counts)
    assert not partials(artifact)
    with monkeypatch.context() as patch:
        spy(patch, targets // 2)
        printed("eval.bpb", artifact, "-o", artifact.with_name("out.partial"), code=130)
    (partial,) = partials(artifact)
    done = json.loads(partial.read_text())["targets"]
    assert targets // 3 < done < targets
    for words, scored in ((["--stride", 4], targets), (["--limit", 150], 150), ([], targets - done)):
        with monkeypatch.context() as patch:
            again, counts = spy(patch, 10**9)
            stderr = printed("eval.bpb", artifact, "-o", artifact.with_name("out.partial"), *words)[1]
        assert sum(counts) == scored
        assert (f"going on after {done:,} targets" in stderr, partial.exists()) == (words == [], words != [])
    assert json.loads(artifact.with_name("out.partial").read_text())["tokens"] == targets
    assert again == scores
    np.testing.assert_array_equal(again[0].block_nats, scores[0].block_nats)
    partial.write_text("{")
    assert "not JSON that can be read" in printed("eval.bpb", artifact, "-o", artifact.with_name("out.partial"))[1]


DIES = """
import os, signal, sys
from base.cli import run
from engine.device import run_rank
from eval import bpb, score
from eval.kept import Kept

most = int(sys.argv.pop(1))
write = Kept._write

def write_and_die(self, targets, block_nats):
    write(self, targets, block_nats)
    if targets > most:
        os.kill(os.getpid(), signal.SIGKILL)

Kept._write = write_and_die
score.ROUND_TARGETS = 100
run_rank(lambda: run(bpb.parser(), bpb.act, bpb.show))
"""


@pytest.mark.slow
def test_a_killed_scoring_goes_on_on_any_number_of_ranks(
    dataset: Dataset, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "dies.py"
    script.write_text(DIES)
    through = json.loads(on_two_ranks(script, 10**9, artifact, "--json").stdout)
    assert on_two_ranks(script, through["tokens"] // 2, artifact).returncode != 0
    (partial,) = partials(artifact)
    left = partial.read_bytes()
    done = on_two_ranks(script, 10**9, artifact, "--json")
    assert "going on after" in done.stderr
    clock = {"seconds": 0, "tokens_per_second": 0}
    assert {**json.loads(done.stdout), **clock} == {**through, **clock}
    partial.write_bytes(left)
    monkeypatch.setattr("eval.score.ROUND_TARGETS", 100)
    assert score(artifact)["bpb"] == pytest.approx(through["bpb"], rel=1e-7)


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
