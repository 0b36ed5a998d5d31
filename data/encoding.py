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


class Encoded(NamedTuple):
    documents: list[Ids]  # each with its BOS
    digests: bytes  # of the documents as the tokenizer normalises them
    exact_bytes: int
    contest_bytes: int
    raw_bytes: int


def cores() -> int:
    """How many threads this process may keep busy."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encode_all(
    batches: Iterable[tuple[int, list[Document]]], tokenizer: Tokenizer, workers: int
) -> Iterator[tuple[int, Encoded]]:
    """Each (label, batch) encoded, in the order given; at most two batches per worker are in memory."""
    table = ByteTable(tokenizer)
    waiting: deque[tuple[int, Future[Encoded]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for label, batch in batches:
            waiting.append((label, pool.submit(encode_batch, tokenizer, table, batch)))
            if len(waiting) == 2 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for label, future in waiting:
            yield label, future.result()


def encode_batch(tokenizer: Tokenizer, table: ByteTable, batch: list[Document]) -> Encoded:
    bos = np.array([tokenizer.bos_id], np.uint16)
    documents: list[Ids] = []
    digests = bytearray()
    for name, text in batch:
        ids = tokenizer.encode(text)
        normal = tokenizer.normalize(text)
        # A lossless tokenizer has been proved to decode to its bytes; any other has to decode every document.
        if table.join(ids) != normal.encode() or not (tokenizer.lossless or tokenizer.decode(ids) == normal):
            raise BadInput(f"{name}: the tokenizer does not give this document back; its bytes cannot be counted")
        documents.append(np.concatenate([bos, ids]))
        digests += document_digest(normal.encode())
    exact, contest = table.totals(np.concatenate(documents), tokenizer.bos_id)
    raw = sum(len(document.text.encode()) for document in batch)
    return Encoded(documents, bytes(digests), exact, contest, raw)
