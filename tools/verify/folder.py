"""A record's folder from a stranger: listed and read without following, running or unpacking more than is bounded.

Plain files only, no links, sizes looked at before anything is read, names that stay inside. What was refused is listed
with its reason, so that a rule can say it.
"""

import bz2
import gzip
import hashlib
import lzma
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO, Any

import zstandard

from base.errors import BadInput
from base.files import open_plain

MOST_FILES, DEEPEST = 2_000, 6
READABLE_BYTES = {  # of files that are read whole, by how their names end
    "submission.json": 1 << 20,
    ".json": 4 << 20,
    ".md": 4 << 20,
    "requirements.txt": 1 << 18,
    ".py": 1 << 19,
    ".log": 8 << 20,
    ".jsonl": 16 << 20,
    ".golf": 256 << 20,
    ".model": 16 << 20,
}
OTHER_BYTES = 16 << 20
HASHED_BYTES = 1 << 30  # over all files: more is not a record of this contest, and takes longer than seconds
UNPACKED_BYTES = 8 << 20  # of a compressed log
BLOCK = 1 << 20

OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".xz": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
    ".zst": lambda raw: zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(raw, read_across_frames=True),
}
BROKEN = (OSError, EOFError, lzma.LZMAError, zstandard.ZstdError, ValueError, MemoryError)


class Folder:
    """`files`: every plain file, by its path inside, and its bytes on disk. `refused`: what was not looked into."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise BadInput(f"{path}: not a folder; name a record's, such as records/TRACK/2026-11-21_name")
        self.path = path.resolve()
        self.files: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self._list("", 0)
        self.sha256 = cache(self._sha256)
        self._hashed_bytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def read(self, name: str) -> bytes:
        """The file's bytes; BadInput where it is missing, refused or larger than such a file may be."""
        limit = _limit(name)
        if self._size(name) > limit:
            raise BadInput(f"{name} is {self.files[name]:,} bytes; files like it are read up to {limit:,}")
        with self._open(name) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise BadInput(f"{name} grew while it was read")
        return data

    def text(self, name: str) -> str:
        """UTF-8, of a plain or of a compressed file."""
        data = self._unpacked(name) if PurePosixPath(name).suffix in OPENERS else self.read(name)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"{name}: not UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from None

    def _sha256(self, name: str) -> str:
        if self._size(name) > _limit(name):
            raise BadInput(f"{name} is {self.files[name]:,} bytes; files like it are hashed up to {_limit(name):,}")
        self._hashed_bytes += self.files[name]
        if self._hashed_bytes > HASHED_BYTES:
            raise BadInput(f"{name}: more than {HASHED_BYTES:,} bytes would have to be hashed")
        with self._open(name) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _size(self, name: str) -> int:
        if name in self.refused:
            raise BadInput(f"{name} is {self.refused[name]}")
        if name not in self.files:
            raise BadInput(f"{name} is not in the folder")
        return self.files[name]

    def _open(self, name: str) -> BufferedReader:
        """A file swapped for a link or a pipe since it was listed is refused as well."""
        return open_plain(self.path / name, name)

    def _unpacked(self, name: str) -> bytes:
        self._size(name)
        with self._open(name) as raw:
            try:
                data: bytes = OPENERS[PurePosixPath(name).suffix](raw).read(UNPACKED_BYTES + 1)
            except BROKEN as error:
                raise BadInput(f"{name}: does not unpack: {error!r:.120}") from None
        if len(data) > UNPACKED_BYTES:
            raise BadInput(f"{name}: {self.files[name]:,} bytes that unpack to more than {UNPACKED_BYTES:,}")
        return data

    def _list(self, under: str, depth: int) -> None:
        with os.scandir(self.path / under) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = f"{under}{entry.name}"
                if len(self.files) + len(self.refused) >= MOST_FILES:
                    self.refused["(more)"] = f"one of more than {MOST_FILES:,} files"
                    return
                if entry.is_symlink():
                    self.refused[name] = "a symbolic link"
                elif entry.is_dir(follow_symlinks=False):
                    if depth == DEEPEST:
                        self.refused[name] = f"deeper than {DEEPEST} folders"
                    else:
                        with suppress(PermissionError):
                            self._list(f"{name}/", depth + 1)
                elif entry.is_file(follow_symlinks=False):
                    self.files[name] = entry.stat(follow_symlinks=False).st_size
                else:
                    self.refused[name] = "neither a file nor a folder"


def _limit(name: str) -> int:
    return next((size for end, size in READABLE_BYTES.items() if name.endswith(end)), OTHER_BYTES)


def is_inside(name: str) -> bool:
    """Whether a name that somebody wrote down can only mean a file of the folder."""
    parts = name.split("/")
    return bool(name) and "\\" not in name and "\0" not in name and not {"", ".", ".."} & set(parts)
