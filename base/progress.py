"""Progress of long work: a live bar on a terminal, a plain line every few seconds elsewhere (logs, CI).

Always on stderr, so that `--json` keeps stdout to itself.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

PLAIN_EVERY_S = 10.0

Advance = Callable[[int], None]
Tell = Callable[[int, str], None]


@contextmanager
def byte_progress(label: str, total_bytes: int | None = None) -> Iterator[Advance]:
    """Yields `advance(size_bytes)`. Without a total the bar pulses and only amount and speed are told."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total_bytes)
            yield lambda size_bytes: bar.advance(task, size_bytes)
    else:
        yield _plain(label, total_bytes)


def _plain(label: str, total_bytes: int | None) -> Advance:
    started = last = time.monotonic()
    done = 0

    def advance(size_bytes: int) -> None:
        nonlocal done, last
        done += size_bytes
        now = time.monotonic()
        if now - last < PLAIN_EVERY_S:
            return
        last = now
        speed = max(done, 1) / (now - started)
        share = f" of {total_bytes / 1e6:.1f}, {(total_bytes - done) / speed:.0f} s left" if total_bytes else ""
        print(f"{label}: {done / 1e6:.1f} MB{share}, {speed / 1e6:.1f} MB/s", file=sys.stderr, flush=True)

    return advance


@contextmanager
def counted_progress(label: str, total: int, unit: str) -> Iterator[Tell]:
    """Yields `tell(done, how_it_stands)`: done so far of the total, and a few words beside the time left."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TextColumn("{task.fields[stands]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total, stands="")
            yield lambda done, stands: bar.update(task, completed=done, stands=stands)
    else:
        yield _plain_count(label, total, unit)


def _plain_count(label: str, total: int, unit: str) -> Tell:
    started = last = time.monotonic()

    def tell(done: int, stands: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PLAIN_EVERY_S:
            return
        last = now
        left_s = (now - started) / max(done, 1) * (total - done)
        print(f"{label}: {done:,} of {total:,} {unit}, {stands}, {left_s:.0f} s left", file=sys.stderr, flush=True)

    return tell
