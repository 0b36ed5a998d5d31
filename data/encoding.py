"""Documents -> proved token batches, over several processes, in order.

Every document is proved as it is encoded: the byte table's bytes for its tokens must be its text (under a tokenizer
that normalises, its normalised text). A tokenizer or a table that is wrong about one document stops the run there.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from base.errors import BadInput
from data.bytes import ByteTable
from data.manifest import Layout
from data.split import document_digest
from data.tokenizer import Ids, Tokenizer, load_tokenizer

BATCH_CHARS = 1 << 20


class Pending(NamedTuple):
    name: str
    text: str
    digest: bytes  # of the text as the first pass read it (and the tokenizer normalises it)


class Encoded(NamedTuple):
    tokens: Ids  # documents end to end, each with its mark
    lengths: npt.NDArray[np.int64]  # tokens of each document, mark included
    exact_bytes: int
    contest_bytes: int
    raw_bytes: int


def cores() -> int:
    """How many processes this one may keep busy."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encode_all(
    batches: Iterable[tuple[int, list[Pending]]], model: bytes, layout: Layout, workers: int
) -> Iterator[tuple[int, Encoded]]:
    """Each (label, batch) encoded, in the order given; at most two batches a worker are in memory."""
    if workers == 1:
        for label, batch in batches:
            yield label, encode_batch(model, layout, batch)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    waiting: deque[tuple[int, Future[Encoded]]] = deque()
    pool = ProcessPoolExecutor(workers, context, initializer=_end_with_parent)
    try:
        for label, batch in batches:
            with _interrupts_held():  # any submit may start a worker
                waiting.append((label, pool.submit(encode_batch, model, layout, batch)))
            if len(waiting) >= 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()
    except BrokenProcessPool:
        raise BadInput("a worker process was killed, most likely for memory; try fewer --workers") from None
    finally:
        with _interrupts_ignored():  # a second Ctrl-C must not leave workers behind
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the end. A process started meanwhile never sees one: it is the parent's to handle."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread has signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def encode_batch(model: bytes, layout: Layout, batch: list[Pending]) -> Encoded:
    tokenizer, table = _tools(model)
    encoded = [_proved(tokenizer, table, document) for document in batch]
    bos, eos = (np.array([mark], np.uint16) for mark in (tokenizer.bos_id, tokenizer.eos_id))
    marked = [part for ids in encoded for part in ((bos, ids) if layout == "golf" else (ids, eos))]
    tokens = np.concatenate(marked)  # marks are 0 bytes, and boundaries to the document that follows them
    return Encoded(
        tokens,
        np.array([len(ids) + 1 for ids in encoded], np.int64),
        *table.totals(tokens, tokenizer.bos_id),
        sum(len(document.text.encode()) for document in batch),
    )


def _proved(tokenizer: Tokenizer, table: ByteTable, document: Pending) -> Ids:
    name, text, digest = document
    normal = tokenizer.normalize(text)
    if document_digest(normal.encode()) != digest:
        raise BadInput(f"{name}: the document changed while it was being read; run again on a source at rest")
    ids = tokenizer.encode(text)
    # A lossless tokenizer was proved to decode to its bytes; of another, decode is asked each time.
    if table.join(ids) != normal.encode() or not (tokenizer.lossless or tokenizer.decode(ids) == normal):
        raise BadInput(f"{name}: the tokenizer does not give this document back; its bytes cannot be counted")
    return ids


@lru_cache(maxsize=1)
def _tools(model: bytes) -> tuple[Tokenizer, ByteTable]:
    tokenizer = load_tokenizer(model)
    return tokenizer, ByteTable(tokenizer)


def _end_with_parent() -> None:
    """A pool's workers otherwise outlive a parent that is killed, and hold its files open."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
