"""The dataset that a record was scored on: found by its hash, checked, or copied without its validation text.

    found = find_dataset(claimed, given)                  a Dataset, or the Finding why there is none
    findings = check_data(claim, dataset)                 totals, documents on both sides
    folder = withhold_validation(dataset, folder)         what --rerun trains on

A dataset is the record's when its validation side has the hash that the record names. Nothing is made or downloaded.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from base.errors import BadInput
from base.files import link_or_copy
from data.dataset import Dataset, describe_dataset, open_dataset
from data.manifest import TOKENIZER, write_manifest
from data.overlap import find_overlap
from data.shards import Tokens, TokenStream, open_shard, write_shard
from tools.record.schema import Data, Submission
from tools.verify.verdict import Finding, contradiction

DATASETS = Path("data/datasets")


def find_dataset(claimed: Data, given: Path | None, datasets: Path = DATASETS) -> Dataset | Finding:
    hash_text = f"{claimed.val_sha256:.12}…"
    if given is not None:
        dataset = open_dataset(given)  # a folder that is no dataset is bad usage, not the record's fault
        if dataset.manifest.data_sha256("val") == claimed.val_sha256:
            return dataset
        message = f"{given}: its validation side is not the {hash_text} of the record ({claimed.name:.100})"
        return Finding("data.other", "unverified", f"{message}; name that dataset with --data")
    for path in datasets_with(claimed.val_sha256, True, datasets):
        with suppress(BadInput):  # a damaged dataset
            return open_dataset(path)
    python = f" on Python {claimed.python:.20}" if claimed.python else ""
    way_out = f"make it ({claimed.prep:.200}, with the record's {TOKENIZER}{python}), name it with --data DIR"
    message = f"no dataset here has the validation side {hash_text}; {way_out}"
    return Finding("data.missing", "unverified", message, {"val_sha256": claimed.val_sha256})


def datasets_with(sha256: str, val_only: bool, datasets: Path = DATASETS) -> Iterator[Path]:
    """The folders here whose data have this hash; bare shards are hashed for it."""
    for folder in sorted(datasets.glob("*")):
        with suppress(BadInput, OSError):  # no dataset, or somebody's unfinished one
            if describe_dataset(folder, val_only).data_sha256() == sha256:
                yield folder


def check_data(claim: Submission, dataset: Dataset) -> Iterator[Finding]:
    manifest = dataset.manifest
    evaluation = claim.evaluation
    tokens = dataset.val.read(0, len(dataset.val))
    exact, contest = dataset.table.totals(tokens[1:], int(tokens[0]))
    for key, found in (("val_tokens", len(tokens) - 1), ("val_bytes", exact), ("contest_bytes", contest)):
        claimed = getattr(evaluation, key)
        if claimed != found:
            yield contradiction(f"data.{key}", f"evaluation.{key}", claimed, "the validation side has", found)
    text = manifest.val.documents_sha256
    if claim.data.val_text_sha256 and text and claim.data.val_text_sha256 != text:
        yield contradiction("data.text", "val_text_sha256", claim.data.val_text_sha256, "the documents here have", text)
    if manifest.data_sha256() != claim.data.sha256:
        message = "the training side here is not the record's: whether it has a validation document is unknown"
        yield Finding("data.train", "unverified", message)
        return
    overlap = find_overlap(dataset.documents("train"), dataset.documents("val"))
    if overlap is None:
        message = "no training document is a validation document"
        yield Finding("data.measured", "note", message, {"shared_documents": 0})
    elif overlap.documents in (manifest.shared_documents, claim.data.shared_documents):
        yield Finding("data.overlap", "flag", f"{overlap}, as is admitted", overlap._asdict())
    else:
        yield Finding("data.overlap", "invalid", str(overlap), overlap._asdict())


def withhold_validation(dataset: Dataset, folder: Path) -> Path:
    """A dataset like this one in `folder`, whose validation side is training text of the same length.

    A program that trains there has no validation text to learn from. An honest run does not change: nothing that it
    learns depends on the validation side.
    """
    documents: list[Tokens] = []
    tokens = 0
    for document in dataset.documents("train"):
        if tokens >= len(dataset.val):
            break
        documents.append(np.append(dataset.mark, document).astype(np.uint16))
        tokens += len(documents[-1])
    val = write_shard(folder / "val_000000.bin", "val", documents)
    train = tuple(entry for entry in dataset.manifest.shards if entry.split == "train")
    (folder / TOKENIZER).write_bytes(dataset.tokenizer.model)
    for entry in train:
        link_or_copy(dataset.path / entry.file, folder / entry.file)
    made = replace(
        dataset.manifest,
        val=TokenStream([open_shard(folder / val.file)]).totals(dataset.table, dataset.mark),
        shards=(*train, val),
        shared_documents=len(documents),
    )
    write_manifest(made, folder)
    return folder
