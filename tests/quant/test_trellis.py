"""quant.trellis and its search, which finds the best of all paths: a reader gets the values that it chose."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant import trellis_search
from quant.coder import entropy_bits
from quant.dequant import Floats, Grid, Integers
from quant.rounding import nearest
from quant.trellis import SEGMENT, halves
from quant.trellis_search import to_integers


def search(wanted: Floats, largest: int) -> Integers:
    """(rows, columns) half steps -> integers."""
    return to_integers(trellis_search.search(torch.from_numpy(wanted).T, largest)).T.numpy()


@settings(max_examples=60)
@given(st.lists(st.floats(-9, 9), min_size=1, max_size=5), st.sampled_from([1, 3, 127]))
def test_no_other_integers_come_closer(wanted: list[float], largest: int) -> None:
    column = np.array(wanted, np.float32)[:, None]
    found = search(column, largest)
    assert np.abs(found).max() <= largest
    every = np.array(list(itertools.product(range(-min(largest, 6), min(largest, 6) + 1), repeat=len(wanted)))).T
    best = np.square(halves(every) - column).sum(0).min()
    assert np.square(halves(found) - column).sum() == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("largest", [1, 3, 127])
def test_the_search_of_a_gpu_finds_what_the_compiled_one_does(largest: int) -> None:
    for spread in (0.3, 2, 20, 200):
        runs = torch.randn(50, SEGMENT, generator=torch.Generator().manual_seed(0)) * spread
        runs[7] = 0
        found = trellis_search.search(runs, largest)
        assert torch.equal(trellis_search.search_by_products(runs, largest), found)
        assert np.array_equal(halves(to_integers(found).T.numpy()), found.T.numpy())


def test_columns_and_segments_are_independent() -> None:
    wanted = np.random.default_rng(0).normal(0, 6, (3 * SEGMENT + 5, 7)).astype(np.float32)
    at_once = search(wanted, 127)
    for column in range(7):
        assert np.array_equal(search(wanted[:, column : column + 1], 127), at_once[:, column : column + 1])
    for first in range(0, len(wanted), SEGMENT):
        part = slice(first, first + SEGMENT)
        assert np.array_equal(search(wanted[part], 127), at_once[part])


def test_two_staggered_grids_err_less_than_one_of_the_same_step() -> None:
    for spread in (0.7, 2.0, 8.0):
        weight = np.random.default_rng(2).normal(0, spread, (256, 64)).astype(np.float32)
        errors, entropies = [], []
        for staggered in (False, True):
            grid = Grid(step=1.0, trellis=staggered)
            integers = nearest(torch.from_numpy(weight), grid, 8).numpy()
            errors.append(float(np.square(grid.weights(integers) - weight).mean()))
            entropies.append(entropy_bits(integers) / integers.size)
        # A weight's error falls by a factor of four for every bit: what is left is the gain at equal rate.
        assert errors[1] / errors[0] * 4 ** (entropies[1] - entropies[0]) < 0.9
