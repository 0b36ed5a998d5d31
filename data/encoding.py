"""Documents -> tokens whose bytes are proved, in several processes, in order.

Every document is proved as it is encoded: the byte table's bytes for its tokens must be its text (under a tokenizer
that normalises, its normalised text). A tokenizer or a table that is wrong about one document stops the run there.
"""

import itertools
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context, parent_process
from typing import NamedTuple

import numpy as np

from base.errors import BadInput, CheckFailed
from data.bytes import ByteTable
from data.overlap import tokens_digest
from data.readers import Document
from data.split import document_digest
from data.tokenizer import Ids, Tokenizer, load_tokenizer

BATCH_CHARS = 1 << 20

Labelled = tuple[int, Document]


class Encoded(NamedTuple):
    label: int
    ids: Ids  # with BOS
    digest: bytes  # of the text as the tokenizer normalises it
    tokens_digest: bytes
    size_bytes: int  # of the text
    bytes: int  # of the tokens, by either rule of data/bytes.py
    contest_bytes: int


def cores() -> int:
    """How many processes this one may keep busy."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encode_all(labelled: Iterable[Labelled], tokenizer: Tokenizer, workers: int) -> Iterator[Encoded]:
    """Every document encoded, in the order given; at most two batches per worker are in memory."""
    batches = _batches(labelled)
    first = list(itertools.islice(batches, 2))
    if workers == 1 or len(first) < 2:  # not worth a process
        encoder = Encoder(tokenizer)
        for batch in itertools.chain(first, batches):
            yield from encoder.encode(batch)
        return
    waiting: deque[Future[list[Encoded]]] = deque()
    with start_pool(workers) as pool:
        try:
            for batch in itertools.chain(first, batches):
                waiting.append(pool.submit(_encode_in_worker, tokenizer.model, batch))
                if len(waiting) == 2 * workers:
                    yield from waiting.popleft().result()
            for future in waiting:
                yield from future.result()
        except BrokenProcessPool:
            raise CheckFailed("a process that encodes was killed; is there memory enough for --workers?") from None


def start_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that end with this one, however it ends."""
    return ProcessPoolExecutor(workers, get_context("spawn"), _end_with_parent)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Encoder:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.table = ByteTable(tokenizer)

    def encode(self, batch: list[Labelled]) -> list[Encoded]:
        return [self.encode_document(label, document) for label, document in batch]

    def encode_document(self, label: int, document: Document) -> Encoded:
        name, text = document
        tokenizer, table = self.tokenizer, self.table
        ids = tokenizer.encode(text)
        raw = text.encode()
        data = raw if tokenizer.lossless else tokenizer.normalize(text).encode()
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
        counted, contest = table.totals(ids, tokenizer.bos_id)
        if counted != len(data):
            raise BadInput(f"{name}: its tokens count {counted:,} bytes, and it has {len(data):,}")
        with_bos = np.concatenate([np.array([tokenizer.bos_id], np.uint16), ids])
        digests = document_digest(data), tokens_digest(ids)
        return Encoded(label, with_bos, *digests, len(raw), counted, contest)


@cache
def _load_encoder(model: bytes) -> Encoder:
    return Encoder(load_tokenizer(model))


def _encode_in_worker(model: bytes, batch: list[Labelled]) -> list[Encoded]:
    return _load_encoder(model).encode(batch)


def _batches(labelled: Iterable[Labelled]) -> Iterator[list[Labelled]]:
    """Batches large enough to be worth sending to a process."""
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
