"""Progress of long work: a live bar on a terminal, a plain line every few seconds elsewhere (logs, CI).

    with byte_progress("reading", total_bytes) as advance: advance(size_bytes)
    with counted_progress("scoring", total, "targets") as show: show(done, "1.234 bits per byte so far")

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
Show = Callable[[int, str], None]


@contextmanager
def byte_progress(label: str, total_bytes: int | None = None) -> Iterator[Advance]:
    """Yields `advance(size_bytes)`. Without a total the bar pulses and only amount and speed are shown."""
    if not sys.stderr.isatty():
        yield _plain_bytes(label, total_bytes)
        return
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


@contextmanager
def counted_progress(label: str, total: int, unit: str) -> Iterator[Show]:
    """Yields `show(done, state)`: how many of the total are done, and a few words beside the time left."""
    if not sys.stderr.isatty():
        yield _plain_count(label, total, unit)
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, state="")
        yield lambda done, state: bar.update(task, completed=done, state=state)


class _Pace:
    """When a plain line is due."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()

    def elapsed_if_due(self) -> float | None:
        now = time.monotonic()
        if now - self._last < PLAIN_EVERY_S:
            return None
        self._last = now
        return now - self._started


def _plain_bytes(label: str, total_bytes: int | None) -> Advance:
    pace, done = _Pace(), 0

    def advance(size_bytes: int) -> None:
        nonlocal done
        done += size_bytes
        elapsed_s = pace.elapsed_if_due()
        if elapsed_s is None:
            return
        speed = max(done, 1) / elapsed_s
        share = f" of {total_bytes / 1e6:.1f}, {(total_bytes - done) / speed:.0f} s left" if total_bytes else ""
        print(f"{label}: {done / 1e6:.1f} MB{share}, {speed / 1e6:.1f} MB/s", file=sys.stderr, flush=True)

    return advance


def _plain_count(label: str, total: int, unit: str) -> Show:
    pace = _Pace()

    def show(done: int, state: str) -> None:
        elapsed_s = pace.elapsed_if_due()
        if elapsed_s is None:
            return
        left_s = elapsed_s / max(done, 1) * (total - done)
        print(f"{label}: {done:,} of {total:,} {unit}, {state}, {left_s:.0f} s left", file=sys.stderr, flush=True)

    return show
