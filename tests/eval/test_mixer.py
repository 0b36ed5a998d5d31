"""eval.mixing.mixer: normalised, causal, no worse than the model, and much better where the text repeats itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize("kind", ["byte", "sentencepiece"])
def test_predictions_add_up_to_one_and_are_what_a_token_costs(kind: str, tokenizer: SentencePieceTokenizer) -> None:
    made = BYTES if kind == "byte" else tokenizer
    ids = made.encode("the model scores the text, the text scores the model.\n" * 4)[:150]
    tokens = np.concatenate([[made.bos_id], ids, [made.bos_id, made.pad_id, made.eos_id, made.unk_id], ids[:20]])
    given = rows(len(tokens) - 1, made.vocab_size)
    expected = costs(made, tokens, given)
    mixture = Mixture(made, BITS)
    mixture.begin(int(tokens[0]))
    for row, token, nats in zip(given, tokens[1:], expected, strict=True):
        p = mixture.predict(row)
        assert p.shape == (made.vocab_size,)
        assert (p > 0).all()
        assert abs(p.sum() - 1) < 1e-9
        assert -np.log(p[token]) == pytest.approx(nats, abs=1e-9)
        assert mixture.cost(row, int(token)) == nats


@settings(max_examples=15)
@given(st.integers(1, 119), st.integers(0, 259))
def test_a_later_token_does_not_change_an_earlier_cost(at: int, other: int) -> None:
    tokens = np.concatenate([[1], BYTES.encode("what is to come is not known. " * 4)])
    given = rows(120, 260)
    changed = tokens.copy()
    changed[at] = other
    before, after = costs(BYTES, tokens, given), costs(BYTES, changed, given)
    assert before[: at - 1].tolist() == after[: at - 1].tolist()  # target i is token i + 1


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


def test_it_begins_as_the_model_alone() -> None:
    given = rows(50, 260)
    for row in given:
        mixture = Mixture(BYTES, BITS)
        mixture.begin(1)
        assert np.abs(np.log(mixture.predict(row)) - row).max() < 1e-4


def test_text_that_teaches_nothing_costs_little_more_than_the_model_alone() -> None:
    draw = np.random.default_rng(0)
    given = rows(1500, 260, spread=1.0)
    tokens = np.array([1, *(draw.choice(260, p=np.exp(row) / np.exp(row).sum()) for row in given)])
    alone = -given[np.arange(1500), tokens[1:]].sum()
    assert costs(BYTES, tokens, given).sum() < alone * 1.02


def test_text_that_repeats_itself_becomes_cheap(tokenizer: SentencePieceTokenizer, texts: list[str]) -> None:
    ids = tokenizer.encode(texts[0])[:250]
    tokens = np.concatenate([[tokenizer.bos_id], ids, ids, ids])
    given = np.full((len(tokens) - 1, tokenizer.vocab_size), -np.log(tokenizer.vocab_size))
    first, second, third = np.split(costs(tokenizer, tokens, given), 3)
    assert second.sum() < 0.6 * first.sum()
    assert third.sum() < 0.2 * first.sum()


def test_a_model_that_rules_a_token_out_is_overruled() -> None:
    row = np.full(260, -np.inf)
    row[100] = 0.0
    cost = costs(BYTES, np.array([1, 101]), row[None])
    assert np.isfinite(cost).all()
    assert cost[0] > 10
