"""eval.mixing.mixer: normalised, causal, no worse than the model, and much better where the text repeats itself."""

import numpy as np
import pytest

from data.tokenizer import ByteTokenizer, SentencePieceTokenizer, Tokenizer
from eval.mixing.mixer import Mixture

BITS = 16  # of the tables
BYTES = ByteTokenizer()


def rows(count: int, vocab_size: int, seed: int = 0, spread: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, spread, (count, vocab_size))
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def costs(tokenizer: Tokenizer, tokens: np.ndarray, given: np.ndarray) -> np.ndarray:
    mixture = Mixture(tokenizer, BITS)
    mixture.begin(int(tokens[0]))
    return np.array([mixture.cost(row, int(token)) for row, token in zip(given, tokens[1:], strict=True)])


def test_predictions_add_up_to_one_and_are_what_a_token_costs(tokenizer: SentencePieceTokenizer) -> None:
    for made in (BYTES, tokenizer):
        ids = made.encode("the model scores the text, the text scores the model.\n" * 4)[:150]
        tokens = np.concatenate([[made.bos_id], ids, [made.bos_id, made.pad_id, made.eos_id, made.unk_id], ids[:20]])
        mixture = Mixture(made, BITS)
        mixture.begin(int(tokens[0]))
        for row, token in zip(rows(len(tokens) - 1, made.vocab_size), tokens[1:], strict=True):
            p = mixture.predict(row)
            assert p.shape == (made.vocab_size,)
            assert (p > 0).all()
            assert abs(p.sum() - 1) < 1e-9
            assert mixture.cost(row, int(token)) == pytest.approx(-np.log(p[token]), abs=1e-9)


def test_the_numbers_do_not_change() -> None:
    """Of 2026-11: whatever makes the mixing faster gives these very costs."""
    text = "def add(a, b):\n    return a + b\n\nThe score, the model; 12 of 37 words.\n" * 3
    tokens = np.concatenate([[1], BYTES.encode(text), [1], BYTES.encode(text[:60])])
    given = rows(len(tokens) - 1, 260)
    found = costs(BYTES, tokens, given)
    assert found.sum() == pytest.approx(516.9625507022052, rel=1e-10)
    some = [5.8195098143844, 6.505335773677566, 0.39860232179871485, 0.08390334885823561]
    assert found[[0, 10, 100, -1]] == pytest.approx(some, rel=1e-9)
    assert found.tolist() == costs(BYTES, tokens, given).tolist()


def test_it_begins_as_the_model_and_text_that_teaches_nothing_costs_little_more() -> None:
    for row in rows(50, 260):
        mixture = Mixture(BYTES, BITS)
        mixture.begin(1)
        assert np.abs(np.log(mixture.predict(row)) - row).max() < 1e-4
    draw = np.random.default_rng(0)
    given = rows(1500, 260, spread=1.0)
    tokens = np.array([1, *(draw.choice(260, p=np.exp(row) / np.exp(row).sum()) for row in given)])
    alone = -given[np.arange(1500), tokens[1:]].sum()
    assert costs(BYTES, tokens, given).sum() < alone * 1.02


def test_a_model_that_rules_a_token_out_is_overruled() -> None:
    row = np.full(260, -np.inf)
    row[100] = 0.0
    cost = costs(BYTES, np.array([1, 101]), row[None])
    assert np.isfinite(cost).all()
    assert cost[0] > 10
