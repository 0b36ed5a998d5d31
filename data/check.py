"""Prove a dataset from its files alone: hashes, every document's bytes, totals, no document on both sides.

    python -m data.check data/datasets/stdlib
    python -m data.check data/datasets/fineweb10B_sp1024 --val      (validation only: training shards are many)

For every document the byte table's bytes must equal what the tokenizer decodes, and (under a lossless tokenizer) its
tokens must be what that text encodes to. Their sums must be the manifest's, and where the manifest holds the source
documents' hash (`source_proved`), the decoded documents must have it. Exit code 1: a claim fails, and the message
names it. Exit code 2: a file is not the one that the manifest names (missing, damaged, another hash).
"""

import argparse
import hashlib
import sys
import time
from pathlib import Path

import numpy as np

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.errors import BadInput, CheckFailed
from base.progress import Advance, byte_progress
from data.bare import is_bare
from data.dataset import Dataset, open_dataset
from data.manifest import MANIFEST, Manifest, SplitName
from data.overlap import find_overlap
from data.shards import Tokens
from data.split import document_digest


def act(args: argparse.Namespace) -> Answer:
    started = time.monotonic()
    if is_bare(Path(args.dataset)):
        raise BadInput(f"{args.dataset}: has no manifest to check; write it first: python -m data.contest --local")
    dataset = open_dataset(args.dataset)
    manifest = dataset.manifest
    sides: tuple[SplitName, ...] = ("val",) if args.val else ("val", "train")
    answer: Answer = {"path": str(Path(args.dataset).resolve())}
    with byte_progress("proving", sum(manifest.side(side).bytes for side in sides)) as advance:
        for side in sides:
            answer[f"{side}_docs"], answer[f"{side}_bytes"] = prove_side(dataset, side, advance)
    overlap = find_overlap(dataset.documents("train"), dataset.documents("val"))
    shared = overlap.documents if overlap else 0
    if shared != manifest.shared_documents:
        found = overlap or "no document is on both sides"
        raise CheckFailed(f"{dataset.path}: {found}; the manifest claims {manifest.shared_documents}")
    return {
        **answer,
        "source_proved": all(manifest.side(side).documents_sha256 is not None for side in sides),
        "shared_docs": shared,
        "data_sha256": manifest.data_sha256(),
        "val_sha256": manifest.data_sha256("val"),
        "seconds": round(time.monotonic() - started, 3),
    }


def prove_side(dataset: Dataset, side: SplitName, advance: Advance = lambda _: None) -> tuple[int, int]:
    """(documents, bytes) of one side, each document's table bytes compared with its decoded text."""
    claimed = dataset.manifest.side(side)
    documents = exact = 0
    digests = hashlib.sha256()
    for tokens in dataset.documents(side):
        raw = _prove_document(dataset, tokens, f"{dataset.path}: {side} document {documents}")
        digests.update(document_digest(raw))
        documents += 1
        exact += len(raw)
        advance(len(raw))
    count_tokens(dataset, side)
    if exact != claimed.bytes or (dataset.tokenizer.lossless and claimed.raw_bytes not in (None, exact)):
        raise CheckFailed(f"{dataset.path}: {side} decodes to {exact:,} bytes; the manifest claims {claimed.bytes:,}")
    if claimed.documents_sha256 not in (None, digests.hexdigest()):
        raise CheckFailed(f"{dataset.path}: the {side} documents decode to other text than the source they came from")
    return documents, exact


def _prove_document(dataset: Dataset, tokens: Tokens, where: str) -> bytes:
    """The document's text as bytes, once its tokens have been proved to be exactly that text."""
    tokenizer = dataset.tokenizer
    try:
        sizes = dataset.table.exact_bytes(tokens)
    except ValueError as outside:
        raise CheckFailed(f"{where}: {outside}") from None
    raw = tokenizer.decode(tokens).encode()
    if dataset.table.join(tokens) != raw or sizes.sum() != len(raw):
        raise CheckFailed(f"{where}: its {sizes.sum()} table bytes are not the bytes of its decoded text")
    specials = tokens[dataset.table.boundary[tokens]]
    if len(specials):
        raise CheckFailed(f"{where}: token {specials[0]} inside it has no bytes; specials mark documents only")
    if tokenizer.lossless and not np.array_equal(tokenizer.encode(raw.decode()), tokens):
        raise CheckFailed(f"{where}: its tokens are not what the tokenizer makes of its text")
    return raw


def count_tokens(dataset: Dataset, side: SplitName) -> None:
    """Compare the manifest's totals with the tokens, by the byte table: quick, and no proof of the text."""
    counted = dataset.side(side).totals(dataset.table, dataset.mark)
    for name in ("documents", "tokens", "bytes", "contest_bytes"):
        found = getattr(counted, name)
        claim = getattr(dataset.manifest.side(side), name)
        if found != claim:
            raise CheckFailed(f"{dataset.path}: {side} holds {found:,} {name}; the manifest claims {claim:,}")


def find_current(out: Path) -> Manifest | None:
    """The manifest of a dataset whose files and totals are as it claims; what is wrong with another goes to stderr."""
    if not (out / MANIFEST).is_file():
        return None
    try:
        dataset = open_dataset(out)
        count_tokens(dataset, "train")
        count_tokens(dataset, "val")
    except (BadInput, CheckFailed) as stale:
        print(f"not up to date: {stale}", file=sys.stderr)
        return None
    return dataset.manifest


def parser() -> OneLineParser:
    flags = command("data.check", __doc__ or "")
    flags.add_argument("dataset", metavar="DATASET", help="a dataset's folder")
    flags.add_argument("--val", action="store_true", help="prove the validation side only")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show_pairs))
