"""Token files: memory-mapped for reading and checked first; written so that none looks complete before it is.

A shard is 256 little-endian int32 (magic 20240520, version 1, count, zeros), then uint16 tokens; a document is BOS and
its tokens. The contest's published shards have this format, and may cut a document in two between files.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from base.errors import BadInput
from base.files import complete_file, file_sha256, partial_path
from data.bytes import ByteTable
from data.manifest import ShardEntry, SplitEntry, SplitName

SHARD_MAGIC, SHARD_VERSION = 20240520, 1
HEADER_INTS = 256
HEADER_BYTES = 4 * HEADER_INTS
BLOCK_TOKENS = 1 << 22
UINT16 = np.dtype("<u2")

Tokens = npt.NDArray[np.uint16]


def header(count: int) -> bytes:
    ints = np.zeros(HEADER_INTS, "<i4")
    ints[:3] = SHARD_MAGIC, SHARD_VERSION, count
    return ints.tobytes()


def open_shard(path: Path) -> Tokens:
    """The tokens as a read-only memory map, once header and size have been checked."""
    head = np.fromfile(path, "<i4", HEADER_INTS)
    if len(head) < HEADER_INTS:
        raise BadInput(f"{path}: shorter than a shard's {HEADER_BYTES}-byte header")
    magic, version, count = head[:3].tolist()
    if (magic, version) != (SHARD_MAGIC, SHARD_VERSION):
        raise BadInput(f"{path}: magic {magic}, version {version}; a shard has {SHARD_MAGIC} and {SHARD_VERSION}")
    found = (path.stat().st_size - HEADER_BYTES) / UINT16.itemsize
    if count != found:
        raise BadInput(f"{path}: the header counts {count} tokens, the file holds {found:g}")
    return np.memmap(path, UINT16, "r", HEADER_BYTES) if count else np.empty(0, UINT16)


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

    def read(self, start: int, count: int) -> Tokens:
        """`count` tokens from position `start` (taken modulo the length), across shards and round the end."""
        out = np.empty(count, np.uint16)
        filled = 0
        while filled < count:
            position = (start + filled) % len(self)
            at = int(np.searchsorted(self._ends, position, side="right"))
            from_end = int(self._ends[at]) - position
            part = self._shards[at][-from_end:][: count - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
        return out

    def blocks(self) -> Iterator[Tokens]:
        """All tokens once, in blocks that fit a cache."""
        for shard in self._shards:
            for start in range(0, len(shard), BLOCK_TOKENS):
                yield shard[start : start + BLOCK_TOKENS]

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
        rest = np.empty(0, UINT16)  # the document that is not complete yet, its BOS included
        for block in self.blocks():
            tokens = np.concatenate([rest, block])
            if tokens[0] != bos_id:
                raise BadInput(f"the stream begins with token {tokens[0]}, not BOS {bos_id}: it belongs to no document")
            begins = np.flatnonzero(tokens == bos_id)
            for begin, end in itertools.pairwise(begins):
                yield tokens[begin + 1 : end]
            rest = tokens[begins[-1] :]
        if len(rest):
            yield rest[1:]


def open_stream(folder: Path, entries: Iterable[ShardEntry], split: SplitName) -> TokenStream:
    """One side of a dataset; each shard must hold as many tokens as its entry claims."""
    shards = []
    for entry in entries:
        if entry.split != split:
            continue
        shard = open_shard(folder / entry.file)
        if len(shard) != entry.tokens:
            raise BadInput(f"{folder / entry.file}: {len(shard)} tokens; the manifest has {entry.tokens}")
        shards.append(shard)
    return TokenStream(shards)


def write_shard(path: Path, split: SplitName, runs: Sequence[Tokens]) -> ShardEntry:
    """These tokens, end to end. A file of that name is complete."""
    with partial_path(path).open("wb") as stream:
        stream.write(header(sum(map(len, runs))))
        for run in runs:
            run.astype(UINT16, copy=False).tofile(stream)
        complete_file(stream, path)
    return describe_shard(path, split)
