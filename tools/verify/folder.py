"""A stranger's folder, listed and read within bounds: plain files only, no link followed, nothing run.

folder = Folder(Path("records/TRACK/2026-11-21_name"))
folder.files, folder.refused           {name: bytes on disk}, {name: why it was not read}
folder.read(name), folder.text(name)   BadInput where the file is missing, refused or too large
"""

import bz2
import gzip
import hashlib
import lzma
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

import zstandard

from base.errors import BadInput
from base.files import open_plain, read_plain

MOST_FILES = 2_000
DEEPEST = 6  # levels of folders
READABLE_BYTES = {".json": 1 << 20, ".py": 1 << 19, ".golf": 256 << 20}
OTHER_BYTES = 16 << 20
UNPACKED_BYTES = 8 << 20  # of a compressed log

OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
    ".zst": lambda raw: zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(raw, read_across_frames=True),
}
BROKEN = (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError, ValueError, MemoryError)


class Folder:
    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise BadInput(f"{path}: not a folder; name a record's, such as records/TRACK/2026-11-21_name")
        self.path = path.resolve()
        self.files: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self._hashes: dict[str, str] = {}
        self._list("", 0)

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def read(self, name: str) -> bytes:
        return read_plain(self._path(name), READABLE_BYTES.get(PurePosixPath(name).suffix, OTHER_BYTES))

    def text(self, name: str) -> str:
        """UTF-8, from a plain or a compressed file."""
        data = self._unpack(name) if PurePosixPath(name).suffix in OPENERS else self.read(name)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"{name}: not UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from None

    def sha256(self, name: str) -> str:
        if name not in self._hashes:
            self._hashes[name] = hashlib.sha256(self.read(name)).hexdigest()
        return self._hashes[name]

    def _path(self, name: str) -> Path:
        if name in self.refused:
            raise BadInput(f"{name} is {self.refused[name]}")
        if name not in self.files:
            raise BadInput(f"{name} is not in the folder")
        return self.path / name

    def _unpack(self, name: str) -> bytes:
        with open_plain(self._path(name), name) as raw:
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
                elif entry.is_file(follow_symlinks=False):
                    self.files[name] = entry.stat(follow_symlinks=False).st_size
                elif not entry.is_dir(follow_symlinks=False):
                    self.refused[name] = "neither a file nor a folder"
                elif depth == DEEPEST:
                    self.refused[name] = f"deeper than {DEEPEST} folders"
                else:
                    with suppress(PermissionError):
                        self._list(f"{name}/", depth + 1)
