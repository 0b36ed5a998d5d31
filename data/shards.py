"""Token files: written so that a killed run leaves none that looks complete, read as memory maps, checked first.

golf    256 little-endian int32 (magic 20240520, version 1, count, zeros), then uint16 tokens; a document is BOS +
        tokens. The contest's published shards are these, and may cut a document in two between files.
rscalm  headerless int32 tokens in train.bin and val.bin, each document followed by EOS (seed system 001).
"""

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from base.errors import BadInput
from base.files import file_sha256
from data.bytes import ByteTable
from data.manifest import Layout, ShardEntry, SplitName

SHARD_MAGIC, SHARD_VERSION = 20240520, 1
HEADER_INTS = 256
HEADER_BYTES = 4 * HEADER_INTS
BLOCK_TOKENS = 1 << 22
MAX_SHARD_TOKENS = 2**31 - 1  # the header's count is an int32

Tokens = npt.NDArray[Any]  # uint16 (golf) or int32 (rscalm)
DTYPES: dict[Layout, np.dtype[Any]] = {"golf": np.dtype("<u2"), "rscalm": np.dtype("<i4")}


def header(count: int) -> bytes:
    ints = np.zeros(HEADER_INTS, "<i4")
    ints[:3] = SHARD_MAGIC, SHARD_VERSION, count
    return ints.tobytes()


def open_shard(path: Path, layout: Layout = "golf") -> Tokens:
    """The tokens as a read-only memory map, after every size and mark has been checked."""
    if not path.is_file():
        raise BadInput(f"{path}: no such shard")
    size = path.stat().st_size
    width = DTYPES[layout].itemsize
    offset = HEADER_BYTES if layout == "golf" else 0
    if layout == "golf":
        with path.open("rb") as stream:
            head = stream.read(HEADER_BYTES)
        if len(head) < HEADER_BYTES:
            raise BadInput(f"{path}: {size} bytes, shorter than a shard's {HEADER_BYTES}-byte header")
        magic, version, count = (int(i) for i in np.frombuffer(head, "<i4")[:3])
        if magic != SHARD_MAGIC:
            raise BadInput(f"{path}: magic {magic} is not {SHARD_MAGIC}; this is not a token shard")
        if version != SHARD_VERSION:
            raise BadInput(f"{path}: shard version {version}; this reader knows version {SHARD_VERSION}")
        if count < 0 or size != HEADER_BYTES + width * count:
            raise BadInput(f"{path}: header says {count} tokens, the file holds {(size - HEADER_BYTES) / width:g}")
    elif size % width:
        raise BadInput(f"{path}: {size} bytes is not a whole number of int32 tokens")
    if size == offset:
        return np.empty(0, DTYPES[layout])
    return np.memmap(path, DTYPES[layout], "r", offset)


def _give_back_pages(tokens: Tokens) -> None:
    """A memory map's pages count as ours once touched, and a walk over a dataset touches them all."""
    pages: object = tokens.base
    if isinstance(pages, mmap.mmap):
        pages.madvise(mmap.MADV_DONTNEED)


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
            at, begin = (at + 1) % len(self._shards), 0

    def read(self, start: int, count: int) -> Tokens:
        out = np.empty(count, self._shards[0].dtype if self._shards else np.uint16)
        if count:
            self.read_into(out, start)
        return out

    def blocks(self) -> Iterator[Tokens]:
        """The whole stream in blocks that fit a cache, each shard's pages given back when it is done with."""
        for shard in self._shards:
            for start in range(0, len(shard), BLOCK_TOKENS):
                yield shard[start : start + BLOCK_TOKENS]
                _give_back_pages(shard)

    def count(self, table: ByteTable, mark: int) -> tuple[int, int, int]:
        """(documents, exact bytes, contest bytes) of the whole stream, by its marks and the byte table alone."""
        documents = exact = contest = 0
        before = mark
        for tokens in self.blocks():
            sums = table.totals(tokens, before)
            documents, exact, contest = documents + int((tokens == mark).sum()), exact + sums[0], contest + sums[1]
            before = int(tokens[-1])
        return documents, exact, contest

    def documents(self, layout: Layout, bos_id: int, eos_id: int) -> Iterator[Tokens]:
        """Each document's tokens without its mark: BOS before it (golf), or EOS after it (rscalm)."""
        mark_ends = layout == "rscalm"
        mark = eos_id if mark_ends else bos_id
        parts: list[Tokens] = []
        begun = mark_ends  # tokens before the first BOS belong to no document
        for block in self.blocks():
            start = 0
            for at in np.flatnonzero(block == mark).tolist():
                if begun:
                    yield _one_array([*parts, block[start:at]])
                elif at:
                    raise BadInput(f"the stream begins with {at} tokens before its first document's mark {mark}")
                parts, start, begun = [], at + 1, True
            parts.append(block[start:])
        if begun and not mark_ends:
            yield _one_array(parts)
        elif sum(map(len, parts)):
            raise BadInput(f"the stream has {sum(map(len, parts))} tokens outside any document (mark {mark})")


def _one_array(parts: list[Tokens]) -> Tokens:
    return np.asarray(parts[0]) if len(parts) == 1 else np.concatenate(parts)


class ShardWriter:
    """Streams one split's documents into shards of about `shard_tokens`; a document is never cut.

    Until a shard is finished its header counts 0 tokens over a file that holds more: no reader takes it for whole.
    """

    def __init__(self, folder: Path, split: SplitName, layout: Layout, shard_tokens: int) -> None:
        if not 0 < shard_tokens <= MAX_SHARD_TOKENS:
            raise BadInput(f"--shard-tokens {shard_tokens}: a shard holds 1 to {MAX_SHARD_TOKENS} tokens")
        self.entries: list[ShardEntry] = []
        self._folder, self._split, self._layout = folder, split, layout
        self._limit = shard_tokens if layout == "golf" else 2**62
        self._tokens = 0
        self._open()

    def write(self, tokens: Tokens, lengths: Tokens) -> None:
        """Whole documents: their tokens end to end, and each one's number of tokens."""
        ends = np.cumsum(lengths, dtype=np.int64)
        done = first = 0
        while first < len(ends):
            fit = int(np.searchsorted(ends, done + self._limit - self._tokens, side="right"))
            if fit <= first and self._tokens:
                self._finish()
                self._open()
                continue
            upto = int(ends[max(fit, first + 1) - 1])
            self._put(np.ascontiguousarray(tokens[done:upto], DTYPES[self._layout]))
            self._tokens += upto - done
            done, first = upto, max(fit, first + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._finish()
        else:
            self._stream.close()

    def _put(self, tokens: Tokens) -> None:
        try:
            self._stream.write(tokens.data)
        except OSError as full:
            raise OSError(full.errno, full.strerror, str(self._path)) from None

    def _open(self) -> None:
        name = f"{self._split}_{len(self.entries):06d}.bin" if self._layout == "golf" else f"{self._split}.bin"
        self._path = self._folder / name
        self._tokens = 0
        self._stream = self._path.open("wb")
        if self._layout == "golf":
            self._stream.write(header(0))

    def _finish(self) -> None:
        if self._tokens > MAX_SHARD_TOKENS and self._layout == "golf":
            raise BadInput(f"a document of {self._tokens} tokens does not fit a shard ({MAX_SHARD_TOKENS} tokens)")
        if self._layout == "golf":
            self._stream.seek(0)
            self._stream.write(header(self._tokens))
        self._stream.close()
        path = self._path
        self.entries.append(
            ShardEntry(
                file=path.name,
                split=self._split,
                tokens=self._tokens,
                size_bytes=path.stat().st_size,
                sha256=file_sha256(path),
            )
        )
