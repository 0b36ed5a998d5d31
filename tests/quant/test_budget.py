"""quant.budget: the dial lands within 0.3 % under any cap that can be met, and says so when none can."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BadInput
from quant.budget import COARSEST, FINEST, fit

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
