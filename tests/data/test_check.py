"""data.check, data.dataset, data.manifest, data.overlap: a dataset that is not what it claims to be is refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from base.errors import BadInput
from base.files import file_sha256
from data.dataset import Dataset, open_dataset
from data.overlap import find_overlap
from data.shards import HEADER_BYTES, header
from tests.conftest import sentencepiece_like
from tests.runs import printed

Rewrite = Callable[[Path, Callable[[dict[str, Any]], None]], None]


def test_a_dataset_has_the_manifests_files_alone(dataset: Dataset, rewrite_manifest: Rewrite, texts: list[str]) -> None:
    shard, model = dataset.path / "val_000000.bin", dataset.path / "tokenizer.model"
    content = shard.read_bytes()
    for damaged, expected in ((content[:-2], "sha256"), (content[:-1] + b"\x09", "sha256"), (None, "is missing")):
        shard.unlink() if damaged is None else shard.write_bytes(damaged)
        with pytest.raises(BadInput, match=rf"val_000000\.bin.*{expected}"):
            open_dataset(dataset.path)
    shard.write_bytes(content)
    original = model.read_bytes()
    other = sentencepiece_like(texts, vocab_size=390, normalization_rule_name="identity", add_dummy_prefix=False)
    for damaged, expected in ((other.model, "another tokenizer"), (None, "no such tokenizer file")):
        model.unlink() if damaged is None else model.write_bytes(damaged)
        with pytest.raises(BadInput, match=expected):
            open_dataset(dataset.path)
    model.write_bytes(original)
    rewrite_manifest(dataset.path, lambda m: m["tokenizer"].update(vocab_size=500))
    with pytest.raises(BadInput, match="another tokenizer than the manifest's"):
        open_dataset(dataset.path)


def test_a_manifest_is_read_strictly_and_hashed_by_its_formula(dataset: Dataset) -> None:
    manifest = dataset.manifest
    formula = json.dumps(
        ["golf", manifest.tokenizer.sha256, [[shard.split, shard.sha256] for shard in manifest.shards]]
    )
    assert manifest.data_sha256() == hashlib.sha256(formula.encode()).hexdigest()
    path = dataset.path / "manifest.json"
    original = path.read_text()
    edits: list[tuple[Callable[[dict[str, Any]], object], str]] = [
        (lambda m: m.update(formt=1), "unknown key formt; nearest: format"),
        (lambda m: m.pop("tokenizer"), "tokenizer is missing"),
        (lambda m: m.update(format="other"), "not a manifest of format"),
        (lambda m: m["shards"][0].update(file="../../etc/passwd"), "not a name inside the dataset's folder"),
        (lambda m: m["val"].update(tokens=5), "the manifest's total is 5"),
    ]
    for edit, expected in edits:
        values = json.loads(original)
        edit(values)
        path.write_text(json.dumps(values))
        with pytest.raises(BadInput, match=expected):
            open_dataset(dataset.path)
    path.write_text("[" * 100)
    with pytest.raises(BadInput, match="not JSON that can be read"):
        open_dataset(dataset.path)


def test_the_check_finds_a_manifest_that_claims_other_totals(dataset: Dataset, rewrite_manifest: Rewrite) -> None:
    rewrite_manifest(dataset.path, lambda m: m.update(shared_documents=1))
    _, err = printed("data.check", dataset.path, code=1)
    assert "no document is on both sides; the manifest claims 1" in err
    rewrite_manifest(dataset.path, lambda m: m["val"].update(bytes=m["val"]["bytes"] + 1))
    assert "val holds" in printed("data.check", dataset.path, "--val", code=1)[1]


def test_the_check_finds_documents_padded_or_encoded_otherwise(dataset: Dataset, rewrite_manifest: Rewrite) -> None:
    shard = dataset.path / "val_000000.bin"
    ids = np.fromfile(shard, "<u2")[HEADER_BYTES // 2 :]
    at = next(i for i in range(5, len(ids)) if dataset.table.exact[ids[i]] > 1)
    as_bytes = [4 + byte for byte in dataset.table.join([ids[at]])]  # the same text in byte pieces
    for damaged, expected in (
        (np.insert(ids, at, dataset.tokenizer.pad_id), "token 0 inside it has no bytes"),
        (np.insert(ids, at, dataset.tokenizer.eos_id), "token 2 inside it has no bytes"),
        (np.concatenate([ids[:at], as_bytes, ids[at + 1 :]]), "are not what the tokenizer makes of its text"),
    ):
        shard.write_bytes(header(len(damaged)) + damaged.astype("<u2").tobytes())
        entry = {"sha256": file_sha256(shard), "size_bytes": shard.stat().st_size, "tokens": len(damaged)}

        def forge(manifest: dict[str, Any], entry: dict[str, Any] = entry) -> None:
            next(shard for shard in manifest["shards"] if shard["split"] == "val").update(entry)
            manifest["val"].update(tokens=entry["tokens"])

        rewrite_manifest(dataset.path, forge)
        assert expected in printed("data.check", dataset.path, "--val", code=1)[1]


def test_a_document_on_both_sides_is_found() -> None:
    train = [np.array(tokens, np.uint16) for tokens in ([9, 8], [7, 7], [5], [5])]
    assert find_overlap(train, [np.array([7], np.uint16), np.array([9], np.uint16)]) is None
    found = find_overlap(train, [np.array([6], np.uint16), np.array([5], np.uint16)])
    assert str(found) == "2 training documents are validation documents (the first: training 2 is validation 1)"
