"""Prove a dataset from its files alone: hashes, every document's bytes, totals, no document on both sides.

    python -m data.check data/datasets/stdlib
    python -m data.check data/datasets/fineweb10B_sp1024 --val      (validation only: training shards are many)

For every document the byte table's bytes must equal what the tokenizer decodes, and (under a lossless tokenizer) its
tokens must be what that text encodes to. Their sums must be the manifest's, and where the manifest holds the source
documents' hash, the decoded documents must have it. Exit code 1 says which claim fails; 2, that a file is not the one
that the manifest names (missing, damaged, another hash).
"""

import argparse
import hashlib
import sys
import time
from pathlib import Path

import numpy as np

from base.cli import Answer, OneLineParser, command, run
from base.errors import CheckFailed
from base.progress import Advance, byte_progress
from data.dataset import Dataset, open_dataset
from data.manifest import SplitName
from data.overlap import find_overlap
from data.split import document_digest


def act(args: argparse.Namespace) -> Answer:
    started = time.monotonic()
    dataset = open_dataset(args.dataset)
    manifest = dataset.manifest
    sides: tuple[SplitName, ...] = ("val",) if args.val else ("val", "train")
    proved: dict[str, object] = {}
    with byte_progress("proving", sum(manifest.side(side).bytes for side in sides)) as advance:
        for side in sides:
            proved[f"{side}_docs"], proved[f"{side}_bytes"] = prove_side(dataset, side, advance)
    overlap = find_overlap(dataset.documents("train"), dataset.documents("val"))
    shared = overlap.documents if overlap else 0
    if shared != manifest.shared_documents:
        raise CheckFailed(f"{dataset.path}: {overlap or 'no document is on both sides'}; the manifest says otherwise")
    return {
        "path": str(Path(args.dataset).resolve()),
        **proved,
        "source_proved": all(manifest.side(side).documents_sha256 is not None for side in sides),
        "shared_docs": shared,
        "data_sha256": manifest.data_sha256(),
        "val_sha256": manifest.data_sha256("val"),
        "seconds": round(time.monotonic() - started, 3),
    }


def prove_side(dataset: Dataset, side: SplitName, advance: Advance = lambda _: None) -> tuple[int, int]:
    """(documents, bytes) of one side, each document's table bytes compared with its decoded text."""
    tokenizer = dataset.tokenizer
    documents = exact = 0
    digests = hashlib.sha256()
    for tokens in dataset.documents(side):
        where = f"{dataset.path}: {side} document {documents}"
        try:
            sizes = dataset.table.exact_bytes(tokens)
        except ValueError as outside:
            raise CheckFailed(f"{where}: {outside}") from None
        raw = tokenizer.decode(tokens).encode()
        if dataset.table.join(tokens) != raw:
            raise CheckFailed(f"{where}: its {sizes.sum()} table bytes are not the bytes of its decoded text")
        if not sizes.all():
            raise CheckFailed(
                f"{where}: token {tokens[sizes == 0][0]} inside it has no bytes; specials mark documents only"
            )
        if tokenizer.lossless and not np.array_equal(tokenizer.encode(raw.decode()), tokens):
            raise CheckFailed(f"{where}: its tokens are not what the tokenizer makes of its text")
        digests.update(document_digest(raw))
        documents, exact = documents + 1, exact + len(raw)
        advance(len(raw))
    count_tokens(dataset, side)
    claimed = dataset.manifest.side(side)
    if exact != claimed.bytes or (tokenizer.lossless and claimed.raw_bytes not in (None, exact)):
        raise CheckFailed(f"{dataset.path}: {side} decodes to {exact:,} bytes; the manifest claims {claimed.bytes:,}")
    if claimed.documents_sha256 not in (None, digests.hexdigest()):
        raise CheckFailed(f"{dataset.path}: the {side} documents decode to other text than the source they came from")
    return documents, exact


def count_tokens(dataset: Dataset, *sides: SplitName) -> None:
    """The manifest's totals against the tokens, by the byte table: quick, and no word about the text."""
    mark = dataset.mark
    for side in sides or ("train", "val"):
        claimed = dataset.manifest.side(side)
        stream = dataset.train if side == "train" else dataset.val
        counted = stream.count(dataset.table, mark)
        said = (claimed.documents, claimed.bytes, claimed.contest_bytes)
        for name, found, claim in zip(("documents", "bytes", "contest bytes"), counted, said, strict=True):
            if found != claim:
                raise CheckFailed(f"{dataset.path}: {side} holds {found:,} {name}; the manifest claims {claim:,}")


def show(answer: Answer) -> str:
    lines = [f"{answer['path']}: proved in {answer['seconds']:.1f} s"]
    for side, name in (("train", "training"), ("val", "validation")):
        if f"{side}_docs" in answer:
            docs, size = answer[f"{side}_docs"], answer[f"{side}_bytes"]
            lines.append(f"  {name:<11} {docs:>10,} documents {size:>14,} bytes, each equal to its decoded text")
    if answer["source_proved"]:
        lines.append("  the documents have the hash of the source that they were made from")
    else:
        lines.append("  the manifest holds no hash of the source documents: their text is taken as it decodes")
    lines.append(f"  on both sides: {answer['shared_docs']:,} documents; every file has the manifest's hash")
    lines.append(f"  data        {answer['data_sha256']}")
    return "\n".join(lines)


def parser() -> OneLineParser:
    flags = command("data.check", __doc__ or "")
    flags.add_argument("dataset", metavar="DATASET", help="a dataset's folder")
    flags.add_argument("--val", action="store_true", help="prove the validation side only")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
