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
from typing import IO

from base.errors import BadInput

LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs"}
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
    """(name, file) of a file, of all below a folder, or of a glob's matches, sorted by name."""
    from fsspec.core import url_to_fs

    with one_line_errors(spec):
        store, path = url_to_fs(spec)
        find = store.glob if glob.has_magic(path) else store.find
        root = PurePosixPath(*itertools.takewhile(lambda part: not glob.has_magic(part), PurePosixPath(path).parts))
        files = []
        for name, entry in find(path, detail=True).items():
            if entry["type"] == "file":
                inside = PurePosixPath(name).relative_to(root).as_posix()
                stated = next((f"{key}:{entry[key]}" for key in STATED if entry.get(key)), f"size:{entry['size']}")
                file = RemoteFile(store.unstrip_protocol(name), entry["size"], stated)
                files.append((root.name if inside == "." else inside, file))
    if not files:
        raise BadInput(f"'{spec}': no file is there")
    return sorted(files, key=lambda pair: pair[0])


@contextmanager
def one_line_errors(url: str) -> Iterator[None]:
    """A store's library may fail in many ways."""
    protocol = url.partition("://")[0]
    try:
        yield
    except ImportError as error:
        raise BadInput(f"{url}: {error}; pip install {LIBRARIES.get(protocol, protocol)}") from None
    except Exception as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{url}: cannot be read ({what}); check the address and the credentials of {protocol}") from None
