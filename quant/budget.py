"""A byte cap -> the dial that meets it. Pure: it is handed a function that packs and measures.

Bytes fall by about one bit a weight for every octave of the dial, so each measured size says nearly where the next try
should be; a bracket keeps the search honest.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from base.errors import BadInput

CLOSE = 0.003  # how far under the cap is near enough
FINEST, COARSEST = 1e-3, 64.0
TRIES = 16


@dataclass(frozen=True)
class Fit:
    dial: float
    size_bytes: int
    tried: tuple[tuple[float, int], ...]


def fit(measure: Callable[[float], int], cap_bytes: int, weights: int, start: float = 0.4) -> Fit:
    """The finest dial whose measured bytes are at most `cap_bytes`, and within CLOSE of it where that can be."""
    low, high = FINEST, COARSEST  # too many bytes at low, few enough at high
    tried: dict[float, int] = {}
    best: tuple[float, int] | None = None
    dial = start
    for _ in range(TRIES):
        tried[dial] = size = measure(dial)
        if size <= cap_bytes:
            high = min(high, dial)
            if best is None or size > best[1]:
                best = (dial, size)
            if size >= cap_bytes * (1 - CLOSE) or dial <= FINEST:
                break
        else:
            low = max(low, dial)
            if dial >= COARSEST:
                break
        octaves_off = 8 * (size - cap_bytes * (1 - CLOSE / 2)) / weights
        guess = dial * 2 ** max(-10.0, min(10.0, octaves_off))
        inside = low * (high / low) ** 0.02 < guess < low * (high / low) ** 0.98
        dial = guess if inside else _between(low, high, best is None, guess)
        if math.isclose(low, high, rel_tol=1e-5):
            break
    if best is None:
        smallest = min(tried.values())
        raise BadInput(f"{cap_bytes:,} bytes cannot be met: the coarsest steps give {smallest:,}; raise the cap")
    return Fit(*best, tuple(tried.items()))


def _between(low: float, high: float, unmet: bool, guess: float) -> float:
    """Half-way; or one of the ends, as long as nothing has been tried beyond where the guess points."""
    if unmet and guess >= high:
        return high
    return low if guess <= low and low == FINEST else math.sqrt(low * high)
