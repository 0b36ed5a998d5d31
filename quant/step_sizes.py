"""The step sets the rate: how coarse each tensor, row and column may be, so that equal bytes cost the least loss.

An entropy coder follows, so a weight costs about log2(its spread / its step) bits and its rounding about
sensitivity * step^2 / 24 nats. The best trade gives each tensor a step ~ sensitivity^(-1/2) (reverse water-filling),
each column a share U_cc of the conditioned Hessian (WaterSIC), and each row a share by its importance, at reduced
power: in full it would trust the figures of rare tokens too far. `dial` scales all steps together: it is the geometric
mean of step over spread, weighted by the number of weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from quant.config import QuantConfig
from quant.dequant import Floats, Grid, Integers, to_eighths
from quant.hessian import Cost
from quant.rounding import conditioned

NEGLIGIBLE = 1e-9  # of the median tensor's sensitivity
WIDEST = 24  # eighths: no row or column is more than 8 times coarser or finer than the tensor


@dataclass(frozen=True)
class StepPlan:
    """The grid of a tensor before the dial: relative rows and columns, and how its step compares with the others'."""

    relative: Grid
    log_step: float


def plan_steps(weights: Mapping[str, Floats], costs: Mapping[str, Cost], config: QuantConfig) -> dict[str, StepPlan]:
    """Tensors of unknown or no sensitivity (dead ones, without a gradient) get the dial times their own spread."""
    spreads = {name: _log_spread(weight) for name, weight in weights.items()}
    sensitivity = {name: float(costs[name].hessian.diagonal().mean()) for name in weights if name in costs}
    floor = NEGLIGIBLE * float(np.median(list(sensitivity.values()))) if sensitivity else 0.0
    plans = {name: StepPlan(Grid(trellis=config.trellis), spread) for name, spread in spreads.items()}
    alive = [name for name, value in sensitivity.items() if value > floor]
    if not alive:
        return plans
    for name in alive:
        plan = _planned(costs[name], config)
        plans[name] = plan if config.by_tensor else replace(plan, log_step=spreads[name])
    log_ratios = [plans[name].log_step - spreads[name] for name in alive]
    mean = float(np.average(log_ratios, weights=[weights[name].size for name in alive]))
    return plans | {name: replace(plans[name], log_step=plans[name].log_step - mean) for name in alive}


def _planned(cost: Cost, config: QuantConfig) -> StepPlan:
    """The step is priced with the rows and columns that the grid will have."""
    importance = cost.importance.numpy()
    diagonal = (
        conditioned(cost.hessian).diagonal().numpy()
    )  # U_cc in the matrix's own order: close, and nothing to send
    columns = _shares(diagonal**config.columns) if config.columns else None
    rows = _shares(np.maximum(importance, 1e-9) ** (-0.5 * config.rows)) if config.rows else None
    grid = Grid(row_exponents=rows, column_exponents=columns, trellis=config.trellis)
    by_row = grid.row_steps(len(importance))
    by_column = grid.column_factors(len(diagonal))
    price = np.mean(importance * by_row**2) * np.mean((by_column / diagonal) ** 2)
    return StepPlan(grid, -0.5 * math.log(price))


def _log_spread(weight: Floats) -> float:
    """Of the root mean square: a vector of ones is as wide as one of signs."""
    return math.log(float(np.sqrt(np.square(weight, dtype=np.float64).mean())) if weight.any() else 1e-8)


def _shares(factors: npt.NDArray[np.floating]) -> Integers:
    """Eighths of an octave about the geometric mean."""
    logs = np.log2(factors)
    return np.clip(to_eighths(2.0 ** (logs - logs.mean())), -WIDEST, WIDEST).astype(np.int8)


def grid_at(plan: StepPlan, dial: float, weight: Floats, bits: int) -> Grid:
    """The grid of this tensor; rows whose largest weight would not fit the bits are made coarser, never clipped.

    A tied table wants steps of a twentieth of its spread: clipping its tails cost ten times what they saved.
    """
    relative = plan.relative
    largest = (1 << (bits - 1)) - 1
    reach = np.abs(weight / relative.column_factors(weight.shape[1])).max(axis=1, initial=0.0)  # (rows,)
    step = max(dial * math.exp(plan.log_step), float(reach.max(initial=0.0)) / largest / 2**14)
    step = float(np.float32(step))
    needed = reach / (step * largest)  # of the tensor's step
    rows = np.zeros(len(weight), np.int8) if relative.row_exponents is None else relative.row_exponents
    least = np.ceil(8 * np.log2(np.maximum(needed, 2.0**-15))).clip(-120, 120)
    raised = np.maximum(rows, least).astype(np.int8)
    return replace(relative, step=step, row_exponents=raised if raised.any() else None)
