"""Weights -> integers and their grid, each way a pure function: absmax, clip search, k sigma, and error feedback.

    integers, grid = absmax(weight, bits)
    integers = feedback(weight, grid, bits, hessian)          GPTQ (Frantar et al. 2022) on any grid

Rows are outputs. Scales are fp16 and rounded before use, so that rounding sees what the reader will see.
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


def absmax(weight: Floats, bits: int) -> tuple[Integers, Grid]:
    """The contest's: a row's largest weight becomes the largest integer."""
    return _by_rows(weight, bits, np.abs(weight).max(axis=1, initial=0.0))


def clip(weight: Floats, bits: int) -> tuple[Integers, Grid]:
    """Absmax with each row's clip chosen for the least squared error."""
    largest = np.abs(weight).max(axis=1, initial=0.0)
    best, chosen = np.full(len(weight), np.inf), largest.copy()
    for share in CLIPS:
        integers, grid = _by_rows(weight, bits, largest * share)
        error = np.square(grid.weights(integers) - weight).sum(axis=1)
        chosen = np.where(error < best, largest * share, chosen)
        best = np.minimum(error, best)
    return _by_rows(weight, bits, chosen)


def sigma(weight: Floats, bits: int, k: float) -> tuple[Integers, Grid]:
    """A row's clip is k times its root mean square (SDClip): with an entropy coder behind, k sets the bytes."""
    return _by_rows(weight, bits, k * np.sqrt(np.square(weight).mean(axis=1)))


def nearest(weight: Floats, grid: Grid, bits: int) -> Integers:
    rows, columns = weight.shape
    steps = grid.row_steps(rows)[:, None] * grid.column_steps(columns)
    return _whole_steps(np.divide(weight, steps, out=np.zeros_like(weight), where=steps > 0), grid.trellis, bits)


def _whole_steps(steps: Floats, trellis: bool, bits: int) -> Integers:
    """(rows, columns) weights in steps -> the closest integers of so many bits."""
    if trellis:
        return search(2 * steps, limits(bits)[1]).astype(np.int8)
    integers: Integers = np.clip(np.rint(steps), *limits(bits)).astype(np.int8)
    return integers


def conditioned(hessian: torch.Tensor) -> torch.Tensor:
    """Upper Cholesky factor U of the damped inverse, H^-1 = U^T U: 1/U_cc^2 is what an error in column c costs once the
    columns after it have made up for what they can."""
    damped = hessian.double().clone()
    mean = float(damped.diagonal().mean())
    damped.diagonal().add_(DAMPING * mean if mean > 0 else 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper: torch.Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper


def feedback(weight: Floats, grid: Grid, bits: int, hessian: torch.Tensor) -> Integers:
    return feedbacks([weight], [grid], bits, [hessian])[0]


def feedbacks(
    weights: Sequence[Floats], grids: Sequence[Grid], bits: int, hessians: Sequence[torch.Tensor]
) -> list[Integers]:
    """Column by column, the loudest first; each one's rounding error is made up for by those still to come.

    Matrices of one shape go side by side (N of them): the same numbers as one after the other, in fewer steps.
    """
    rows, columns = weights[0].shape
    orders = [torch.argsort(hessian.diagonal(), descending=True, stable=True) for hessian in hessians]
    permuted = [hessian[order][:, order] for hessian, order in zip(hessians, orders, strict=True)]
    upper = torch.stack([conditioned(hessian).float() for hessian in permuted])  # (N, columns, columns)
    left = torch.stack([torch.from_numpy(np.ascontiguousarray(w))[:, o] for w, o in zip(weights, orders, strict=True)])
    row_steps = torch.stack([torch.from_numpy(grid.row_steps(rows)) for grid in grids])  # (N, rows)
    column_steps = torch.stack(
        [torch.from_numpy(grid.column_steps(columns))[order] for grid, order in zip(grids, orders, strict=True)]
    )
    safe_rows = torch.where(row_steps > 0, row_steps, torch.ones(()))  # a row of zeros has step 0
    integers = torch.zeros(left.shape, dtype=torch.int8)
    for begin in range(0, columns, FEEDBACK_BLOCK):
        end = min(begin + FEEDBACK_BLOCK, columns)
        block, errors = left[:, :, begin:end].clone(), torch.empty(len(weights), rows, end - begin)
        for at in range(end - begin):
            column, width = begin + at, column_steps[:, begin + at, None]
            wanted = block[:, :, at] / (safe_rows * width)  # (N, rows), in steps
            whole = _whole_steps(wanted.T.numpy(), grids[0].trellis, bits)  # (rows, N)
            integers[:, :, column] = torch.from_numpy(whole.T)
            value = torch.from_numpy(grids[0].values(whole)).T
            errors[:, :, at] = (block[:, :, at] - value * (row_steps * width)) / upper[:, column, column, None]
            block[:, :, at + 1 :] -= errors[:, :, at, None] * upper[:, None, column, column + 1 : end]
        left[:, :, end:] -= errors @ upper[:, begin:end, end:]
    plain = torch.empty_like(integers)
    for number, order in enumerate(orders):
        plain[number][:, order] = integers[number]
    return list(plain.numpy())


def _by_rows(weight: Floats, bits: int, clips: np.ndarray) -> tuple[Integers, Grid]:
    steps = clips / limits(bits)[1]
    # fp16 from 2^15 downwards, in units of the tensor's own: rows 2^29 times smaller than the largest are still exact.
    unit = float(np.float32(steps.max(initial=0.0) / 2**15)) or 1.0
    grid = Grid(step=unit, scales=(steps / unit).astype(np.float16))
    return nearest(weight, grid, bits), grid
