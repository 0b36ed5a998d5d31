"""How a dataset appears in a folder: made in `OUT/.bitgolf-partial` by one writer at a time, then moved into place.

The old manifest goes first and the new one comes last, so that a folder with a manifest is always a complete dataset.
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

PARTIAL = ".bitgolf-partial"
LOCK = ".bitgolf-lock"


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """An empty folder in `out` that only this run writes to; it is removed however the run ends, as is a new `out`."""
    created = [folder for folder in (out, *out.parents) if not folder.exists()]
    if not created:
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
            with contextlib.suppress(OSError):  # the first that is not empty ends this
                for folder in created:
                    folder.rmdir()


def publish(manifest: Manifest, staged: Path, out: Path) -> None:
    if (out / MANIFEST).exists():
        old = read_manifest(out)
        (out / MANIFEST).unlink()
        for name in old.files():
            (out / name).unlink(missing_ok=True)
    for name in manifest.files():
        (staged / name).replace(out / name)
    write_manifest(manifest, out)


def _refuse_foreign(out: Path) -> None:
    if not out.is_dir():
        raise BadInput(f"{out}: is a file; --out names a folder")
    if (out / PARTIAL).exists():  # a killed run's: what lies beside it may be half published
        return
    known: list[str] = []
    if (out / MANIFEST).exists():
        try:
            manifest = read_manifest(out)
        except BadInput as error:  # damaged, or a manifest.json of something else
            raise BadInput(f"{error}; remove {out}, or name another --out") from None
        if not manifest.request:
            raise BadInput(f"{out}: holds a dataset that data.prep did not make; name another --out to keep it")
        known = manifest.files()
    for path in sorted([*out.glob("*.bin"), *out.glob(TOKENIZER)]):
        if path.name not in known:
            raise BadInput(f"{out}: holds {path.name}, which no manifest there names; name another --out")


def _hold(lock: int, out: Path) -> None:
    """Take the lock, or report that another run has it; one whose file was removed meanwhile locks nothing."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(lock).st_ino == (out / LOCK).stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        held = False
    if not held:
        raise BadInput(f"{out}: another run is writing this dataset")
