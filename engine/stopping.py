"""SIGTERM as a wish that the loop can look at, and nothing else while it is looked at."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sigterm() -> Iterator[list[int]]:
    """A list that is empty until SIGTERM comes; outside, the signal does again what it did before."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
