"""Weights -> integers: a grid of row scales (absmax, clip search, k sigma), then rounding to any grid. Pure functions.

Rows are outputs. Scales are rounded to fp16 before use, so that rounding sees what the reader will see.
"""

from collections.abc import Sequence

import numpy as np
import torch

from quant.dequant import Floats, Grid, Integers
from quant.trellis import search

DAMPING = 0.01  # of the Hessian's mean diagonal
CLIPS = np.linspace(1.0, 0.5, 26)  # of the row's maximum, that the search tries
FEEDBACK_BLOCK = 128  # columns between two updates of all that follow


def limits(bits: int) -> tuple[int, int]:
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def absmax(weight: Floats, bits: int) -> Grid:
    """The contest's way: a row's largest weight becomes the largest integer."""
    return _row_grid(np.abs(weight).max(axis=1, initial=0.0), bits)


def clip(weight: Floats, bits: int) -> Grid:
    """Absmax with each row's clip chosen for the least squared error."""
    largest = np.abs(weight).max(axis=1, initial=0.0)
    least = np.full(len(weight), np.inf)
    chosen = largest
    for share in CLIPS:
        grid = _row_grid(largest * share, bits)
        error = np.square(grid.weights(nearest(weight, grid, bits)) - weight).sum(axis=1)
        chosen = np.where(error < least, largest * share, chosen)
        least = np.minimum(error, least)
    return _row_grid(chosen, bits)


def sigma(weight: Floats, bits: int, k: float) -> Grid:
    """A row's clip is k times its root mean square (SDClip); with an entropy coder behind it, k sets the bytes."""
    return _row_grid(k * np.sqrt(np.square(weight).mean(axis=1)), bits)


def _row_grid(clips: np.ndarray, bits: int) -> Grid:
    steps = clips / limits(bits)[1]
    # fp16 from 2^15 downwards, in units of the tensor's own: rows 2^29 times smaller than the largest are still exact.
    unit = float(np.float32(steps.max(initial=0.0) / 2**15)) or 1.0
    return Grid(step=unit, row_scales=(steps / unit).astype(np.float16))


def nearest(weight: Floats, grid: Grid, bits: int) -> Integers:
    rows, columns = weight.shape
    steps = grid.row_steps(rows)[:, None] * grid.column_factors(columns)
    return _round(np.divide(weight, steps, out=np.zeros_like(weight), where=steps > 0), grid.trellis, bits)


def _round(weight_in_steps: Floats, trellis: bool, bits: int) -> Integers:
    if trellis:
        return search(2 * weight_in_steps, limits(bits)[1]).astype(np.int8)
    integers: Integers = np.clip(np.rint(weight_in_steps), *limits(bits)).astype(np.int8)
    return integers


def conditioned(hessian: torch.Tensor) -> torch.Tensor:
    """Upper Cholesky factor U of the damped inverse, H^-1 = U^T U: 1/U_cc^2 is what an error in column c costs once the
    columns after it have compensated for what they can."""
    damped = hessian.double().clone()
    mean = float(damped.diagonal().mean())
    damped.diagonal().add_(DAMPING * mean if mean > 0 else 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper: torch.Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper


def feedback(
    weights: Sequence[Floats], grids: Sequence[Grid], bits: int, hessians: Sequence[torch.Tensor]
) -> list[Integers]:
    """GPTQ (Frantar et al. 2022): round column by column, those of the largest inputs first; later columns compensate
    each error. N matrices of one shape are rounded side by side, in fewer steps."""
    rows, columns = weights[0].shape
    orders = [torch.argsort(hessian.diagonal(), descending=True, stable=True) for hessian in hessians]
    permuted = [hessian[order][:, order] for hessian, order in zip(hessians, orders, strict=True)]
    upper = torch.stack([conditioned(hessian).float() for hessian in permuted])  # (N, columns, columns)
    left = torch.stack([torch.from_numpy(w)[:, order] for w, order in zip(weights, orders, strict=True)])
    row_steps = torch.stack([torch.from_numpy(grid.row_steps(rows)) for grid in grids])  # (N, rows)
    factors = [torch.from_numpy(grid.column_factors(columns)) for grid in grids]
    column_factors = torch.stack([factor[order] for factor, order in zip(factors, orders, strict=True)])
    divisors = torch.where(row_steps > 0, row_steps, 1.0)  # a row of zeros has step 0
    integers = torch.zeros(left.shape, dtype=torch.int8)
    for begin in range(0, columns, FEEDBACK_BLOCK):
        end = min(begin + FEEDBACK_BLOCK, columns)
        block = left[:, :, begin:end].clone()
        errors = torch.empty_like(block)
        for at in range(end - begin):
            column = begin + at
            factor = column_factors[:, column, None]
            in_steps = block[:, :, at] / (divisors * factor)  # (N, rows)
            rounded = _round(in_steps.T.numpy(), grids[0].trellis, bits)  # (rows, N): a trellis runs down rows
            integers[:, :, column] = torch.from_numpy(rounded.T)
            values = torch.from_numpy(grids[0].values(rounded)).T
            errors[:, :, at] = (block[:, :, at] - values * (row_steps * factor)) / upper[:, column, column, None]
            block[:, :, at + 1 :] -= errors[:, :, at, None] * upper[:, None, column, column + 1 : end]
        left[:, :, end:] -= errors @ upper[:, begin:end, end:]
    return [part[:, torch.argsort(order)].numpy() for part, order in zip(integers, orders, strict=True)]
