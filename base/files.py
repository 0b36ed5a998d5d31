"""Files by their content, files of strangers, and files that are written whole or not at all."""

import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

from base.errors import BadInput


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_plain(path: Path, name: str) -> BufferedReader:
    """A stranger's file: no link is followed, no pipe waited for, and it is looked at once open, not before."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BadInput(f"{name} is missing") from None
    except OSError as trouble:
        raise BadInput(f"{name} cannot be read: {trouble.strerror} (a link is not followed)") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BadInput(f"{name} is not a plain file")
    return os.fdopen(handle, "rb")


def read_plain(path: Path, most_bytes: int) -> bytes:
    """A stranger's file, whole, or BadInput that names it and the rule."""
    with open_plain(path, path.name) as stream:
        if (size := os.fstat(stream.fileno()).st_size) > most_bytes:
            raise BadInput(f"{path.name} has {size:,} bytes; files like it are read up to {most_bytes:,}")
        return stream.read(most_bytes)


def write_whole(path: Path, data: bytes) -> None:
    """In one move: no reader finds half of it, and a failure leaves what was there."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def require_folder_of(*outputs: str | None) -> None:
    """Before the work, not after: each of these files can be written where it is wanted."""
    for output in outputs:
        if output is not None and not Path(output).absolute().parent.is_dir():
            raise BadInput(f"{output}: its folder does not exist; make it first")
        if output is not None and Path(output).is_dir():
            raise BadInput(f"{output}: is a folder; name a file in it")
