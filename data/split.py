"""Which documents train and which validate: pure functions of the documents' hashes, no files.

`hash`  validates a document when the first 8 bytes of its SHA-256, as a fraction of 2^64, are below the given
        fraction. Equal documents always fall on the same side, in every corpus and in any order.
`tail`  validates the last documents, as seed system 001 does; training copies of a validation document are dropped.

Repeats inside one side are kept (a line-per-document corpus has many legitimate ones) and counted.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from base.errors import BadInput

SplitRule = Literal["hash", "tail"]
Labels = npt.NDArray[np.uint8]
Sizes = npt.NDArray[np.int64]  # of each document, in bytes
Keys = npt.NDArray[np.uint64]  # half of each document's digest
Digests = npt.NDArray[np.uint64]  # (documents, 2): the first 16 bytes of SHA-256 as two big-endian integers

TRAIN, VAL, DROPPED = 0, 1, 2
BUCKET = 1 << 26  # documents whose repeats are counted at a time


def document_digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:16]


def as_digests(joined: bytearray) -> Digests:
    """Digests end to end -> one row per document."""
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


def label_by_hash(digests: Digests, fraction: float) -> Labels:
    return np.where(digests[:, 0] < np.uint64(int(fraction * 2**64)), VAL, TRAIN).astype(np.uint8)


def label_tail(digests: Digests, train_end: int, val_keys: Keys) -> Labels:
    """Validation is from `train_end` on; `val_keys` are those of all validation documents, other parts' included."""
    labels = np.full(len(digests), VAL, np.uint8)
    labels[:train_end] = np.where(np.isin(digests[:train_end, 0], val_keys), DROPPED, TRAIN)
    return labels


def has_shared_band(bands: Keys, others: Keys) -> npt.NDArray[np.bool_]:
    """Which rows have, in some column, a value that the others have there."""
    shared = [np.isin(ours, theirs) for ours, theirs in zip(bands.T, others.T, strict=True)]
    found: npt.NDArray[np.bool_] = np.any(shared, axis=0)
    return found


def require_sides(counts: npt.NDArray[np.int64], fraction: float) -> None:
    """Refuse a split, as documents by label, with an empty side."""
    for side, name in ((VAL, "validation"), (TRAIN, "training")):
        if not counts[side]:
            raise BadInput(
                f"none of {counts.sum()} documents is left for {name}; try another --val-fraction than {fraction}"
            )


def first_by_key(keys: Keys, sizes: Sizes, limit_bytes: int) -> npt.NDArray[np.int64]:
    """Positions of the documents with the smallest keys, until they exceed the limit, in the order of positions."""
    order = np.argsort(keys, kind="stable")
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.sort(order[before < limit_bytes])


def count_repeats(parts: Iterable[Keys], bucket: int = BUCKET) -> int:
    """How many documents are copies of others: `parts` are sorted keys. Memory holds a bucket of the keys at a time."""
    kept = list(parts)
    total = sum(map(len, kept))
    edges = np.linspace(0, 2.0**64, total // bucket + 2)[1:-1].astype(np.uint64)
    cuts = [[0, *np.searchsorted(keys, edges), len(keys)] for keys in kept]
    distinct = 0
    for number in range(len(edges) + 1):
        within = np.concatenate([keys[ends[number] : ends[number + 1]] for keys, ends in zip(kept, cuts, strict=True)])
        within.sort()
        distinct += int(np.count_nonzero(within[1:] != within[:-1])) + bool(len(within))
    return total - distinct
