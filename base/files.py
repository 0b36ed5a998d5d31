"""Files and folders that appear complete or not at all, strict JSON, and the files of strangers.

atomic_file(path, data)                       with atomic_folder(path) as part: ...
values = read_json(path.read_text(), "name")  write_json(path, values)
data = read_plain(path, most_bytes)           no link followed, no pipe waited for, a bound on the size
"""

import fcntl
import hashlib
import itertools
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any

from base.errors import BadInput

LONGEST_NUMBER = 40  # characters of a number in JSON; no measured one has more
DEEPEST = 20  # levels of nesting in JSON


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# -- appear complete or not at all ----------------------------------------------------------------------------------


def atomic_file(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename: a reader finds the old file or the new one, never a part of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Where a file too large for `atomic_file` is until it is complete."""
    return path.with_name(f"{path.name}.part")


def complete_file(stream: BufferedWriter, path: Path) -> None:
    """Give what was written to `partial_path(path)` its name, once it is on the disk."""
    stream.flush()
    os.fsync(stream.fileno())
    stream.close()
    partial_path(path).replace(path)


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A sibling to write into; it takes the name `folder` at the end, or is removed if the block fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    part.mkdir()
    try:
        yield part
        part.rename(folder)  # an empty folder of that name is replaced
    finally:
        shutil.rmtree(part, ignore_errors=True)


def require_folder_of(*outputs: str | None) -> None:
    """Check before the work, not after it, that each of these files can be written."""
    for output in outputs:
        if output is not None and not Path(output).absolute().parent.is_dir():
            raise BadInput(f"{output}: its folder does not exist; make it first")
        if output is not None and Path(output).is_dir():
            raise BadInput(f"{output}: is a folder; name a file in it")


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[int]:
    """Hold the lock of a file or folder, which ends with the process at the latest; BlockingIOError if not to wait.

    Yields its descriptor: a child that inherits it holds the lock as well.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


# -- strict JSON ----------------------------------------------------------------------------------------------------


def read_json(text: str, name: str) -> Any:
    """JSON without NaN, infinity, repeated keys, oversized numbers or deep nesting; `name` is for the error."""
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_finite_float,
            parse_float=_finite_float,
            parse_int=_bounded_int,
        )
    except (ValueError, RecursionError) as error:
        why = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise BadInput(f"{name}: not JSON that can be read: {why:.200}") from None
    if _depth(value) > DEEPEST:
        raise BadInput(f"{name}: not JSON that can be read: nested more than {DEEPEST} levels deep")
    return value


def read_json_object(text: str, name: str) -> dict[str, Any]:
    value = read_json(text, name)
    if not isinstance(value, dict):
        raise BadInput(f"{name}: holds {type(value).__name__}, not an object")
    return value


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    atomic_file(path, (text + "\n").encode("utf-8"))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r:.60} appears twice")
    return found


def _finite_float(text: str) -> float:
    number = float(text)
    if len(text) > LONGEST_NUMBER or not math.isfinite(number):
        raise ValueError(f"it holds {text:.20}")
    return number


def _bounded_int(text: str) -> int:
    if len(text) > LONGEST_NUMBER // 2:
        raise ValueError(f"it holds an integer of {len(text)} digits")
    return int(text)


def _depth(value: Any) -> int:
    """Levels of nesting, counted without recursion."""
    level = 0
    layer = [value]
    while True:
        layer = [item for item in layer if isinstance(item, dict | list)]
        if not layer:
            return level
        level += 1
        layer = list(itertools.chain.from_iterable(each.values() if isinstance(each, dict) else each for each in layer))


# -- files of strangers ---------------------------------------------------------------------------------------------


def is_inside(name: str) -> bool:
    """Whether a relative name taken from a stranger's file can only mean a file inside the folder at hand."""
    return bool(name) and name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))


def open_plain(path: Path, name: str) -> BufferedReader:
    """Open without following a link or waiting for a pipe; the check is on the open file, so no swap can fool it."""
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
    with open_plain(path, path.name) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most_bytes:
            raise BadInput(f"{path.name} has {size:,} bytes; files like it are read up to {most_bytes:,}")
        return stream.read(most_bytes)
