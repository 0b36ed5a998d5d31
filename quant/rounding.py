"""Weights -> integers: a grid of row scales (absmax, clip search, k sigma), then rounding to any grid. Pure functions.

Rows are outputs. Scales are rounded to fp16 before use, so that rounding sees what the reader will see. Everything runs
where the weights are; grids are numpy's, as the artifact holds them.
"""

from collections.abc import Sequence

import numpy as np
import torch

from quant.dequant import Grid
from quant.hessian import Cost
from quant.trellis_search import search, to_integers

CLIPS = np.linspace(1.0, 0.5, 26)  # of the row's maximum, that the search tries
FEEDBACK_BLOCK = 32  # columns between two updates of all that follow


def limits(bits: int) -> tuple[int, int]:
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def absmax(weight: torch.Tensor, bits: int) -> Grid:
    """The contest's way: a row's largest weight becomes the largest integer."""
    return _row_grid(weight.abs().amax(1), bits)


def clip(weight: torch.Tensor, bits: int) -> Grid:
    """Absmax with each row's clip chosen for the least squared error."""
    largest = weight.abs().amax(1)
    least = torch.full_like(largest, torch.inf)
    chosen = largest
    for share in CLIPS:
        grid = _row_grid(largest * share, bits)
        error = error_of(nearest(weight, grid, bits), grid, weight).square().sum(1)
        chosen = torch.where(error < least, largest * share, chosen)
        least = error.minimum(least)
    return _row_grid(chosen, bits)


def sigma(weight: torch.Tensor, bits: int, k: float) -> Grid:
    """A row's clip is k times its root mean square (SDClip); with an entropy coder behind it, k sets the bytes."""
    return _row_grid(k * weight.square().mean(1).sqrt(), bits)


def _row_grid(clips: torch.Tensor, bits: int) -> Grid:
    steps = clips.cpu().numpy() / limits(bits)[1]
    # fp16 from 2^15 downwards, in units of the tensor's own: rows 2^29 times smaller than the largest are still exact.
    unit = float(np.float32(steps.max(initial=0.0) / 2**15)) or 1.0
    return Grid(step=unit, row_scales=(steps / unit).astype(np.float16))


def nearest(weight: torch.Tensor, grid: Grid, bits: int) -> torch.Tensor:
    """(rows, columns) int8."""
    row_steps, column_factors = _factors(grid, weight)
    steps = row_steps[:, None] * column_factors
    in_steps = torch.where(steps > 0, weight / steps, 0.0)
    return _integers(_round(in_steps.T, grid.trellis, bits), grid.trellis).T


def error_of(integers: torch.Tensor, grid: Grid, weight: torch.Tensor) -> torch.Tensor:
    """(rows, columns) what the reader's weights differ by."""
    return torch.from_numpy(grid.weights(integers.cpu().numpy())).to(weight.device) - weight


def _factors(grid: Grid, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows,) steps and (columns,) factors, where the weight is."""
    rows, columns = weight.shape
    parts = (grid.row_steps(rows), grid.column_factors(columns))
    row_steps, column_factors = (torch.from_numpy(part).to(weight.device) for part in parts)
    return row_steps, column_factors


def _round(in_steps: torch.Tensor, trellis: bool, bits: int) -> torch.Tensor:
    """(columns, rows) -> the values that the integers will have, in steps; a trellis runs down the rows."""
    return search(2 * in_steps, limits(bits)[1]) / 2 if trellis else in_steps.round().clamp(*limits(bits))


def _integers(values: torch.Tensor, trellis: bool) -> torch.Tensor:
    return to_integers(2 * values) if trellis else values.to(torch.int8)


def feedback(
    weights: Sequence[torch.Tensor], grids: Sequence[Grid], bits: int, costs: Sequence[Cost]
) -> list[torch.Tensor]:
    """GPTQ (Frantar et al. 2022): round column by column, those of the largest inputs first; later columns compensate
    each error. N matrices of one shape are rounded side by side, in fewer steps, and to the same integers as alone."""
    columns = weights[0].shape[1]
    trellis = grids[0].trellis
    upper = torch.stack([cost.upper for cost in costs])  # (N, columns, columns)
    left = torch.stack([w.T[cost.order] for w, cost in zip(weights, costs, strict=True)])  # (N, columns, rows)
    factors = [_factors(grid, w) for grid, w in zip(grids, weights, strict=True)]
    row_steps = torch.stack([rows for rows, _ in factors])  # (N, rows)
    column_factors = torch.stack([factor[cost.order] for (_, factor), cost in zip(factors, costs, strict=True)])
    divisors = torch.where(row_steps > 0, row_steps, 1.0)  # a row of zeros has step 0
    for begin in range(0, columns, FEEDBACK_BLOCK):
        end = min(begin + FEEDBACK_BLOCK, columns)
        errors = torch.empty_like(left[:, begin:end])
        for column in range(begin, end):
            factor = column_factors[:, column, None]
            values = _round(left[:, column] / (divisors * factor), trellis, bits)  # (N, rows)
            error = (left[:, column] - values * (row_steps * factor)) / upper[:, column, column, None]
            left[:, column + 1 : end] -= upper[:, column, column + 1 : end, None] * error[:, None]
            errors[:, column - begin] = error
            left[:, column] = values  # what has been rounded stays here
        for matrix, row, error in zip(left, upper, errors, strict=True):
            matrix[end:].addmm_(row[begin:end, end:].T, error, alpha=-1)
    integers = _integers(left, trellis)
    return [part[torch.argsort(cost.order)].T for part, cost in zip(integers, costs, strict=True)]
