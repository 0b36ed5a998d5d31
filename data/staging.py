"""Where a dataset is made and how it appears: `OUT/.bitgolf-partial`, one writer at a time, moved into place whole.

The old manifest goes first and the new one comes last, so that a folder with a manifest is always a whole dataset.
Nothing that this project did not write is overwritten or removed.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from base.errors import BadInput
from data.manifest import MANIFEST, TOKENIZER, Manifest, read_manifest, write_manifest

PARTIAL, LOCK = ".bitgolf-partial", ".bitgolf-lock"


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder in `out`, empty and ours alone; gone again however the run ends (and `out`, if new and still empty)."""
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    if not new:
        _refuse_foreign(out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as lock:
        _hold(lock.fileno(), out)
        staged = out / PARTIAL
        shutil.rmtree(staged, ignore_errors=True)
        try:
            staged.mkdir()
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            (out / LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the first that is not empty stops this
                for folder in new:
                    folder.rmdir()


def publish(manifest: Manifest, staged: Path, out: Path) -> None:
    for old in _ours(out):
        old.unlink(missing_ok=True)
    for name in (TOKENIZER, *(entry.file for entry in manifest.shards)):
        (staged / name).replace(out / name)
    write_manifest(manifest, out)


def _ours(out: Path) -> list[Path]:
    """What a dataset in `out` consists of, its manifest first."""
    if not (out / MANIFEST).exists():
        return []
    names = [MANIFEST, TOKENIZER, *(entry.file for entry in read_manifest(out).shards)]
    return [out / name for name in names]


def _refuse_foreign(out: Path) -> None:
    if not out.is_dir():
        raise BadInput(f"{out}: is a file; --out names a folder")
    if (out / PARTIAL).exists():  # a killed run's: what lies beside it may be half published
        return
    try:
        ours = _ours(out)
    except BadInput as error:  # damaged, or a manifest.json of something else
        raise BadInput(f"{error}; remove {out}, or name another --out") from None
    if ours and not read_manifest(out).request:
        raise BadInput(f"{out}: holds a dataset that data.prep did not make; name another --out, so that it stays")
    for path in sorted([*out.glob("*.bin"), out / TOKENIZER]):
        if path.exists() and path not in ours:
            raise BadInput(f"{out}: holds {path.name}, which no manifest there names; name another --out")


def _hold(lock: int, out: Path) -> None:
    """Take the lock, or say that another run has it; a lock file that was removed meanwhile is nobody's."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(lock).st_ino == (out / LOCK).stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        held = False
    if not held:
        raise BadInput(f"{out}: another run is writing this dataset")
