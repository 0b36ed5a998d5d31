"""A byte cap -> the dial, or the width of every tensor, that meets it with the least loss.

The caller passes a function that packs and measures, and cheap estimates: entropies. The bytes of a pack are nearly
proportional to the estimate, so that a secant inside a bracket finds the estimate that the cap allows in two or three
packs.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from base.errors import BadInput
from model.gpt import GPT, parameter_kind
from quant.bits import DEFAULT_BITS, parse_bits
from quant.coder import entropy_bits
from quant.config import QuantConfig
from quant.hessian import Cost
from quant.quantize import as_matrix, row_grid
from quant.rounding import error_of, nearest

CLOSE = 0.003  # how far under the cap is near enough
TRIES = 24
RESOLUTION = 2.0**-16  # of the range that is searched
FINEST, COARSEST = 1e-3, 64.0  # dials
KNOTS = 33  # dials whose bytes are estimated, half an octave apart
UNITS = 8192  # that the knapsack of widths divides the bytes into
LEAST_BITS = 1.0  # per weight, on average: with fewer, most weights are zero
FREE = dict.fromkeys(DEFAULT_BITS, 0) | {"control": DEFAULT_BITS["control"]}  # 0: to be chosen


def require_room(sizes: Mapping[str, int], cap_bytes: int, counted_bytes: int) -> None:
    """Refuse, before a training, more weights (their numbers by tensor) than a cap has room for after it."""
    room = int(8 * (cap_bytes - counted_bytes) / LEAST_BITS)
    total = sum(sizes.values())
    if total > room:
        name = max(sizes, key=lambda name: sizes[name])
        rest = total - sizes[name]
        way_out = f"{room - rest:,} of them fit" if rest < room else f"at most {room:,} in all fit"
        raise BadInput(
            f"a cap of {cap_bytes:,} bytes, {counted_bytes:,} of them code, has room for {room:,} weights of "
            f"{LEAST_BITS:g} bit; {name} has {sizes[name]:,} and all others {rest:,}: {way_out}"
        )


def over_cap(size_bytes: int, counted_bytes: int, cap_bytes: int) -> str:
    """Why an artifact that was packed without regard to its cap is not under it; "" where it is, or has none."""
    total = size_bytes + counted_bytes
    if not cap_bytes or total <= cap_bytes:
        return ""
    return (
        f"the artifact's {size_bytes:,} bytes and {counted_bytes:,} counted beside it are {total - cap_bytes:,} over "
        f"the cap of {cap_bytes:,}; the artifact is kept. With quant.solve=true the steps or widths are chosen to fit"
    )


def fit_dial(estimate: Callable[[float], float], measure: Callable[[float], int], cap_bytes: int) -> float:
    """The finest dial whose measured bytes are at most `cap_bytes`, within CLOSE of it or at RESOLUTION."""
    octaves = np.linspace(math.log2(COARSEST), math.log2(FINEST), KNOTS)

    @cache
    def estimated(knot: int) -> float:
        return estimate(float(2.0 ** octaves[knot]))

    def dial_at(size_bytes: float) -> float:
        """Whose estimate this is, about: between two knots it is a line."""
        knot = bisect_left(range(1, KNOTS - 1), size_bytes, key=estimated) + 1
        known = (estimated(knot - 1), estimated(knot))
        return float(2.0 ** np.interp(size_bytes, known, octaves[knot - 1 : knot + 1]))

    ends = (max(1.0, estimated(0)), estimated(KNOTS - 1))
    return dial_at(_fit(lambda x: measure(dial_at(x)), cap_bytes, ends, "the coarsest steps"))


def _fit(
    measure: Callable[[float], int],
    cap_bytes: int,
    ends: tuple[float, float],
    least: str,  # names the low end in the error
) -> float:
    """The estimate x of the most measured bytes under the cap; they grow with it, nearly in proportion."""
    aim = cap_bytes * (1 - CLOSE / 2)
    fits, over = ends  # the bracket; neither is measured yet
    sizes = dict[float, int]()
    x = min(max(cap_bytes, fits), over)
    for number in range(TRIES):
        sizes[x] = measure(x)
        x0, x1 = [0.0, *sizes][-2:]
        overall = max(sizes[x], 1) / x
        # Neighbours differ by chance as well: their slope counts only as far as it is likely.
        steepness = min(max((sizes[x1] - sizes.get(x0, 0)) / (x1 - x0), overall / 2), 2 * overall)
        if sizes[x] > cap_bytes:
            over = x
        else:
            fits = x
            if sizes[x] >= cap_bytes * (1 - CLOSE):
                break
        if over - fits <= RESOLUTION * (ends[1] - ends[0]):
            break
        x = min(max(x + (aim - sizes[x]) / steepness, fits), over)
        if x in sizes or (number > 3 and number % 2):
            x = (fits + over) / 2
    if min(sizes.values()) > cap_bytes:
        sizes[ends[0]] = measure(ends[0])
    fitting = [x for x, size in sizes.items() if size <= cap_bytes]
    if not fitting:
        smallest = min(sizes.values())
        raise BadInput(f"{cap_bytes:,} bytes cannot be met: {least} give {smallest:,}; raise the cap")
    return max(fitting, key=lambda x: sizes[x])


class Option(NamedTuple):
    bits: int
    size_bytes: float
    loss: float


Table = Mapping[str, Sequence[Option]]
Widths = dict[str, int]


def fit_widths(table: Table, measure: Callable[[Widths], int], cap_bytes: int) -> Widths:
    """The widths of the least loss whose measured bytes are at most `cap_bytes`; measuring corrects the estimates."""
    most = sum(max(option.size_bytes for option in options) for options in table.values())
    ends = (1.0, most * (1 + len(table) / UNITS) + 1)  # sizes are rounded up to units
    allowed = _fit(lambda x: measure(least_loss(table, x)), cap_bytes, ends, "the narrowest widths")
    return least_loss(table, allowed)


def least_loss(table: Table, allowed_bytes: float) -> Widths:
    """One option per tensor, of the least total loss within these bytes; the smallest of each where nothing fits."""
    unit = max(allowed_bytes, 1.0) / UNITS
    loss = np.zeros(UNITS + 1)  # the least so far within 0 … UNITS units
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
    left = UNITS
    widths = Widths()
    for (name, options), pick in reversed(list(zip(table.items(), picks, strict=True))):
        option = options[pick[left]]
        widths[name] = option.bits
        left -= math.ceil(option.size_bytes / unit)
    return dict(reversed(widths.items()))


def width_options(model: GPT, config: QuantConfig, costs: Mapping[str, Cost]) -> dict[str, list[Option]]:
    """What each width costs each tensor that the words of `config.bits` leave free: entropy and scales, and the nats of
    the rounding error. Where error feedback follows, an error counts as much as later columns leave of it."""
    named = parse_bits(config.bits, FREE)
    table = dict[str, list[Option]]()
    for name, parameter in model.named_parameters():
        if named.bits(name, str(parameter_kind(name, parameter))):
            continue
        weight = as_matrix(parameter.detach().float())
        cost = costs[name]
        if config.method == "gptq":
            cost = Cost(torch.diag(cost.prices**-2), cost.importance)
        table[name] = []
        for bits in range(2, 9):
            grid = row_grid(weight, bits, config)
            integers = nearest(weight, grid, bits)
            size_bytes = entropy_bits(integers.cpu().numpy()) / 8 + 2 * len(weight)
            table[name].append(Option(bits, size_bytes, cost.nats(error_of(integers, grid, weight))))
    return table
