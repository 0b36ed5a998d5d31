"""The step sets the rate: how coarse each tensor, row and column may be, so that equal bytes cost the least loss.

An entropy coder follows, so a weight costs about log2(its spread / its step) bits and its rounding about
sensitivity * step^2 / 24 nats. The best trade gives every tensor the step ~ sensitivity^(-1/2) (reverse water-filling),
every column the share U_cc of the conditioned Hessian (WaterSIC), and every row a share of its output's Fisher
information (in full it trusts the figures of rare tokens too far); `dial` moves all steps together. It is the geometric
mean of step over spread, weighted by the number of weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from quant.dequant import Floats, Grid, Integers, to_eighths
from quant.hessian import Cost
from quant.rounding import conditioned

NOTHING = 1e-9  # of the median tensor's cost
WIDEST = 24  # eighths: no row or column is more than 8 times coarser or finer than the tensor


@dataclass(frozen=True)
class RateParts:
    """What may be left out, to see what it is worth."""

    tensors: bool = True  # a step by sensitivity; else by the tensor's spread alone
    columns: float = 0.75  # power of the column shares; 0: all alike
    rows: float = 0.35  # power of the row shares; 0: all alike
    trellis: bool = True  # two staggered grids (quant.trellis); else one


@dataclass(frozen=True)
class Shape:
    """The grid of a tensor before the dial: relative rows and columns, and how its step compares with the others'."""

    relative: Grid
    log_step: float


def shapes(weights: Mapping[str, Floats], costs: Mapping[str, Cost], parts: RateParts) -> dict[str, Shape]:
    """Tensors whose cost is not known, or nothing (dead ones: no gradient comes through), get the dial times their own
    spread."""
    prices = {name: float(costs[name].hessian.diagonal().mean()) for name in weights if name in costs}
    alive = {name for name, price in prices.items() if price > NOTHING * float(np.median(list(prices.values())))}
    found = {
        name: Shape(Grid(trellis=parts.trellis), _log_spread(weight))
        for name, weight in weights.items()
        if name not in alive
    }
    priced = dict[str, Shape]()
    for name in [name for name in weights if name in alive]:
        cost, spread = costs[name], _log_spread(weights[name])
        diagonal = conditioned(cost.hessian).diagonal()  # U_cc in the matrix's own order: close, and no order to send
        columns = _shares(diagonal.numpy() ** parts.columns) if parts.columns else None
        rows = _shares(np.maximum(cost.rows.numpy(), 1e-9) ** (-0.5 * parts.rows)) if parts.rows else None
        relative = Grid(rows=rows, columns=columns, trellis=parts.trellis)
        by_row, by_column = relative.row_steps(len(cost.rows)), relative.column_steps(len(diagonal))
        price = np.mean(cost.rows.numpy() * by_row**2) * np.mean((by_column / diagonal.numpy()) ** 2)
        priced[name] = Shape(relative, -0.5 * math.log(price) if parts.tensors else spread)
    logs = [shape.log_step - _log_spread(weights[name]) for name, shape in priced.items()]
    mean = float(np.average(logs, weights=[weights[name].size for name in priced])) if priced else 0.0
    return found | {name: Shape(shape.relative, shape.log_step - mean) for name, shape in priced.items()}


def _log_spread(weight: Floats) -> float:
    """Of the root mean square: a vector of ones is as wide as one of signs."""
    return math.log(float(np.sqrt(np.square(weight, dtype=np.float64).mean())) if weight.any() else 1e-8)


def grid_at(shape: Shape, dial: float, weight: Floats, bits: int) -> Grid:
    """The grid of this tensor; rows whose largest weight would not fit the bits are made coarser, never clipped.

    A tied table wants steps of a twentieth of its spread: clipping its tails cost ten times what they saved.
    """
    relative, largest = shape.relative, (1 << (bits - 1)) - 1
    reach = np.abs(weight / relative.column_steps(weight.shape[1])).max(axis=1, initial=0.0)  # (rows,)
    step = max(dial * math.exp(shape.log_step), float(reach.max(initial=0.0)) / largest / 2**14)
    step = float(np.float32(step))
    needed = reach / (step * largest)  # of the tensor's step
    rows = np.zeros(len(weight), np.int8) if relative.rows is None else relative.rows
    least = np.ceil(8 * np.log2(np.maximum(needed, 2.0**-15))).clip(-120, 120)
    raised = np.maximum(rows, least).astype(np.int8)
    return replace(relative, step=step, rows=raised if raised.any() else None)


def _shares(factors: npt.NDArray[np.floating]) -> Integers:
    """Eighths of an octave about the geometric mean."""
    logs = np.log2(factors)
    return np.clip(to_eighths(2.0 ** (logs - logs.mean())), -WIDEST, WIDEST).astype(np.int8)
