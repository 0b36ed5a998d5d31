"""Which documents train and which validate: pure functions of the documents' hashes, no files.

`hash`  validates a document when the first 8 bytes of its SHA-256, as a fraction of 2^64, are below the given
        fraction. Equal documents always fall on the same side, in every corpus and in any order.
`tail`  validates the last documents, as seed system 001 does; training copies of a validation document are dropped.

Repeats inside one side are kept (a line-per-document corpus has many legitimate ones) and counted.
"""

import hashlib
from typing import Literal

import numpy as np
import numpy.typing as npt

from base.errors import BadInput

SplitRule = Literal["hash", "tail"]
Labels = npt.NDArray[np.uint8]
Sizes = npt.NDArray[np.int64]  # of each document, in bytes
Digests = npt.NDArray[np.uint64]  # (documents, 2): the first 16 bytes of SHA-256 as two big-endian integers

TRAIN, VAL, DROPPED = 0, 1, 2


def document_digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:16]


def as_digests(joined: bytearray) -> Digests:
    """Digests end to end -> one row per document."""
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


def hash_digests(digests: Digests) -> str:
    """SHA-256 over the digests in order: what a manifest names documents by."""
    return hashlib.sha256(digests.astype(">u8").tobytes()).hexdigest()


def split_documents(rule: SplitRule, digests: Digests, fraction: float) -> Labels:
    """TRAIN, VAL or DROPPED for every document; neither side is ever empty."""
    count = len(digests)
    if count < 2:
        raise BadInput(f"{count} document in all; a split needs two (for .txt, --txt line makes a line a document)")
    labels = np.full(count, TRAIN, np.uint8)
    if rule == "hash":
        labels[digests[:, 0] < np.uint64(int(fraction * 2**64))] = VAL
    else:
        labels[count - max(1, int(count * fraction)) :] = VAL
        copies = np.isin(digests[:, 0], digests[labels == VAL, 0])
        labels[copies & (labels == TRAIN)] = DROPPED
    for side, name in ((VAL, "validation"), (TRAIN, "training")):
        if side not in labels:
            raise BadInput(f"none of {count} documents is left for {name}; try another --val-fraction than {fraction}")
    return labels


def tokenizer_sample(labels: Labels, digests: Digests, sizes: Sizes, limit_bytes: int) -> npt.NDArray[np.bool_]:
    """The training documents that the tokenizer learns from: the first by hash, until they exceed the limit.

    The order is by bytes 8 to 16 of the hash, which the split does not look at.
    """
    train = np.flatnonzero(labels == TRAIN)
    order = train[np.argsort(digests[train, 1], kind="stable")]
    before = np.cumsum(sizes[order]) - sizes[order]
    taken = np.zeros(len(labels), np.bool_)
    taken[order[before < limit_bytes]] = True
    return taken
