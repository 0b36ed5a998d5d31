"""eval.metric: bits per byte against known answers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import CheckFailed
from data.bytes import ByteTable, bits_per_byte
from data.tokenizer import ByteTokenizer
from eval.metric import BLOCK_TOKENS, MOST_RANKS, Tally


def add_up(ours: Tally, other: Tally) -> None:
    """What engine.device.add_up does with the counters of all ranks."""
    for counter, theirs in zip(ours.counters(), other.counters(), strict=True):
        np.add(counter, theirs, out=counter)


@given(st.integers(1, 12), st.permutations(range(12)), st.sampled_from([1, 5, 12, 100]))
def test_order_and_ranks_change_nothing(cut: int, order: list[int], block: int) -> None:
    tokenizer = ByteTokenizer()
    tokens = np.concatenate([[1], tokenizer.encode("twelve bytes")])
    nats = np.linspace(0.1, 3.0, 12)
    table = ByteTable(tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eval.metric.BLOCK_TOKENS", block)
        at_once, left, right = (Tally(table, tokens) for _ in range(3))
        at_once.add(np.array(order), nats[order])
        for target in order:
            (left if target < cut else right).add([target], nats[target : target + 1])
        add_up(left, right)
        assert left.score().plain() == pytest.approx(at_once.score().plain(), rel=1e-12)
        expected = [nats[begin : begin + block].sum() for begin in range(0, 12, block)]
        for tally in (left, at_once):
            np.testing.assert_allclose(tally.score().block_nats, expected, rtol=1e-12)


def test_the_total_is_the_sum_of_the_blocks() -> None:
    tokens = np.concatenate([[1], np.full(2 * BLOCK_TOKENS + 5, 70)])
    tally = Tally(ByteTable(ByteTokenizer()), tokens)
    assert math.isnan(tally.bpb_so_far())
    nats = np.random.default_rng(0).exponential(size=len(tokens) - 1)
    for targets in np.split(np.arange(len(nats)), range(1000, len(nats), 1000)):
        tally.add(targets, nats[targets])
        size = targets[-1] + 1
        assert tally.bpb_so_far() == pytest.approx(nats[:size].sum() / math.log(2) / size, rel=1e-12)
    score = tally.score()
    assert len(score.block_nats) == 3
    assert score.block_nats[2] == pytest.approx(nats[-5:].sum(), rel=1e-12)
    assert score.bpb == bits_per_byte(float(score.block_nats.sum()), len(nats))


@pytest.mark.parametrize("times", [1, 2, 255, 256, 257])
def test_a_target_that_was_scored_again_is_found_out_however_often_and_on_whichever_rank(times: int) -> None:
    tallies = [Tally(ByteTable(ByteTokenizer()), np.array([1, 70, 71, 72])) for _ in range(MOST_RANKS)]
    tallies[0].add([0, 1], [1.0, 1.0])
    for other in tallies[1:]:
        other.add([1] * times, [1.0] * times)
        add_up(tallies[0], other)
    alone = Tally(ByteTable(ByteTokenizer()), np.array([1, 70, 71, 72]))
    alone.add([1, 1], [1.0, 1.0])
    for tally in (tallies[0], alone):
        with pytest.raises(CheckFailed, match="1 targets were scored more than once, the first is target 1"):
            tally.score(partial=True)


def test_losses_that_no_code_could_have_or_of_targets_outside_the_text_are_refused() -> None:
    tally = Tally(ByteTable(ByteTokenizer()), np.array([1, 70, 71]))
    for loss in (math.nan, math.inf, -0.1):
        with pytest.raises(CheckFailed, match="the loss of target 1 is .* no code has such a length"):
            tally.add([0, 1], [1.0, loss])
    for targets, outside in (([-1], -1), ([2], 2), ([0, 1, 2], 2)):
        with pytest.raises(CheckFailed, match=f"target {outside} lies outside the 2 there are"):
            tally.add(targets, np.ones(len(targets)))
    assert not tally.is_scored.any()
    with pytest.raises(CheckFailed, match="nothing to divide by"):
        bits_per_byte(1.0, 0)
    with pytest.raises(CheckFailed, match="add up to inf"):
        bits_per_byte(math.inf, 1)
