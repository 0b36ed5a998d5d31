"""Files by their content, and files that are written whole or not at all."""

import hashlib
import os
from pathlib import Path

from base.errors import BadInput


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
