"""Token files: memory-mapped for reading and checked first; written so that none looks complete before it is.

A shard is 256 little-endian int32 (magic 20240520, version 1, count, zeros), then uint16 tokens; a document is BOS and
its tokens. The contest's published shards have this format, and may cut a document in two between files.
"""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from base.errors import BadInput
from base.files import file_sha256
from data.bytes import ByteTable
from data.manifest import ShardEntry, SplitEntry, SplitName

SHARD_MAGIC, SHARD_VERSION = 20240520, 1
HEADER_INTS = 256
HEADER_BYTES = 4 * HEADER_INTS
BLOCK_TOKENS = 1 << 22
MAX_SHARD_TOKENS = 2**31 - 1  # the header's count is an int32
UINT16 = np.dtype("<u2")

Tokens = npt.NDArray[np.uint16]


def header(count: int) -> bytes:
    ints = np.zeros(HEADER_INTS, "<i4")
    ints[:3] = SHARD_MAGIC, SHARD_VERSION, count
    return ints.tobytes()


def open_shard(path: Path) -> Tokens:
    """The tokens as a read-only memory map, once header and size have been checked."""
    if not path.is_file():
        raise BadInput(f"{path}: no such shard")
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        raise BadInput(f"{path}: {size} bytes, shorter than a shard's {HEADER_BYTES}-byte header")
    magic, version, count = (int(value) for value in np.frombuffer(head, "<i4")[:3])
    if magic != SHARD_MAGIC:
        raise BadInput(f"{path}: magic {magic} is not {SHARD_MAGIC}; this is not a token shard")
    if version != SHARD_VERSION:
        raise BadInput(f"{path}: shard version {version}; this reader knows version {SHARD_VERSION}")
    if count < 0 or size != HEADER_BYTES + UINT16.itemsize * count:
        found = (size - HEADER_BYTES) / UINT16.itemsize
        raise BadInput(f"{path}: the header counts {count} tokens, the file holds {found:g}")
    if count == 0:
        return np.empty(0, UINT16)
    return np.memmap(path, UINT16, "r", HEADER_BYTES)


def describe_shard(path: Path, split: SplitName) -> ShardEntry:
    tokens = len(open_shard(path))
    size = path.stat().st_size
    return ShardEntry(file=path.name, split=split, tokens=tokens, size_bytes=size, sha256=file_sha256(path))


class TokenStream:
    """Several shards read as one long run of tokens that begins again at its end."""

    def __init__(self, shards: Sequence[Tokens]) -> None:
        self._shards = [shard for shard in shards if len(shard)]
        self._ends = np.cumsum([len(shard) for shard in self._shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read_into(self, out: npt.NDArray[Any], start: int) -> None:
        """Fill `out` from position `start` (taken modulo the length), across shards and round the end."""
        if not len(self):
            raise BadInput("no token shards to read from")
        start %= len(self)
        at = int(np.searchsorted(self._ends, start, side="right"))
        begin = start - (int(self._ends[at - 1]) if at else 0)
        filled = 0
        while filled < len(out):
            part = self._shards[at][begin : begin + len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            at = (at + 1) % len(self._shards)
            begin = 0

    def read(self, start: int, count: int) -> Tokens:
        out = np.empty(count, np.uint16)
        if count:
            self.read_into(out, start)
        return out

    def blocks(self) -> Iterator[Tokens]:
        """All tokens once, in blocks that fit a cache; each shard's pages are released as they are done with."""
        for shard in self._shards:
            for start in range(0, len(shard), BLOCK_TOKENS):
                yield shard[start : start + BLOCK_TOKENS]
                _release_pages(shard)

    def totals(self, table: ByteTable, bos_id: int) -> SplitEntry:
        """What its BOS tokens and the byte table alone show: nothing of the source text."""
        documents = exact = contest = 0
        before = bos_id
        for tokens in self.blocks():
            block_exact, block_contest = table.totals(tokens, before)
            documents += int((tokens == bos_id).sum())
            exact += block_exact
            contest += block_contest
            before = int(tokens[-1])
        return SplitEntry(documents=documents, tokens=len(self), bytes=exact, contest_bytes=contest)

    def documents(self, bos_id: int) -> Iterator[Tokens]:
        """Each document's tokens without its BOS, however blocks and shards cut it."""
        parts: list[Tokens] = []  # of the document that is not complete yet, its BOS included
        for block in self.blocks():
            rest, *begun = np.split(block, np.flatnonzero(block == bos_id))
            parts.append(rest)
            for part in begun:
                yield from _document(parts, bos_id)
                parts = [part]
        yield from _document(parts, bos_id)


def _document(parts: list[Tokens], bos_id: int) -> Iterator[Tokens]:
    """The document that these parts make up, if they hold any token."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return
    tokens = filled[0] if len(filled) == 1 else np.concatenate(filled)
    if tokens[0] != bos_id:
        raise BadInput(f"the stream begins with {len(tokens)} tokens that belong to no document (no BOS {bos_id})")
    yield np.asarray(tokens[1:])


def _release_pages(tokens: Tokens) -> None:
    """A memory map's pages count as ours once touched, and a walk over a dataset touches them all."""
    pages: object = tokens.base
    if isinstance(pages, mmap.mmap):
        pages.madvise(mmap.MADV_DONTNEED)


class ShardWriter:
    """Streams one split's documents into shards of about `shard_tokens`; a document is never cut.

    Until a shard is finished its header counts 0 tokens in a file that holds more, so no reader takes it.
    """

    def __init__(self, folder: Path, split: SplitName, shard_tokens: int) -> None:
        self.entries: list[ShardEntry] = []
        self._folder = folder
        self._split = split
        self._limit = shard_tokens
        self._open()

    def write(self, documents: Iterable[Tokens]) -> None:
        """Complete documents, each with its BOS."""
        for document in documents:
            if self._tokens and self._tokens + len(document) > self._limit:
                self._finish()
                self._open()
            self._stream.write(np.ascontiguousarray(document, UINT16).data)
            self._tokens += len(document)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._finish()
        else:
            self._stream.close()

    def _open(self) -> None:
        self._path = self._folder / f"{self._split}_{len(self.entries):06d}.bin"
        self._tokens = 0
        self._stream = self._path.open("wb")
        self._stream.write(header(0))

    def _finish(self) -> None:
        if self._tokens > MAX_SHARD_TOKENS:
            raise BadInput(f"a document of {self._tokens} tokens does not fit a shard ({MAX_SHARD_TOKENS} tokens)")
        self._stream.seek(0)
        self._stream.write(header(self._tokens))
        self._stream.close()
        self.entries.append(describe_shard(self._path, self._split))
