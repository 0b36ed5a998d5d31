"""eval.mixing.mix: normalised, causal, no worse than the model, and much better where the text repeats itself."""

import time

import numpy as np
import pytest
import torch
from eval.mixing.mix import Mixed, log_probabilities
from hypothesis import given, settings
from hypothesis import strategies as st

from data.tokenizer import ByteTokenizer, SentencePieceTokenizer, Tokenizer
from eval.mixing.mixer import MixConfig
from eval.score import losses
from model.config import ModelConfig
from model.gpt import GPT

SMALL = MixConfig(table_bits=16)
BYTES = ByteTokenizer()


def rows(count: int, vocab_size: int, seed: int = 0, spread: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, spread, (count, vocab_size))
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def costs(tokenizer: Tokenizer, tokens: np.ndarray, given: np.ndarray, config: MixConfig = SMALL) -> np.ndarray:
    mixed = Mixed(tokenizer, config)
    mixed.reveal(int(tokens[0]))
    return np.array([mixed.cost(row, int(token)) for row, token in zip(given, tokens[1:], strict=True)])


@pytest.mark.parametrize("kind", ["byte", "sentencepiece"])
def test_forecasts_add_up_to_one_and_are_what_a_token_costs(kind: str, tokenizer: SentencePieceTokenizer) -> None:
    made = BYTES if kind == "byte" else tokenizer
    ids = made.encode("the model scores the text, the text scores the model.\n" * 4)[:150]
    tokens = np.concatenate([[made.bos_id], ids, [made.bos_id, made.pad_id, made.eos_id, made.unk_id], ids[:20]])
    given = rows(len(tokens) - 1, made.vocab_size)
    expected = costs(made, tokens, given)
    mixed = Mixed(made, SMALL)
    mixed.reveal(int(tokens[0]))
    for row, token, nats in zip(given, tokens[1:], expected, strict=True):
        p = mixed.predict(row)
        assert p.shape == (made.vocab_size,)
        assert (p > 0).all()
        assert abs(p.sum() - 1) < 1e-9
        assert -np.log(p[token]) == pytest.approx(nats, abs=1e-9)  # revealing after `predict` learns the same, too
        mixed.reveal(int(token))


def test_asking_changes_nothing() -> None:
    given = rows(60, 260)
    tokens = np.concatenate([[1], BYTES.encode("again and " * 6)])
    mixed = Mixed(BYTES, SMALL)
    mixed.reveal(1)
    asked = []
    for number, (row, token) in enumerate(zip(given, tokens[1:].tolist(), strict=True)):
        for other in range(number % 3):
            mixed.predict(given[other])
        asked.append(mixed.cost(row, token))
    assert asked == costs(BYTES, tokens, given).tolist()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 119), st.integers(0, 259))
def test_a_later_token_does_not_change_an_earlier_cost(at: int, other: int) -> None:
    tokens = np.concatenate([[1], BYTES.encode("what is to come is not known. " * 4)])
    given = rows(120, 260)
    changed = tokens.copy()
    changed[at] = other
    before, after = costs(BYTES, tokens, given), costs(BYTES, changed, given)
    assert before[: at - 1].tolist() == after[: at - 1].tolist()  # target i is token i + 1


def test_the_same_text_costs_the_same_to_the_bit() -> None:
    tokens = np.concatenate([[1], BYTES.encode("to the bit, " * 10)])
    assert costs(BYTES, tokens, rows(120, 260)).tolist() == costs(BYTES, tokens, rows(120, 260)).tolist()


def test_it_begins_as_the_model_alone() -> None:
    given = rows(50, 260)
    for row in given:
        mixed = Mixed(BYTES, SMALL)
        mixed.reveal(1)
        assert np.abs(np.log(mixed.predict(row)) - row).max() < 1e-4


def test_text_that_teaches_nothing_costs_little_more_than_the_model_asks() -> None:
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


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(ModelConfig(vocab_size=260, layers=2, dim=32, heads=2, kv_heads=1)).double()


@pytest.mark.parametrize(("context", "stride"), [(32, 32), (32, 8), (50, 7), (500, 500)])
def test_the_models_rows_come_in_the_order_of_the_text(model: GPT, context: int, stride: int) -> None:
    tokens = np.concatenate([[1], BYTES.encode("in the order of the text " * 8)])
    expected = np.empty(len(tokens) - 1)
    for first, nats in losses(model, tokens, context, stride, 10_000):
        expected[first : first + len(nats)] = nats
    for batch_tokens in (1, 128, 10_000):
        at = 0
        for first, found in log_probabilities(model, tokens, context, stride, batch_tokens):
            assert first == at
            nats = -found[np.arange(len(found)), tokens[first + 1 : first + 1 + len(found)]]
            assert nats == pytest.approx(expected[first : first + len(found)], abs=1e-10)
            at += len(found)
        assert at == len(expected)


@pytest.mark.slow
def test_mixing_takes_less_than_two_milliseconds_a_token(tokenizer: SentencePieceTokenizer, texts: list[str]) -> None:
    ids = np.concatenate([tokenizer.encode(text) for text in texts])[:4000]
    given = rows(len(ids), tokenizer.vocab_size)
    started = time.process_time()
    costs(tokenizer, np.concatenate([[tokenizer.bos_id], ids]), given, MixConfig())
    assert (time.process_time() - started) / len(ids) < 0.002
