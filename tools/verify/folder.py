"""A stranger's folder, listed and read within bounds: plain files only, no link followed, nothing run.

folder = Folder(Path("records/TRACK/2026-11-21_name"))
folder.files, folder.refused           {name: bytes on disk}, {name: why it was not read}
folder.read(name), folder.text(name)   BadInput where the file is missing, refused or too large
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

from base.errors import BadInput
from base.files import read_plain

MOST_FILES = 2_000
DEEPEST = 6  # levels of folders
READABLE_BYTES = {".json": 1 << 20, ".py": 1 << 19, ".golf": 256 << 20}
OTHER_BYTES = 16 << 20


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
        data = self.read(name)
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
