"""Documents -> tokens whose bytes are proved, on several threads, in order.

Every document is proved as it is encoded: the byte table's bytes for its tokens must be its text (under a tokenizer
that normalises, its normalised text). A tokenizer or a table that is wrong about one document stops the run there.

Threads suffice: SentencePiece encodes without the interpreter's lock, and that is nine tenths of the work.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from base.errors import BadInput
from data.bytes import ByteTable
from data.readers import Document
from data.split import document_digest
from data.tokenizer import Ids, Tokenizer

BATCH_CHARS = 1 << 20

Labelled = tuple[int, Document]


class Encoded(NamedTuple):
    label: int
    ids: Ids  # with BOS
    digest: bytes  # of the text as the tokenizer normalises it
    size_bytes: int  # of the text


def cores() -> int:
    """How many threads this process may keep busy."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encode_all(labelled: Iterable[Labelled], tokenizer: Tokenizer, workers: int) -> Iterator[Encoded]:
    """Every document encoded, in the order given; at most two batches per worker are in memory."""
    table = ByteTable(tokenizer)
    waiting: deque[Future[list[Encoded]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for batch in _batches(labelled):
            waiting.append(pool.submit(encode_batch, tokenizer, table, batch))
            if len(waiting) == 2 * workers:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()


def encode_batch(tokenizer: Tokenizer, table: ByteTable, batch: list[Labelled]) -> list[Encoded]:
    bos = np.array([tokenizer.bos_id], np.uint16)
    encoded = []
    for label, (name, text) in batch:
        ids = tokenizer.encode(text)
        normal = tokenizer.normalize(text)
        data = normal.encode()
        back = table.join(ids)
        if back == data and not tokenizer.lossless:  # which has not been proved to decode to its bytes
            back = tokenizer.decode(ids).encode()
        if back != data:
            pairs = enumerate(zip(back, data, strict=False))
            at = next((at for at, (ours, its) in pairs if ours != its), min(len(back), len(data)))
            raise BadInput(
                f"{name}: the tokenizer does not give this document back; its bytes cannot be counted. "
                f"From byte {at:,} on it gives {back[at : at + 20]!r}, and the document has {data[at : at + 20]!r}"
            )
        counted = int(table.exact_bytes(ids).sum())
        if counted != len(data):
            raise BadInput(f"{name}: its tokens count {counted:,} bytes, and it has {len(data):,}")
        digest = document_digest(data)
        encoded.append(Encoded(label, np.concatenate([bos, ids]), digest, len(text.encode())))
    return encoded


def _batches(labelled: Iterable[Labelled]) -> Iterator[list[Labelled]]:
    """Batches large enough to be worth a thread's while."""
    batch: list[Labelled] = []
    chars = 0
    for label, document in labelled:
        batch.append((label, document))
        chars += len(document.text)
        if chars >= BATCH_CHARS:
            yield batch
            batch = []
            chars = 0
    yield batch
