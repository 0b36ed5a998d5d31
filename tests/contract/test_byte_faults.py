"""The byte-counting faults that invalidated hundreds of published scores, A1 to A11 of the casebook, one test each.

Each test commits the fault: it computes what the faulty way gives, asserts that this differs from the truth (so the
test can fail), and that our way gives the truth or refuses.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from base.errors import BadInput, CheckFailed
from base.files import file_sha256
from data.bytes import ByteTable
from data.check import prove_side
from data.contest import refuse_reissue
from data.dataset import Dataset, open_dataset
from data.manifest import Manifest
from data.shards import HEADER_BYTES, header
from data.tokenizer import SPACE, SentencePieceTokenizer
from eval.metric import Tally
from eval.windows import plan_windows
from tests.conftest import contest_rule, prep, sentencepiece_like

Rewrite = Callable[[Path, Callable[[dict[str, Any]], None]], None]


def test_a1_a_leading_space_is_counted_once(contest_tokenizer: SentencePieceTokenizer, texts: list[str]) -> None:
    table = ByteTable(contest_tokenizer)
    for text in texts[:20]:
        ids = contest_tokenizer.encode(text)
        truth = len(contest_tokenizer.decode(ids).encode())
        stream = np.concatenate([[contest_tokenizer.bos_id], ids])
        spaces = sum(contest_tokenizer._sp.id_to_piece(i).startswith(SPACE) for i in ids.tolist())
        twice = table.exact_bytes(ids).sum() + spaces  # in the table and again in the sum
        assert twice > truth
        assert table.exact_bytes(ids).sum() == truth
        assert (
            table.contest_bytes(stream[:-1], stream[1:]).sum()
            == truth
            == contest_rule(contest_tokenizer, stream.tolist())
        )


def test_a1_a_table_that_counts_a_space_twice_fails_the_proof(dataset: Dataset) -> None:
    table = ByteTable(dataset.tokenizer)
    table._spellings = np.array([data.replace(b" ", b"  ") for data in table._spellings], object)
    with pytest.raises(CheckFailed, match="not the bytes of its decoded text"):
        prove_side(dataclasses.replace(dataset, table=table), "val")


def test_a2_half_a_character_counts_its_own_bytes_not_a_replacement_mark(tokenizer: SentencePieceTokenizer) -> None:
    text = "emoji 🫠🫡 and rare ꙮ letters"
    ids = tokenizer.encode(text)
    by_decoding = sum(len(tokenizer.decode([token]).encode()) for token in ids.tolist())
    assert by_decoding > len(text.encode())  # U+FFFD is three bytes
    assert ByteTable(tokenizer).exact_bytes(ids).sum() == len(text.encode())


def test_a3_a_vocabulary_without_a_lone_space_piece_is_refused(texts: list[str]) -> None:
    with pytest.raises(BadInput, match="no piece for a lone ▁"):
        sentencepiece_like(["abcdefghij" * 50], vocab_size=280, add_dummy_prefix=False)


def test_a4_a_tokenizer_that_changes_text_is_marked_with_totals(texts: list[str], jsonl: Path, tmp_path: Path) -> None:
    folded = sentencepiece_like(texts, normalization_rule_name="nmt_nfkc_cf", add_dummy_prefix=False)
    (tmp_path / "cf.model").write_bytes(folded.model)
    out = tmp_path / "out"
    answer = prep(jsonl, "--tokenizer", tmp_path / "cf.model", "--out", out, "--val-fraction", 0.2, "--workers", 1)
    assert not answer["lossless"]
    assert answer["val_raw_bytes"] != answer["val_bytes"]
    dataset = open_dataset(out)
    decoded = [dataset.tokenizer.decode(ids) for ids in dataset.documents("val")]
    assert sum(len(text.encode()) for text in decoded) == answer["val_bytes"]


def test_a5_a_stream_that_is_not_the_source_text_fails_the_proof(dataset: Dataset, rewrite_manifest: Rewrite) -> None:
    shard = dataset.path / "val_000000.bin"
    ids = np.fromfile(shard, "<u2")
    letters = np.array([i for i in range(260, 400) if len(b := dataset.table.join([i])) == 1 and b.isalpha()])
    at = HEADER_BYTES // 2 + int(np.flatnonzero(np.isin(ids[HEADER_BYTES // 2 :], letters))[0])
    ids[at] = letters[letters != ids[at]][0]  # one byte for one byte: no sum can show it
    ids.tofile(shard)
    rewrite_manifest(dataset.path, lambda m: _rehash(m, shard))
    with pytest.raises(CheckFailed, match="other text than the source"):
        prove_side(open_dataset(dataset.path), "val")


def test_a6_a_byte_sidecar_beside_the_shards_changes_no_total(dataset: Dataset) -> None:
    before = prove_side(dataset, "val")
    tokens = len(dataset.val)
    (dataset.path / "val_bytes_000000.bin").write_bytes(header(tokens) + np.full(tokens, 9, "<u2").tobytes())
    after = open_dataset(dataset.path)
    assert prove_side(after, "val") == before
    assert after.manifest.data_sha256() == dataset.manifest.data_sha256()
    tally = Tally(after.table, after.val.read(0, tokens))
    tally.add(np.arange(tokens - 1), np.ones(tokens - 1))
    assert tally.score().bytes == after.manifest.val.bytes


def test_a7_a_target_outside_the_vocabulary_is_refused_not_clamped(tokenizer: SentencePieceTokenizer) -> None:
    table = ByteTable(tokenizer)
    stream = np.array([1, 5, 8191], np.uint16)
    with pytest.raises(ValueError, match="token 8191 is outside the tokenizer's vocabulary of 400"):
        table.exact_bytes(stream)
    with pytest.raises(ValueError, match="token -1 is outside"):
        table.exact_bytes([-1])
    with pytest.raises(ValueError, match="8191"):
        Tally(table, stream).add([0, 1], [1.0, 1.0])


def test_a8_a_part_of_the_validation_text_is_never_a_full_score(dataset: Dataset, rewrite_manifest: Rewrite) -> None:
    tokens = dataset.val.read(0, len(dataset.val))
    tally = Tally(dataset.table, tokens)
    tally.add(np.arange(100), np.ones(100))
    with pytest.raises(CheckFailed, match="were not scored, from 100 on"):
        tally.score()
    part = tally.score(partial=True)
    assert part.partial
    assert part.coverage == 100 / (len(tokens) - 1)
    shard = dataset.path / "val_000000.bin"
    shard.write_bytes(header(len(tokens) // 2) + tokens[: len(tokens) // 2].tobytes())
    with pytest.raises(BadInput, match="is not the manifest's"):
        open_dataset(dataset.path)
    rewrite_manifest(dataset.path, lambda m: _rehash(m, shard))
    with pytest.raises(BadInput, match="tokens; the manifest has"):
        open_dataset(dataset.path)


def test_a9_a_reissued_dataset_has_another_hash_and_the_contests_is_refused(dataset: Dataset) -> None:
    manifest = dataset.manifest
    shards = tuple(dataclasses.replace(shard, sha256="0" * 64) for shard in manifest.shards)
    assert dataclasses.replace(manifest, shards=shards).data_sha256() != manifest.data_sha256()
    first = _contest_manifest(manifest, tokens=62_021_632 + 1)
    refuse_reissue("sp1024", first)
    with pytest.raises(BadInput, match="63,779,840 scored tokens, not 62,021,632"):
        refuse_reissue("sp1024", _contest_manifest(manifest, tokens=63_779_840 + 1))
    with pytest.raises(BadInput, match="10,000 validation documents, not 50,000"):
        refuse_reissue("sp1024", _contest_manifest(manifest, documents=10_000))


def test_a10_a_tail_window_scores_nothing_twice_and_leaves_nothing_out(dataset: Dataset) -> None:
    tokens = dataset.val.read(0, 1001)
    tally = Tally(dataset.table, tokens)
    plan = plan_windows(1000, context=128, stride=48)
    for start, end, score_from in zip(*plan, strict=True):
        assert start <= score_from < end
        tally.add(np.arange(score_from, end), np.ones(end - score_from))
    assert tally.score().tokens == 1000
    tally.add([999], [1.0])  # the truncated tail scored once more
    with pytest.raises(CheckFailed, match="1 targets were scored more than once, the first is target 999"):
        tally.score()
    whole_rows = Tally(dataset.table, tokens)  # the baseline drops what does not fill a row of seq_len
    complete = np.arange(1000 // 128 * 128)
    whole_rows.add(complete, np.ones(len(complete)))
    with pytest.raises(CheckFailed, match="104 of 1000 targets were not scored"):
        whole_rows.score()


def test_a11_bos_is_charged_in_the_numerator_and_adds_no_byte_to_the_denominator(dataset: Dataset) -> None:
    tokens = dataset.val.read(0, len(dataset.val))
    bos = int((tokens[1:] == dataset.tokenizer.bos_id).sum())
    assert bos == dataset.manifest.val.documents - 1 > 0
    tally = Tally(dataset.table, tokens)
    tally.add(np.arange(len(tokens) - 1), np.full(len(tokens) - 1, math.log(2)))
    score = tally.score()
    assert score.tokens == len(tokens) - 1
    assert score.bytes == dataset.manifest.val.bytes == dataset.manifest.val.raw_bytes
    assert score.bpb == pytest.approx((len(tokens) - 1) / dataset.manifest.val.bytes)


def _rehash(manifest: dict[str, Any], shard: Path) -> None:
    entry = next(entry for entry in manifest["shards"] if entry["file"] == shard.name)
    entry.update(sha256=file_sha256(shard), size_bytes=shard.stat().st_size)


def _contest_manifest(like: Manifest, tokens: int = 62_021_633, documents: int = 50_000) -> Manifest:
    val = dataclasses.replace(like.val, tokens=tokens, documents=documents, contest_bytes=151_080_891)
    return dataclasses.replace(like, val=val)
