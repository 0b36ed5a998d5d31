"""The dataset that a record was scored on: the one named, one that is here, or the standard library prepared again.

    found = find_dataset(claimed, tokenizer, given)       a Dataset, or the Finding why there is none
    findings = check_data(record, dataset)                totals, tokenizer, documents on both sides

A dataset is the record's when its validation side has the hash that the record names. Nothing is downloaded.
"""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from base.errors import BadInput
from data.dataset import Dataset, open_dataset
from data.manifest import MANIFEST, TOKENIZER, read_manifest, write_manifest
from data.overlap import find_overlap
from data.prep import act, parser
from data.shards import ShardWriter, Tokens, TokenStream, open_shard
from tools.record.describe import STDLIB
from tools.record.schema import Data, Submission
from tools.verify.verdict import Finding

DATASETS = Path("data/datasets")


def find_dataset(claimed: Data, tokenizer: Path, given: Path | None, datasets: Path = DATASETS) -> Dataset | Finding:
    """`tokenizer`: the record's own file, so that a corpus prepared here has its tokens."""
    if given is not None:
        dataset = open_dataset(given)  # a folder that is no dataset is bad usage, not the record's fault
        if dataset.manifest.data_sha256("val") == claimed.val_sha256:
            return dataset
        why = f"{given}: its validation side is not the {claimed.val_sha256[:12]}… of the record ({claimed.name})"
        return Finding("data.other", "unverified", f"{why}; name that dataset with --data")
    for path in sorted(datasets.glob(f"*/{MANIFEST}")):
        try:
            if read_manifest(path.parent).data_sha256("val") == claimed.val_sha256:
                return open_dataset(path.parent)
        except BadInput:  # an unfinished or damaged dataset
            continue
    if claimed.source == STDLIB:
        return _prepare_stdlib(claimed, tokenizer, datasets)
    why = f"no dataset here has the validation side {claimed.val_sha256[:12]}…; make it ({claimed.prep:.200}), name it"
    return Finding("data.missing", "unverified", f"{why} with --data DIR", {"val_sha256": claimed.val_sha256})


def _prepare_stdlib(claimed: Data, tokenizer: Path, datasets: Path) -> Dataset | Finding:
    here = platform.python_version()
    out = datasets / f"{STDLIB}-{here}-{claimed.tokenizer_sha256[:12]}"
    try:
        act(parser().parse_args([STDLIB, "--tokenizer", str(tokenizer), "--out", str(out)]))
        dataset = open_dataset(out)
    except BadInput as bad:
        return Finding("data.prepare", "unverified", f"the standard library cannot be prepared: {bad}")
    if dataset.manifest.data_sha256("val") == claimed.val_sha256:
        return dataset
    shutil.rmtree(out)
    needed = claimed.python or "of a version that the record does not name"
    way_out = "as another distribution ships it, or other settings" if needed == here else "run the verifier with that"
    why = f"the standard library of Python {here} is another text; the record was scored on that of Python {needed}"
    return Finding("data.python", "unverified", f"{why}; {way_out}", {"python": here, "needed": claimed.python})


def check_data(claim: Submission, dataset: Dataset) -> Iterator[Finding]:
    manifest, evaluation = dataset.manifest, claim.evaluation
    tokens = dataset.val.read(0, len(dataset.val))
    exact, contest = dataset.table.totals(tokens[1:], int(tokens[0]))
    for name, found in (("val_tokens", len(tokens) - 1), ("val_bytes", exact), ("contest_bytes", contest)):
        claimed = getattr(evaluation, name)
        if claimed != found:
            why = f"evaluation.{name} is {claimed:,}; the validation side has {found:,}"
            yield Finding(f"data.{name}", "invalid", why, {"claimed": claimed, "measured": found})
    if manifest.data_sha256() != claim.data.sha256:
        why = "the training side here is not the record's; whether it shares a document with validation is unknown"
        yield Finding("data.train", "unverified", why, {"here": manifest.data_sha256(), "claimed": claim.data.sha256})
        return
    overlap = find_overlap(dataset.documents("train"), dataset.documents("val"))
    if overlap is None:
        message = (
            f"{manifest.train.documents:,} training and {manifest.val.documents:,} validation documents share none"
        )
        yield Finding("data.measured", "note", message, {"shared_documents": 0})
    elif overlap.documents == manifest.shared_documents:  # a published dataset whose manifest admits it
        yield Finding("data.overlap", "flag", f"{overlap}, as its manifest admits", overlap._asdict())
    else:
        yield Finding("data.overlap", "invalid", str(overlap), overlap._asdict())


def withhold_validation(dataset: Dataset, folder: Path) -> Path:
    """A dataset like this one in `folder`, whose validation side is training text of the same length.

    A program that trains there has no validation text to learn from. An honest run does not change: nothing that it
    learns depends on the validation side.
    """
    manifest, documents, tokens = dataset.manifest, list[Tokens](), 0
    mark = np.array([dataset.mark], np.uint16)
    for document in dataset.documents("train"):
        if tokens >= len(dataset.val):
            break
        documents.append(np.concatenate([mark, document]))
        tokens += len(documents[-1])
    with ShardWriter(folder, "val", max(tokens, 1)) as writer:
        writer.write(documents)
    stream = TokenStream([open_shard(folder / entry.file) for entry in writer.entries])
    side = stream.totals(dataset.table, dataset.mark)
    train = tuple(entry for entry in manifest.shards if entry.split == "train")
    for name in (TOKENIZER, *(entry.file for entry in train)):
        try:
            os.link(dataset.path / name, folder / name)
        except OSError:  # on another disk
            shutil.copyfile(dataset.path / name, folder / name)
    made = replace(manifest, val=side, shards=(*train, *writer.entries), shared_documents=len(documents))
    write_manifest(made, folder)
    return folder.resolve()
