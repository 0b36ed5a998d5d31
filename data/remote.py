"""Files of a remote store, through fsspec: listed once, then read in place by whatever process needs them.

    list_remote("s3://bucket/folder/*.jsonl.zst")         [(name, RemoteFile)], sorted by name

Any protocol that fsspec knows: s3://, gs://, hf://, https://, file://. Credentials are those that its library finds.
"""

import glob
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from base.errors import BadInput

STATED = ("ETag", "etag", "md5Hash", "blob_id", "LastModified", "last_modified", "mtime")  # by the stores, best first


@dataclass(frozen=True)
class RemoteFile:
    url: str
    size_bytes: int
    identity: str  # changes with the contents

    def open(self, mode: str) -> IO[bytes]:
        import fsspec  # a quarter of a second to import, and most corpora are local

        with one_line_errors(self.url):
            stream: IO[bytes] = fsspec.open(self.url, mode).open()
        return stream


def list_remote(spec: str) -> list[tuple[str, RemoteFile]]:
    """(name, file) of a file, of all visible ones below a folder, or of a glob's matches, sorted by name."""
    from fsspec.core import url_to_fs

    with one_line_errors(spec):
        store, path = url_to_fs(spec)
        is_glob = glob.has_magic(path) and not spec.startswith("http")  # where ? begins a query
        found = store.glob(path, detail=True) if is_glob else store.find(path, detail=True)
        if not is_glob and set(found) <= {path}:
            found = {path: store.info(path)}  # of a file; where there is none, it says why
        root = PurePosixPath(*itertools.takewhile(lambda part: not glob.has_magic(part), PurePosixPath(path).parts))
        files = []
        for name, entry in found.items():
            inside = "" if is_glob is False and name == path else PurePosixPath(name).relative_to(root).as_posix()
            if entry["type"] == "file" and not any(part.startswith(".") for part in inside.split("/")):
                files.append((inside or root.name, describe(store.unstrip_protocol(name), entry)))
    if not files:
        raise BadInput(f"'{spec}': no file is there")
    return sorted(files, key=lambda pair: pair[0])


def describe(url: str, entry: dict[str, Any]) -> RemoteFile:
    stated = next((f"{key}:{entry[key]}" for key in STATED if entry.get(key)), None)
    if stated is None or entry.get("size") is None:
        raise BadInput(f"{url}: its store states no size, or nothing that changes with the contents; download it first")
    return RemoteFile(url, entry["size"], stated)


@contextmanager
def one_line_errors(url: str) -> Iterator[None]:
    """A store's library may fail in many ways."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{url}: cannot be read ({what}); check the address and the store's credentials") from None
