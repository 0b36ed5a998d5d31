"""quant.rounding and quant.dequant: what each way of rounding promises, against plain fp64 arithmetic."""

import numpy as np
import torch

from quant import rounding
from quant.dequant import EIGHTHS, Floats, Grid, Integers, octaves, to_eighths
from quant.hessian import Cost
from quant.rounding import absmax, clip, feedback, limits, sigma


def weights(rows: int = 48, columns: int = 64, scale: float = 0.02) -> torch.Tensor:
    random = np.random.default_rng(3)
    return torch.from_numpy((random.standard_t(5, (rows, columns)) * scale).astype(np.float32))


def nearest(weight: torch.Tensor, grid: Grid, bits: int) -> Integers:
    return rounding.nearest(weight, grid, bits).numpy()


def squared(a: Floats, b: torch.Tensor) -> float:
    return float(np.square(a.astype(np.float64) - b.numpy()).sum())


def test_absmax_has_the_range_of_the_contest_and_errs_by_half_a_step() -> None:
    weight = weights()
    for bits in range(2, 9):
        grid = absmax(weight, bits)
        integers = nearest(weight, grid, bits)
        low, high = limits(bits)
        assert low <= integers.min() <= integers.max() <= high
        steps = grid.row_steps(48).astype(np.float64)[:, None]
        assert (np.abs(grid.weights(integers) - weight.numpy()) <= steps * 0.502 + 1e-12).all()
        assert np.allclose(steps[:, 0], weight.abs().amax(1) / high, rtol=1e-3)


def test_a_small_row_is_not_coarsened_and_an_empty_one_stays_empty() -> None:
    weight = weights() * torch.logspace(-5, 0, 48)[:, None]
    weight[7] = 0
    grid = absmax(weight, 8)
    integers = nearest(weight, grid, 8)
    back = grid.weights(integers)
    assert not back[7].any()
    rows = [r for r in range(48) if r != 7]
    relative = np.abs(back - weight.numpy()).max(1)[rows] / weight.abs().amax(1).numpy()[rows]
    assert relative.max() < 0.02  # the contest's floor made rows below 1 lose most of it


def test_the_clip_search_never_errs_more_than_absmax() -> None:
    weight = weights()
    for bits in (3, 4, 5):
        grids = (absmax(weight, bits), clip(weight, bits))
        plain, searched = (squared(grid.weights(nearest(weight, grid, bits)), weight) for grid in grids)
        assert searched <= plain
    assert searched < 0.95 * plain


def test_sigma_clips_at_k_root_mean_squares_of_the_row() -> None:
    weight = weights()
    grid = sigma(weight, 6, 3.0)
    assert np.allclose(grid.row_steps(48) * 31, 3 * weight.square().mean(1).sqrt(), rtol=1e-3)
    assert nearest(weight, grid, 6).max() == 31


def test_octaves_are_powers_of_two_to_the_last_bit() -> None:
    eighths = np.arange(-127, 128).astype(np.int8)
    exact = 2.0 ** (eighths.astype(np.float64) / 8)
    assert (np.abs(octaves(eighths) / exact - 1) < 6e-8).all()
    assert np.array_equal(octaves(np.array([-16, 0, 8], np.int8)), np.array([0.25, 1, 2], np.float32))
    assert np.array_equal(to_eighths(exact), eighths)
    assert np.array_equal(EIGHTHS, (2.0 ** (np.arange(8) / 8)).astype(np.float32))


def test_a_grid_of_rows_and_columns_is_their_product() -> None:
    random = np.random.default_rng(1)
    rows, columns = random.integers(-20, 20, 6).astype(np.int8), random.integers(-20, 20, 5).astype(np.int8)
    integers = random.integers(-9, 9, (6, 5)).astype(np.int8)
    grid = Grid(step=0.01, row_exponents=rows, column_exponents=columns)
    exact = integers * 0.01 * 2.0 ** (rows[:, None] / 8.0) * 2.0 ** (columns / 8.0)
    assert np.allclose(grid.weights(integers), exact, rtol=1e-6)
    assert np.array_equal(nearest(torch.from_numpy(grid.weights(integers)), grid, 8), integers)


def hessian(columns: int) -> torch.Tensor:
    """Inputs that go together, as activations do."""
    random = torch.Generator().manual_seed(0)
    mixed = torch.randn(2000, columns // 4, generator=random) @ torch.randn(columns // 4, columns, generator=random)
    x = (mixed + 0.3 * torch.randn(2000, columns, generator=random)).double()
    return x.mT @ x / 2000


def cost(h: torch.Tensor) -> Cost:
    return Cost(h.double(), torch.ones(48, dtype=torch.float64))


def fed_back(weight: torch.Tensor, grid: Grid, h: torch.Tensor, bits: int = 8) -> Integers:
    return feedback([weight], [grid], bits, [cost(h)])[0].numpy()


def output_error(weight: torch.Tensor, rounded: Floats, h: torch.Tensor) -> float:
    return cost(h).nats(torch.from_numpy(rounded) - weight)


def test_feedback_errs_far_less_at_the_output_than_nearest() -> None:
    weight, h = weights(), hessian(64)
    for bits in (3, 5):
        grid = absmax(weight, bits)
        integers = nearest(weight, grid, bits)
        better = fed_back(weight, grid, h, bits)
        low, high = limits(bits)
        assert low <= better.min() <= better.max() <= high
        assert output_error(weight, grid.weights(better), h) < 0.5 * output_error(weight, grid.weights(integers), h)
        assert np.array_equal(fed_back(weight, grid, torch.eye(64), bits), integers)  # inputs that are unrelated


def test_matrices_side_by_side_are_rounded_as_they_are_alone() -> None:
    several = [weights(scale=scale) for scale in (0.01, 0.02, 0.05)]
    hessians = [hessian(64) * (n + 1) + torch.diag(torch.arange(64.0) * n) for n in range(3)]
    for trellis in (False, True):
        grids = [Grid(step=0.01, row_exponents=np.arange(48).astype(np.int8) % 5, trellis=trellis)] * 3
        together = feedback(several, grids, 8, [cost(h) for h in hessians])
        for weight, grid, h, integers in zip(several, grids, hessians, together, strict=True):
            assert np.array_equal(fed_back(weight, grid, h), integers.numpy())


def test_feedback_is_gptq_written_out_in_fp64() -> None:
    columns = 140  # more than one block
    weight, h = weights(8, columns), hessian(columns)
    damped = h + 0.01 * h.diagonal().mean() * torch.eye(columns)
    order = torch.argsort(h.diagonal(), descending=True, stable=True)
    upper = torch.linalg.cholesky(torch.linalg.inv(damped[order][:, order]), upper=True)
    left = weight.double()[:, order]
    expected = torch.zeros(8, columns, dtype=torch.float64)
    for c in range(columns):
        expected[:, order[c]] = torch.round(left[:, c] / 0.02)
        error = (left[:, c] - expected[:, order[c]] * 0.02) / upper[c, c]
        left[:, c:] -= torch.outer(error, upper[c, c:])
    assert (fed_back(weight, Grid(step=0.02), h) != expected.numpy()).mean() < 0.005  # ties within rounding
