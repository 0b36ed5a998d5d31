"""A byte cap -> the dial, or the widths, that meet it. Pure: it is handed functions that pack and measure.

The dial: bytes fall by a bit a weight for every octave of it, less where most weights are zero already: the last two
measured sizes say nearly where the next try should be; a bracket keeps the search honest.
Widths: every tensor has options, each of so many bytes and so much loss; the least loss that fits is a knapsack, solved
exactly in UNITS of the cap, and solved again with what the real coder made of it until that lies just under the cap.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from base.errors import BadInput

CLOSE = 0.003  # how far under the cap is near enough
FINEST, COARSEST = 1e-3, 64.0
TRIES = 24
UNITS = 8192


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


class Option(NamedTuple):
    bits: int
    size_bytes: float
    loss: float


Table = Mapping[str, Sequence[Option]]
Widths = dict[str, int]


def fit_widths(table: Table, measure: Callable[[Widths], int], cap_bytes: int) -> Widths:
    """The widths of the least loss whose measured bytes are at most `cap_bytes`; measuring corrects the estimates."""
    best: tuple[int, Widths] | None = None
    allowed = cap_bytes * (1 - CLOSE / 2)  # of estimated bytes
    tried: dict[tuple[int, ...], int] = {}
    smallest = least_loss(table, 0)
    for _ in range(TRIES):
        widths = least_loss(table, allowed)
        key = tuple(widths.values())
        if key in tried and best is not None:
            break  # no option lies between the last and this
        if key in tried:  # still too many bytes: below what this one was taken to have
            if widths == smallest:
                break
            chosen = (next(o for o in options if o.bits == widths[name]) for name, options in table.items())
            allowed = min(allowed, sum(option.size_bytes for option in chosen)) * (1 - CLOSE)
            continue
        tried[key] = size = measure(widths)
        if size <= cap_bytes and (best is None or size > best[0]):
            best = size, widths
        if cap_bytes * (1 - CLOSE) <= size <= cap_bytes:
            break
        allowed += cap_bytes * (1 - CLOSE / 2) - size
    if best is None and tuple(smallest.values()) not in tried:
        tried[tuple(smallest.values())] = size = measure(smallest)
        best = (size, smallest) if size <= cap_bytes else None
    if best is None:
        raise BadInput(
            f"{cap_bytes:,} bytes cannot be met: the narrowest widths tried give {min(tried.values()):,}; raise the cap"
        )
    return best[1]


def least_loss(table: Table, allowed_bytes: float) -> Widths:
    """One option a tensor, the least loss in all within so many bytes; the smallest of each where nothing fits."""
    unit = max(allowed_bytes, 1.0) / UNITS
    loss = np.zeros(UNITS + 1)  # the least so far within so many units
    picks = []
    for options in table.values():
        within = np.full((len(options), UNITS + 1), np.inf)
        for row, option in zip(within, options, strict=True):
            units = math.ceil(option.size_bytes / unit)
            row[units:] = option.loss + loss[: max(0, UNITS + 1 - units)]
        picks.append(within.argmin(0))
        loss = within.min(0)
    if not np.isfinite(loss[-1]):
        return {name: min(options, key=lambda option: option.size_bytes).bits for name, options in table.items()}
    left, widths = UNITS, Widths()
    for (name, options), pick in zip(reversed(list(table.items())), reversed(picks), strict=True):
        option = options[pick[left]]
        widths[name] = option.bits
        left -= math.ceil(option.size_bytes / unit)
    return {name: widths[name] for name in table}
