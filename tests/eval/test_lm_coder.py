"""eval.lm_coder: tokens come back, at the model's own cost, and never from forecasts that differ."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.tokenizer import ByteTokenizer
from eval import streams
from eval.batches import window_losses
from eval.lm_coder import Coded, Desynchronised, Rule, block_count, decode, encode, rows_for, windows
from eval.windows import plan_windows
from model.gpt import GPT
from quant.unpack import from_bytes
from tests.eval.tiny import tiny_artifact

BOS = 1
TOKENS = ByteTokenizer().encode("a score is a file that decompresses. " * 16).astype(np.int64)


@pytest.fixture(scope="module")
def model() -> GPT:
    return from_bytes(tiny_artifact(ByteTokenizer())).model


def coded(model: GPT, tokens: np.ndarray, rule: Rule) -> Coded:
    return encode(model, BOS, tokens, rule, lambda done: None)


def back(model: GPT, found: Coded, tokens: int, rule: Rule) -> list[int]:
    return decode(model, BOS, found.streams, tokens, rule, lambda done: None).tolist()


@pytest.mark.parametrize(("rows", "count"), [(1, 300), (1, 1), (1, 0), (2, 301), (7, 100), (70, 500), (5, 5)])
def test_tokens_come_back_from_rows_of_any_length(model: GPT, rows: int, count: int) -> None:
    rule, tokens = Rule(16, 8, rows), TOKENS[:count]
    found = coded(model, tokens, rule)
    assert len(found.streams) == block_count(count, rows)
    assert back(model, found, count, rule) == tokens.tolist()


@given(st.integers(0, 500), st.integers(1, 60), st.data())
def test_the_windows_are_those_of_the_score(targets: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    mine = list(windows(targets, context, stride))
    plan = plan_windows(targets, context, stride) if targets else [[], [], []]
    assert mine == [tuple(map(int, window)) for window in zip(*plan, strict=True)]


def reference(model: GPT, tokens: np.ndarray, rule: Rule) -> float:
    """Each row a text of its own, scored as eval.bpb scores."""
    lengths = [len(tokens) // rule.rows + (row < len(tokens) % rule.rows) for row in range(rule.rows)]
    return math.fsum(
        float(nats.sum())
        for row in np.split(tokens, np.cumsum(lengths)[:-1])
        for _, nats in window_losses(
            model, np.concatenate([[BOS], row]), plan_windows(len(row), rule.context, rule.stride), 1000
        )
    )


@pytest.mark.parametrize("rule", [Rule(16, 4, 1), Rule(16, 16, 1), Rule(13, 1, 1), Rule(16, 8, 3), Rule(9, 5, 40)])
def test_the_streams_are_as_long_as_the_score_says(model: GPT, rule: Rule) -> None:
    found = coded(model, TOKENS, rule)
    assert found.nats == pytest.approx(reference(model, TOKENS, rule), rel=1e-6)
    bits, size = found.nats / math.log(2), 8 * sum(map(len, found.streams))
    assert bits - 1 < size < 1.001 * bits + 64 * len(found.streams)


def test_the_streams_do_not_depend_on_cores_or_threads(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, threads = Rule(16, 8, 70), torch.get_num_threads()
    found = set()
    try:
        for cores, inside in itertools.product((1, 4), (1, 2)):
            monkeypatch.setattr(streams, "cores", lambda cores=cores: cores)
            torch.set_num_threads(inside)
            found.add(tuple(coded(model, TOKENS, rule).streams))
            assert torch.get_num_threads() == inside
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHECK_EVERY_BITS", 256)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("rows", [1, 4])
def test_forecasts_that_differ_in_their_last_bits_are_noticed_on_the_way(model: GPT, rows: int) -> None:
    rule, steps = Rule(16, 8, rows), list[int]()
    found = coded(model, TOKENS, rule)
    assert back(model, found, len(TOKENS), rule) == TOKENS.tolist()
    other = from_bytes(tiny_artifact(ByteTokenizer())).model
    with torch.no_grad():
        other.blocks[0].mlp.up.weight.mul_(1 + 2e-6)
    with pytest.raises(Desynchronised):
        decode(other, BOS, found.streams, len(TOKENS), rule, lambda done: steps.append(len(done)))
    assert sum(steps) < len(TOKENS) / 2


@pytest.mark.usefixtures("often")
def test_one_failing_block_ends_the_others(model: GPT) -> None:
    rule, steps = Rule(16, 8, 64), list[int]()
    found = coded(model, np.tile(TOKENS, 4), rule)
    assert len(found.streams) == 2
    spoilt = [found.streams[0], bytes(len(found.streams[1]))]
    with pytest.raises(Desynchronised):
        decode(model, BOS, spoilt, 4 * len(TOKENS), rule, lambda done: steps.append(len(done)))
    assert sum(steps) < 3 * len(TOKENS)


def test_short_texts_are_one_row_and_long_ones_keep_their_rows_long() -> None:
    assert [rows_for(n) for n in (0, 1, 2000, 10_240, 100_000, 262_144, 1_000_000)] == [1, 1, 1, 10, 64, 64, 244]
    assert [block_count(n, n) for n in (0, 1, 2, 64, 65, 244)] == [0, 1, 2, 2, 4, 8]
