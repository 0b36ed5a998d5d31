"""The step sets the rate: how coarse each tensor, row and column may be, so that equal bytes cost the least loss.

A weight costs about log2(its spread / its step) bits and its rounding about sensitivity * step^2 / 24 nats. The best
trade gives each tensor a step ~ sensitivity^(-1/2) (reverse water-filling), each column a share U_cc of the conditioned
Hessian (WaterSIC), and each row a share by its importance, at reduced power, because the figures of rare tokens are
uncertain. `dial` is the geometric mean of step over spread, over all weights.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from quant.config import QuantConfig
from quant.dequant import Grid, Integers, to_eighths
from quant.hessian import Cost

NEGLIGIBLE = 1e-9  # of the median tensor's sensitivity
WIDEST = 24  # eighths: no row or column is more than 8 times coarser or finer than the tensor


def rate_grids(
    weights: Mapping[str, torch.Tensor], bits: Mapping[str, int], costs: Mapping[str, Cost], config: QuantConfig
) -> dict[str, Grid]:
    """Tensors of unknown or no sensitivity (dead ones, without a gradient) get the dial times their own spread."""
    spreads = {name: _log_spread(weight) for name, weight in weights.items()}
    sensitivity = {name: float(costs[name].hessian.diagonal().mean()) for name in weights if name in costs}
    floor = NEGLIGIBLE * float(np.median(list(sensitivity.values()))) if sensitivity else 0.0
    alive = [name for name, value in sensitivity.items() if value > floor]
    relative = dict.fromkeys(weights, Grid(trellis=config.trellis)) | {n: _relative(costs[n], config) for n in alive}
    log_steps = dict(spreads)
    if alive and config.by_tensor:
        planned = {name: -0.5 * math.log(_price(relative[name], costs[name])) for name in alive}
        sizes = [weights[name].numel() for name in alive]
        mean = float(np.average([planned[name] - spreads[name] for name in alive], weights=sizes))
        log_steps |= {name: log_step - mean for name, log_step in planned.items()}
    return {
        name: _fitting(relative[name], config.dial * math.exp(log_steps[name]), weight, bits[name])
        for name, weight in weights.items()
    }


def _relative(cost: Cost, config: QuantConfig) -> Grid:
    """How the steps of rows and columns compare within the tensor."""
    columns = _shares(cost.prices.cpu().numpy() ** config.columns) if config.columns else None
    rows = _shares(np.maximum(cost.importance.cpu().numpy(), 1e-9) ** (-0.5 * config.rows)) if config.rows else None
    return Grid(row_exponents=rows, column_exponents=columns, trellis=config.trellis)


def _price(relative: Grid, cost: Cost) -> float:
    """Of a step of 1, with the rows and columns that the grid will have."""
    importance = cost.importance.cpu().numpy()
    by_column = relative.column_factors(len(cost.hessian)) / cost.prices.cpu().numpy()
    return float(np.mean(importance * relative.row_steps(len(importance)) ** 2) * np.mean(by_column**2))


def _log_spread(weight: torch.Tensor) -> float:
    """Of the root mean square: a vector of ones is as wide as one of signs."""
    return math.log(float(weight.double().square().mean().sqrt()) or 1e-8)


def _shares(factors: npt.NDArray[np.floating]) -> Integers:
    """Eighths of an octave about the geometric mean."""
    logs = np.log2(factors)
    return np.clip(to_eighths(2.0 ** (logs - logs.mean())), -WIDEST, WIDEST).astype(np.int8)


def _fitting(relative: Grid, step: float, weight: torch.Tensor, bits: int) -> Grid:
    """The grid at this step; rows whose largest weight would not fit the bits are made coarser, never clipped.

    A tied table wants steps of a twentieth of its spread: clipping its tails cost ten times what they saved.
    """
    largest = (1 << (bits - 1)) - 1
    factors = torch.from_numpy(relative.column_factors(weight.shape[1])).to(weight.device)
    reach = (weight / factors).abs().amax(1).cpu().numpy()  # (rows,)
    step = float(np.float32(max(step, float(reach.max(initial=0.0)) / largest / 2**14)))
    needed = reach / (step * largest)  # of the tensor's step
    rows = np.zeros(len(weight), np.int8) if relative.row_exponents is None else relative.row_exponents
    least = np.ceil(8 * np.log2(np.maximum(needed, 2.0**-15))).clip(-120, 120)
    raised = np.maximum(rows, least).astype(np.int8)
    return replace(relative, step=step, row_exponents=raised if raised.any() else None)
