"""The step sets the rate: how coarse each tensor, row and column may be, so that equal bytes cost the least loss.

An entropy coder follows, so a weight costs about log2(its spread / its step) bits and its rounding about
sensitivity * step^2 / 24 nats. The best trade gives every tensor the step ~ sensitivity^(-1/2) (reverse water-filling),
every column the share U_cc of the conditioned Hessian (WaterSIC), and every row its output's Fisher information; `dial`
moves all steps together. It is the geometric mean of step over spread, weighted by the number of weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quant.grid import Floats, Grid, Integers, to_eighths
from quant.hessian import Cost
from quant.rounding import conditioned

WIDEST = 24  # eighths: no row or column is more than 8 times coarser or finer than the tensor


@dataclass(frozen=True)
class RateParts:
    """What may be left out, to see what it is worth."""

    tensors: bool = True  # a step by sensitivity; else by the tensor's spread alone
    columns: float = 0.75  # power of the column shares; 0: all alike
    rows: float = 0.5  # power of the row shares; 0: all alike
    feedback: bool = True  # GPTQ on the grid; else nearest


@dataclass(frozen=True)
class Shape:
    """The grid of a tensor before the dial: relative rows and columns, and how its step compares with the others'."""

    relative: Grid
    log_step: float


def shapes(weights: Mapping[str, Floats], costs: Mapping[str, Cost], parts: RateParts) -> dict[str, Shape]:
    found, spreads, sizes = dict[str, Shape](), list[float](), list[int]()
    for name, weight in weights.items():
        cost = costs[name]
        diagonal = conditioned(cost.hessian).diagonal()  # U_cc in the matrix's own order: close, and no order to send
        columns = _shares(diagonal.numpy() ** parts.columns) if parts.columns else None
        rows = _shares(np.maximum(cost.rows.numpy(), 1e-9) ** (-0.5 * parts.rows)) if parts.rows else None
        spread = float(weight.std()) or 1e-8
        price = -2 * float(diagonal.log().mean()) if parts.tensors else -2 * math.log(spread)  # ln of 1 / U^2
        found[name] = Shape(Grid(rows=rows, columns=columns), -0.5 * price)
        spreads.append(math.log(spread))
        sizes.append(weight.size)
    logs = [shape.log_step - spread for shape, spread in zip(found.values(), spreads, strict=True)]
    mean = float(np.average(logs, weights=sizes)) if sizes else 0.0
    return {name: Shape(shape.relative, shape.log_step - mean) for name, shape in found.items()}


def grid_at(shape: Shape, dial: float, weight: Floats, bits: int) -> Grid:
    """The grid of this tensor; rows whose largest weight would not fit the bits are made coarser, never clipped.

    A tied table wants steps of a twentieth of its spread: clipping its tails cost ten times what they saved.
    """
    step = float(np.float32(dial * math.exp(shape.log_step)))
    relative = shape.relative
    reach = np.abs(weight / relative.column_steps(weight.shape[1])).max(axis=1, initial=0.0)  # (rows,)
    needed = reach / (step * ((1 << (bits - 1)) - 1))  # of the tensor's step
    rows = np.zeros(len(weight), np.int8) if relative.rows is None else relative.rows
    least = np.ceil(8 * np.log2(np.maximum(needed, 2.0**-15))).clip(-120, 120)
    raised = np.maximum(rows, least).astype(np.int8)
    return Grid(step=step, rows=raised if raised.any() else None, columns=relative.columns)


def _shares(factors: npt.NDArray[np.floating]) -> Integers:
    """Eighths of an octave about the geometric mean."""
    logs = np.log2(factors)
    return np.clip(to_eighths(2.0 ** (logs - logs.mean())), -WIDEST, WIDEST).astype(np.int8)
