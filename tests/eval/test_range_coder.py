"""eval.range_coder: tokens come back, at the cost of their frequencies."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.range_coder import TOTAL, Decoder, Encoder, frequencies


@given(st.integers(0, 2**32), st.integers(2, 300), st.integers(0, 40))
def test_tokens_come_back_at_the_cost_of_their_frequencies(seed: int, vocabulary: int, length: int) -> None:
    draw = np.random.default_rng(seed)
    counts = frequencies(draw.dirichlet(np.full(vocabulary, 0.05), length) if length else np.ones((1, vocabulary)))
    tokens = draw.integers(0, vocabulary, length)
    encoder = Encoder()
    for row, token in zip(counts, tokens, strict=False):
        encoder.code(row, int(token))
    data, bits = encoder.finish(), -np.log2(counts[np.arange(length), tokens] / TOTAL).sum() if length else 0.0
    assert 8 * len(data) <= bits + 64
    decoder = Decoder(data)
    assert [decoder.code(row) for row, _ in zip(counts, tokens, strict=False)] == tokens.tolist()


@given(st.integers(0, 2**32))
def test_every_token_can_be_coded_and_the_rest_is_close(seed: int) -> None:
    p = np.random.default_rng(seed).dirichlet(np.full(4096, 0.01), 3)
    counts = frequencies(p)
    assert (counts.sum(-1) == TOTAL).all()
    assert (counts >= 1).all()
    cost = -(p * np.log2(counts / TOTAL)).sum(-1) + (p * np.log2(np.maximum(p, 1e-300))).sum(-1)
    assert (cost < 4096 / TOTAL / math.log(2) + 1e-6).all()


def test_weights_that_are_no_distribution_and_a_stream_cut_within_a_word_are_refused() -> None:
    for bad in ([0.5, -0.1], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]):
        with pytest.raises(ValueError, match="finite, not negative"):
            frequencies(np.array(bad))
    with pytest.raises(ValueError, match="multiple of 4"):
        Decoder(b"abc")
