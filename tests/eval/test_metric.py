"""eval.metric: bits per byte against known answers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import CheckFailed
from data.bytes import ByteTable, bits_per_byte
from data.tokenizer import ByteTokenizer, SentencePieceTokenizer
from eval.metric import BLOCK_TOKENS, Tally


def stream(tokenizer: SentencePieceTokenizer, text: str) -> np.ndarray:
    return np.concatenate([[tokenizer.bos_id], tokenizer.encode(text)])


def test_a_uniform_model_costs_log2_of_the_vocabulary_per_token(tokenizer: SentencePieceTokenizer) -> None:
    text = "a naïve café, 2048 bytes " * 40
    tokens = stream(tokenizer, text)
    tally = Tally(ByteTable(tokenizer), tokens)
    tally.add(0, np.full(len(tokens) - 1, math.log(tokenizer.vocab_size)))
    score = tally.score()
    assert score.bytes == len(text.encode())
    assert score.bpb == pytest.approx(math.log2(400) * (len(tokens) - 1) / len(text.encode()), rel=1e-12)
    assert score.coverage == 1.0
    assert not score.partial


@given(st.integers(1, 12), st.permutations(range(12)), st.sampled_from([1, 5, 12, 100]))
def test_order_and_ranks_change_nothing(cut: int, order: list[int], block: int) -> None:
    tokenizer = ByteTokenizer()
    tokens = np.concatenate([[1], tokenizer.encode("twelve bytes")])
    nats = np.linspace(0.1, 3.0, 12)
    table = ByteTable(tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eval.metric.BLOCK_TOKENS", block)
        at_once, left, right = (Tally(table, tokens) for _ in range(3))
        at_once.add(0, nats)
        for target in order:
            (left if target < cut else right).add(target, nats[target : target + 1])
        left.merge(right.state())
        assert left.score().plain() == pytest.approx(at_once.score().plain(), rel=1e-12)
        expected = [nats[begin : begin + block].sum() for begin in range(0, 12, block)]
        for tally in (left, at_once):
            np.testing.assert_allclose(tally.score().block_nats, expected, rtol=1e-12)


def test_the_total_is_the_sum_of_the_blocks() -> None:
    tokens = np.concatenate([[1], np.full(2 * BLOCK_TOKENS + 5, 70)])
    tally = Tally(ByteTable(ByteTokenizer()), tokens)
    assert math.isnan(tally.bpb_so_far())
    nats = np.random.default_rng(0).exponential(size=len(tokens) - 1)
    for first in range(0, len(nats), 1000):
        tally.add(first, nats[first : first + 1000])
        size = min(first + 1000, len(nats))
        assert tally.bpb_so_far() == pytest.approx(nats[:size].sum() / math.log(2) / size, rel=1e-12)
    score = tally.score()
    assert len(score.block_nats) == 3
    assert score.block_nats[2] == pytest.approx(nats[-5:].sum(), rel=1e-12)
    assert score.bpb == bits_per_byte(float(score.block_nats.sum()), len(nats))


def test_ranks_that_scored_the_same_target_are_found_out() -> None:
    one, two = (Tally(ByteTable(ByteTokenizer()), np.array([1, 70, 71, 72])) for _ in range(2))
    one.add(0, [1.0, 1.0])
    two.add(1, [1.0, 1.0])
    one.merge(two.state())
    with pytest.raises(CheckFailed, match="1 targets were scored more than once, the first is target 1"):
        one.score()


def test_losses_that_no_code_could_have_or_of_targets_outside_the_text_are_refused() -> None:
    tally = Tally(ByteTable(ByteTokenizer()), np.array([1, 70, 71]))
    for loss in (math.nan, math.inf, -0.1):
        with pytest.raises(CheckFailed, match="no code has such a length"):
            tally.add(0, [1.0, loss])
    for first, count in ((-1, 1), (2, 1), (0, 3)):
        with pytest.raises(CheckFailed, match="lie outside the 2 there are"):
            tally.add(first, np.ones(count))
    with pytest.raises(CheckFailed, match="nothing to divide by"):
        bits_per_byte(1.0, 0)
    with pytest.raises(CheckFailed, match="add up to inf"):
        bits_per_byte(math.inf, 1)
