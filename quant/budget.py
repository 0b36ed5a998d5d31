"""A byte cap -> the dial that meets it. Pure: it is handed a function that packs and measures.

Bytes fall by a bit a weight for every octave of the dial, less where most weights are zero already: the last two
measured sizes say nearly where the next try should be; a bracket keeps the search honest.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from base.errors import BadInput

CLOSE = 0.003  # how far under the cap is near enough
FINEST, COARSEST = 1e-3, 64.0
TRIES = 24


@dataclass(frozen=True)
class Fit:
    dial: float
    size_bytes: int
    tried: tuple[tuple[float, int], ...]


def fit(measure: Callable[[float], int], cap_bytes: int, weights: int, start: float = 0.4) -> Fit:
    """The finest dial whose measured bytes are at most `cap_bytes`, and within CLOSE of it where that can be."""
    low, high = FINEST, COARSEST
    over = under = False  # whether `low` was measured and is too big, `high` measured and fits
    tried: dict[float, int] = {}
    best: tuple[float, int] | None = None
    dial = start
    for number in range(TRIES):
        tried[dial] = size = measure(dial)
        if size <= cap_bytes:
            high, under = dial, True
            best = (dial, size) if best is None or size > best[1] else best
            if size >= cap_bytes * (1 - CLOSE) or dial == FINEST:
                break
        else:
            low, over = dial, True
            if dial == COARSEST:
                break
        octaves_off = (size - cap_bytes * (1 - CLOSE / 2)) / _bytes_an_octave(tried, weights)
        guess = dial * 2 ** max(-10.0, min(10.0, octaves_off))
        if number > 3 and not (over and under):  # guesses creep towards an end: go there and look
            dial = COARSEST if over else FINEST
        elif not low < guess < high or (number > 3 and number % 2):
            dial = math.sqrt(low * high) if over and under else (COARSEST if over else FINEST)
        else:
            dial = guess
        if over and under and high / low < 1 + 1e-6:
            break
    if best is None:
        smallest = min(tried.values())
        raise BadInput(f"{cap_bytes:,} bytes cannot be met: the coarsest steps give {smallest:,}; raise the cap")
    return Fit(*best, tuple(tried.items()))


def _bytes_an_octave(tried: dict[float, int], weights: int) -> float:
    """The slope between the last two tries; a bit a weight as long as there is one."""
    if len(tried) < 2:
        return weights / 8
    (before, larger), (after, smaller) = list(tried.items())[-2:]
    octaves = math.log2(after / before)
    slope = (larger - smaller) / octaves if octaves else 0.0
    return min(max(slope, weights / 400), weights)
