"""eval.windows: every target exactly once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.windows import plan_documents, plan_windows


@given(st.integers(1, 700), st.integers(1, 80), st.data())
def test_every_target_is_scored_exactly_once(targets: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    seen = np.zeros(targets, int)
    plan = plan_windows(targets, context, stride)
    for number, (start, end, score_from) in enumerate(zip(*plan, strict=True)):
        seen[score_from:end] += 1
        assert start == number * stride
        assert start <= score_from < end <= targets
        assert end - start <= context
        assert end - score_from == (end if number == 0 else min(stride, targets - score_from))
        if number:  # a later window gives each target at least context - stride tokens before it
            assert score_from - start == context - stride
    assert (seen == 1).all()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 20), st.data())
def test_documents_are_planned_as_if_each_were_alone(lengths: list[int], context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    begins = np.cumsum([0, *lengths[:-1]])
    targets = sum(lengths) - data.draw(st.integers(0, min(1, sum(lengths) - 1)))  # the last part may lack one, or all
    expected: list[tuple[int, int, int]] = []
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), targets], strict=True):
        if end > begin:
            alone = plan_windows(end - begin, context, stride)
            expected += zip(*(begin + column for column in alone), strict=True)
    assert [*zip(*plan_documents(begins, targets, context, stride), strict=True)] == expected


def test_plans_that_would_skip_targets_or_parts_are_refused() -> None:
    for targets, context, stride in [(0, 8, 4), (10, 8, 0), (10, 8, 9), (10, 0, 0), (-1, 8, 4)]:
        with pytest.raises(ValueError, match="targets|stride"):
            plan_windows(targets, context, stride)
    for begins in ([], [1], [0, 3, 3], [0, 5, 2]):
        with pytest.raises(ValueError, match="begin at its token 0, then each after the one before"):
            plan_documents(np.array(begins, np.int64), 10, 4, 2)
