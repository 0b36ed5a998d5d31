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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_EVERY_S = 10.0
MB = 1_000_000

Advance = Callable[[int], None]
Show = Callable[[int, str], None]


@contextmanager
def byte_progress(label: str, total_bytes: int | None = None) -> Iterator[Advance]:
    """Yields `advance(size_bytes)`. Without a total the bar pulses and only amount and speed are shown."""
    begun_s = time.monotonic()
    done = 0
    with counted_progress(label, None if total_bytes is None else total_bytes // MB, "MB") as show:

        def advance(size_bytes: int) -> None:
            nonlocal done
            done += size_bytes
            elapsed_s = max(time.monotonic() - begun_s, 1e-3)
            show(done // MB, f"{done / MB / elapsed_s:.1f} MB/s")

        yield advance


@contextmanager
def counted_progress(label: str, total: int | None, unit: str) -> Iterator[Show]:
    """Yields `show(done, state)`: how many of the total are done, and a few words beside the time left."""
    if not sys.stderr.isatty():
        yield _plain_lines(label, total, unit)
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


def _plain_lines(label: str, total: int | None, unit: str) -> Show:
    begun_s = last_s = time.monotonic()

    def show(done: int, state: str) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s < PLAIN_EVERY_S:
            return
        last_s = now_s
        if total is None:
            line = f"{label}: {done:,} {unit}, {state}"
        else:
            left_s = (now_s - begun_s) / max(done, 1) * (total - done)
            line = f"{label}: {done:,} of {total:,} {unit}, {state}, {left_s:.0f} s left"
        print(line, file=sys.stderr, flush=True)

    return show
