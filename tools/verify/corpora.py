"""The dataset that a record was scored on: the one that is named, one that lies here, or one made.

    found = find_dataset(submission.data, Path("tokenizer.model"), options.data)      a Dataset, or the Finding why not
    findings = data_findings(submission, dataset)           totals, tokenizer, texts on both sides

A dataset is the record's when its validation side has the hash that the record names: tokenizer and shards, byte for
byte. Only the standard library is made here (by this very Python); nothing is downloaded.
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
from data.manifest import MANIFEST, TOKENIZER, Manifest, read_manifest, write_manifest
from data.overlap import find_overlap
from data.prep import act, parser
from data.shards import ShardWriter, Tokens, TokenStream, open_shard
from tools.record.schema import Data, Submission
from tools.verify.verdict import Finding

DATASETS = Path("data/datasets")
STDLIB = "stdlib"


def find_dataset(claimed: Data, tokenizer: Path, given: Path | None, datasets: Path = DATASETS) -> Dataset | Finding:
    """`tokenizer`: the record's own, so that a corpus made here has its tokens."""
    if given is not None:
        dataset = open_dataset(given)  # a folder that is no dataset is bad usage, not the record's fault
        return dataset if is_claimed(dataset.manifest, claimed) else _other(dataset, claimed)
    for path in sorted(datasets.glob(f"*/{MANIFEST}")):
        try:
            if is_claimed(read_manifest(path.parent), claimed):
                return open_dataset(path.parent)
        except BadInput:  # somebody's unfinished or damaged dataset
            continue
    if claimed.source == STDLIB:
        return _made(claimed, tokenizer, datasets)
    why = (
        f"no dataset here has the validation side {claimed.val_sha256[:12]}…; make {claimed.name} of "
        f"{claimed.source!r} (python -m data.prep) and name it with --data DIR"
    )
    return Finding("data.missing", "unverified", why, {"val_sha256": claimed.val_sha256, "source": claimed.source})


def data_findings(submission: Submission, dataset: Dataset) -> Iterator[Finding]:
    """Totals and the two sides of the dataset that was found."""
    claimed, manifest, evaluation = submission.data, dataset.manifest, submission.evaluation
    if claimed.tokenizer_sha256 != manifest.tokenizer.sha256:
        why = (
            f"validation side {claimed.val_sha256[:12]}… is one of tokenizer {manifest.tokenizer.sha256[:12]}…; "
            f"the record says {claimed.tokenizer_sha256[:12]}…"
        )
        yield Finding("data.tokenizer", "invalid", why, {"val": claimed.val_sha256})
    tokens = dataset.val.read(0, len(dataset.val))
    exact, contest = dataset.table.totals(tokens[1:], int(tokens[0]))
    for name, found in (("val_tokens", len(tokens) - 1), ("val_bytes", exact), ("contest_bytes", contest)):
        said = getattr(evaluation, name)
        if said != found:
            why = f"evaluation.{name} is {said:,}; the validation side has {found:,}"
            yield Finding(f"data.{name}", "invalid", why, {"claimed": said, "measured": found})
    if manifest.data_sha256() != claimed.sha256:
        here = manifest.data_sha256()
        why = f"the training side here is not that of {claimed.sha256[:12]}…; whether it shares a document is not known"
        yield Finding("data.train", "unverified", why, {"here": here, "claimed": claimed.sha256})
        return
    overlap = find_overlap(dataset.documents("train"), dataset.documents("val"))
    if overlap is None:
        said = f"{manifest.train.documents:,} training and {manifest.val.documents:,} validation documents share none"
        yield Finding("data.measured", "note", said, {"shared_documents": 0})
    elif overlap.documents == manifest.shared_documents:  # a published dataset that says so
        yield Finding("data.overlap", "flag", f"{overlap}, as its manifest admits", overlap._asdict())
    else:
        yield Finding("data.overlap", "invalid", str(overlap), overlap._asdict())


def withheld(dataset: Dataset, folder: Path) -> Path:
    """`folder` made a dataset like this one, but for its validation side: as many tokens of training documents.

    Whoever trains there has no validation text to learn from. An honest run is not changed by it: nothing that it
    learns hangs on the validation side, and the batches' order is drawn by the training side's hash.
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


def is_claimed(manifest: Manifest, claimed: Data) -> bool:
    return manifest.data_sha256("val") == claimed.val_sha256


def _other(dataset: Dataset, claimed: Data) -> Finding:
    here = dataset.manifest.data_sha256("val")
    why = (
        f"{dataset.path}: its validation side {here[:12]}… is not the {claimed.val_sha256[:12]}… that the record was "
        f"scored on ({claimed.name}); name that dataset with --data"
    )
    return Finding("data.other", "unverified", why, {"here": here, "claimed": claimed.val_sha256})


def _made(claimed: Data, tokenizer: Path, datasets: Path) -> Dataset | Finding:
    here = platform.python_version()
    out = datasets / f"{STDLIB}-{here}-{claimed.tokenizer_sha256[:12]}"
    try:
        act(parser().parse_args([STDLIB, "--tokenizer", str(tokenizer), "--out", str(out)]))
        dataset = open_dataset(out)
    except BadInput as bad:
        return Finding("data.prepare", "unverified", f"the standard library cannot be prepared: {bad}")
    if is_claimed(dataset.manifest, claimed):
        return dataset
    found = dataset.manifest.data_sha256("val")
    shutil.rmtree(out)  # of no use to anybody
    needed = claimed.python or "one that the record does not name"
    why = (
        f"the standard library of Python {here} gives the validation side {found[:12]}…, and the record was scored on "
        f"{claimed.val_sha256[:12]}…: it needs Python {needed}"
    )
    why += "; run the verifier with that" if needed != here else ", as another distribution ships it, or other settings"
    return Finding("data.python", "unverified", why, {"python": here, "needed": claimed.python, "val_sha256": found})
