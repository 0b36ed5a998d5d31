"""quant.budget: the dial lands within 0.3 % under any cap that can be met, and says so when none can."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BadInput
from quant.budget import CLOSE, COARSEST, FINEST, UNITS, Option, Table, Widths, fit, fit_widths, least_loss

WEIGHTS = 1_000_000


def size_at(dial: float) -> int:
    """Bytes as a coder gives them: a bit an octave where steps are fine, a tail where nearly all is zero."""
    return 40_000 + int(WEIGHTS / 8 * math.log2(1 + 4.0 / dial))


@given(st.integers(size_at(COARSEST) + 200, size_at(FINEST)), st.floats(0.05, 3.0))
def test_the_dial_lands_just_under_the_cap(cap: int, start: float) -> None:
    found = fit(size_at, cap, WEIGHTS, start)
    assert 0.997 * cap <= found.size_bytes <= cap
    assert found.size_bytes == size_at(found.dial)
    assert len(found.tried) <= (6 if size_at(4.0) < cap < size_at(0.01) else 24)


def test_a_steep_or_a_flat_coder_is_bracketed_as_well() -> None:
    for measure in (lambda d: int(2e6 / d**3), lambda d: int(2e5 / d**0.2)):
        found = fit(measure, 150_000, WEIGHTS)
        assert found.size_bytes <= 150_000
        assert found.size_bytes > 0.9 * 150_000


def test_a_cap_beyond_all_need_takes_the_finest_steps() -> None:
    assert fit(size_at, 10**9, WEIGHTS).dial == FINEST


def test_a_cap_that_cannot_be_met_names_the_smallest_size_that_can() -> None:
    with pytest.raises(BadInput, match=f"the coarsest steps give {size_at(COARSEST):,}"):
        fit(size_at, 30_000, WEIGHTS)


tables = st.lists(
    st.lists(st.tuples(st.integers(1, 400), st.floats(0, 10)), min_size=1, max_size=4), min_size=1, max_size=5
).map(
    lambda rows: {
        f"t{n}": [Option(2 + k, size, loss) for k, (size, loss) in enumerate(row)] for n, row in enumerate(rows)
    }
)


@given(tables, st.integers(1, 2000))
def test_widths_are_the_best_of_all_that_fit(table: Table, allowed: int) -> None:
    widths = least_loss(table, allowed)
    chosen = [next(o for o in options if o.bits == widths[name]) for name, options in table.items()]
    every = list(itertools.product(*table.values()))
    slack = allowed * len(table) / UNITS  # sizes are counted in whole units
    fitting = [sum(o.loss for o in pick) for pick in every if sum(o.size_bytes for o in pick) <= allowed - slack]
    if fitting:
        assert sum(o.size_bytes for o in chosen) <= allowed
        assert sum(o.loss for o in chosen) <= min(fitting) + 1e-9


@given(tables, st.integers(1, 2000), st.floats(0.8, 1.2), st.integers(0, 50))
def test_a_cap_that_the_narrowest_widths_meet_is_met(table: Table, cap: int, off: float, overhead: int) -> None:
    def measured(widths: Widths) -> int:
        sizes = (next(o for o in options if o.bits == widths[name]).size_bytes for name, options in table.items())
        return overhead + int(off * sum(sizes))

    narrowest = {name: min(options, key=lambda option: option.size_bytes).bits for name, options in table.items()}
    if measured(narrowest) <= cap:
        assert measured(fit_widths(table, measured, cap)) <= cap
    else:
        with pytest.raises(BadInput, match="cannot be met"):
            fit_widths(table, measured, cap)


def test_widths_land_just_under_the_cap_though_estimates_are_off() -> None:
    sizes = [997 * (1 + n % 7) for n in range(40)]
    table = {f"t{n}": [Option(b, size * b, size * 4.0**-b) for b in range(2, 9)] for n, size in enumerate(sizes)}

    def measured(widths: Widths) -> int:
        return 10_000 + int(sum(0.93 * sizes[n] * bits for n, bits in enumerate(widths.values())))

    for cap in (450_000, 600_000, 800_000):
        assert (1 - CLOSE) * cap <= measured(fit_widths(table, measured, cap)) <= cap
    with pytest.raises(BadInput, match="cannot be met: the narrowest widths"):
        fit_widths(table, measured, 100_000)
