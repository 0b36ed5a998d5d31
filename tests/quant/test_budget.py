"""quant.budget: the dial or the widths land just under any cap that can be met, and a cap that cannot be is refused."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BadInput
from quant import budget

WEIGHTS = 1_000_000


def size_at(dial: float) -> int:
    """Bytes as a coder gives them: a bit per octave where steps are fine, a tail where nearly all is zero."""
    return 40_000 + int(WEIGHTS / 8 * math.log2(1 + 4.0 / dial))


def estimate(dial: float) -> float:
    """Without what the coder adds, and off as plain rounding is: by a share that changes with the steps."""
    return (size_at(dial) - 40_000) * (1.1 + 0.02 * math.log2(dial))


@given(st.integers(size_at(budget.COARSEST) + 200, size_at(budget.FINEST)))
def test_the_dial_lands_just_under_the_cap_in_three_packs(cap: int) -> None:
    packed = list[float]()

    def measure(dial: float) -> int:
        packed.append(dial)
        return size_at(dial)

    dial = budget.fit_dial(estimate, measure, cap)
    assert (1 - budget.CLOSE) * cap <= size_at(dial) <= cap
    assert len(packed) <= (3 if size_at(4.0) < cap < size_at(0.01) else 24)


def test_any_coder_and_any_cap_is_bracketed() -> None:
    for size in (lambda d: int(2e6 / d**3), lambda d: int(2e5 / d**0.2), lambda d: 300_000 if d < 0.7 else 140_000):
        dial = budget.fit_dial(estimate, size, 150_000)
        assert 0.9 * 150_000 < size(dial) <= 150_000
    assert budget.fit_dial(estimate, size_at, 10**9) == pytest.approx(budget.FINEST)
    with pytest.raises(BadInput, match=f"the coarsest steps give {size_at(budget.COARSEST):,}"):
        budget.fit_dial(estimate, size_at, 30_000)


tables = st.lists(
    st.lists(st.tuples(st.integers(1, 400), st.floats(0, 10)), min_size=1, max_size=4), min_size=1, max_size=5
).map(
    lambda rows: {
        f"t{n}": [budget.Option(2 + k, size, loss) for k, (size, loss) in enumerate(row)] for n, row in enumerate(rows)
    }
)


def chosen(table: budget.Table, widths: budget.Widths) -> list[budget.Option]:
    return [next(option for option in options if option.bits == widths[name]) for name, options in table.items()]


@given(tables, st.integers(1, 2000))
def test_widths_are_the_best_of_all_that_fit(table: budget.Table, allowed: int) -> None:
    picked = chosen(table, budget.least_loss(table, allowed))
    slack = allowed * len(table) / budget.UNITS  # sizes are rounded up to units
    fitting = [
        sum(option.loss for option in pick)
        for pick in itertools.product(*table.values())
        if sum(option.size_bytes for option in pick) <= allowed - slack
    ]
    if fitting:
        assert sum(option.size_bytes for option in picked) <= allowed
        assert sum(option.loss for option in picked) <= min(fitting) + 1e-9


@given(tables, st.integers(1, 2000), st.floats(0.8, 1.2), st.integers(0, 50))
def test_a_cap_that_the_narrowest_widths_meet_is_met(table: budget.Table, cap: int, off: float, overhead: int) -> None:
    def measure(widths: budget.Widths) -> int:
        return overhead + int(off * sum(option.size_bytes for option in chosen(table, widths)))

    narrowest = {name: min(options, key=lambda option: option.size_bytes).bits for name, options in table.items()}
    if measure(narrowest) <= cap:
        assert measure(budget.fit_widths(table, measure, cap)) <= cap
    else:
        with pytest.raises(BadInput, match="cannot be met: the narrowest widths"):
            budget.fit_widths(table, measure, cap)


def test_weights_that_a_cap_has_no_room_for_are_refused_with_how_many_fit() -> None:
    sizes = {"embedding.table.weight": 9000, "blocks.0.mlp.up.weight": 500}
    budget.require_room(sizes, 1000 + 1188, 1000)
    with pytest.raises(BadInput, match=r"embedding.table.weight has 9,000 and all others 500: 7,500 of them fit"):
        budget.require_room(sizes, 2000, 1000)
    with pytest.raises(BadInput, match="at most 80 in all fit"):
        budget.require_room(sizes, 1010, 1000)


def test_widths_land_just_under_the_cap_though_estimates_are_off() -> None:
    sizes = [997 * (1 + n % 7) for n in range(40)]
    table = {f"t{n}": [budget.Option(b, size * b, size * 4.0**-b) for b in range(2, 9)] for n, size in enumerate(sizes)}

    def measure(widths: budget.Widths) -> int:
        return 10_000 + int(sum(0.93 * sizes[n] * bits for n, bits in enumerate(widths.values())))

    for cap in (450_000, 600_000, 800_000):
        assert (1 - budget.CLOSE) * cap <= measure(budget.fit_widths(table, measure, cap)) <= cap
    assert set(budget.fit_widths(table, measure, 10**9).values()) == {8}
