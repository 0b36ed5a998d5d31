"""tools.bench: that it measures, and (slow) that the promises it measures are kept."""

import argparse
from functools import partial
from pathlib import Path

import pytest
import torch

from data.dataset import Dataset
from tests.eval.tiny import tiny_artifact
from tools.bench import act, show
from tools.bench_codec import codec_rows
from tools.bench_data import LONG, SHORT, prepare_big_corpus
from tools.bench_row import Row
from tools.bench_scoring import scoring_rows
from tools.bench_training import training_rows


def test_the_bench_measures_every_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.bench_data.LOADER_SECONDS", 0.05)
    monkeypatch.setattr("tools.bench_data.PARALLEL_CHARS", 1_000_000)
    answer = act(argparse.Namespace(corpus="stdlib", only="data"))
    rows = {row["what"]: row for row in answer["rows"]}
    for what in ("documents given back exactly", "documents whose bytes are counted exactly"):
        assert rows[what]["figure"] == rows[what]["target"] > 300
    table = show(answer)
    assert table.count("\n| ") == len(rows) + 1
    assert "cores of" in table


def test_the_bench_splits_a_training_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jsonl: Path) -> None:
    monkeypatch.setattr("tools.bench_training.STEPS", 2)
    (tmp_path / "tiny.yaml").write_text("model: {vocab_size: 400, layers: 2, dim: 32, heads: 2, kv_heads: 1}")
    rows = training_rows(str(tmp_path / "tiny.yaml"), str(jsonl))
    figures = {row.what.removeprefix("tiny: "): row.figure for row in rows}
    assert 0 < figures["of the product's rate"] < 100
    assert 0 < figures["optimizer and averaging, of a step"] < 100
    assert 0 < figures["loading, of a step"] < 100


def test_the_bench_compares_scoring_with_what_its_flops_allow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tools.bench_scoring.TURNS", 2)
    monkeypatch.setattr(
        "torch.compile", partial(torch.compile, backend="eager")
    )  # its C++ takes 20 s and is not the point
    (tmp_path / "tiny.yaml").write_text(
        "model: {vocab_size: 400, layers: 1, dim: 16, heads: 2, kv_heads: 1}\ntrain: {seq_len: 32}\neval: {stride: 8}"
    )
    figures = {row.what.removeprefix("tiny: "): row.figure for row in scoring_rows(str(tmp_path / "tiny.yaml"))}
    assert 1 < figures["the speed-up that this allows"] < 4
    for how in ("as it is", "compiled"):
        gained = figures[f"fast scoring, {how}"] / figures[f"plain scoring, {how}"]
        assert figures[f"speed-up, {how}"] == pytest.approx(gained)


def test_the_bench_sets_the_codec_beside_the_others(tmp_path: Path, dataset: Dataset) -> None:
    artifact = tmp_path / "model.golf"
    artifact.write_bytes(tiny_artifact(dataset.tokenizer, data_path=str(dataset.path)))
    rows = {row.what: row for row in codec_rows(artifact, 300)}
    bpb = {what.split(":")[0]: row.figure for what, row in rows.items() if what.endswith(": bits a byte")}
    assert bpb.keys() >= {"bzip2 -9", "xz -9e", "zstd -22 --ultra"}
    ours = rows["codec: bits a byte, artifact not counted"]
    assert ours.target == min(bpb.values())
    assert ours.missed  # random weights compress nothing
    assert not rows["codec: file, over the model's bits + 64 bytes"].missed
    assert rows["codec: artifact"].figure == artifact.stat().st_size / 1e3


def test_a_missed_target_is_told() -> None:
    assert Row("speed", 4, "MB/s", 5).missed
    assert not Row("speed", 6, "MB/s", 5).missed
    assert Row("memory", 2, "GB", 1.5, at_most=True).missed
    assert not Row("words", 1, "").missed


@pytest.mark.slow
@pytest.mark.parametrize("document_chars", [LONG, SHORT])
def test_a_gigabyte_is_prepared_within_one_and_a_half_of_memory(document_chars: int) -> None:
    big = prepare_big_corpus(document_chars)
    assert 0.1e9 < big.peak_bytes < 1.5e9
    assert big.bytes_per_second > 5e6
