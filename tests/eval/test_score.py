"""eval.score: the fast way of scoring equals the plain one, over batches, strides and ranks."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.bytes import ByteTable
from data.tokenizer import ByteTokenizer
from eval.score import (
    COMPILE_FLOPS,
    BatchShape,
    _worth_compiling,
    distributions,
    losses,
    planned_losses,
    score_tokens,
)
from eval.windows import plan_documents, plan_windows
from model.config import ModelConfig
from model.cost import scoring_flops
from model.gpt import GPT


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(
        ModelConfig(vocab_size=260, layers=3, dim=32, heads=2, kv_heads=1, skips="plain", smear="static")
    ).double()


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return np.concatenate([[1], ByteTokenizer().encode("a score is a file that decompresses. " * 12)])


@torch.no_grad()
def plainly(model: GPT, tokens: np.ndarray, context: int, stride: int) -> float:
    """One window at a time, every logit computed, float64 sums: the definition."""
    stream = torch.from_numpy(tokens.astype(np.int64))
    total = 0.0
    for start, end, score_from in zip(*plan_windows(len(tokens) - 1, context, stride), strict=True):
        logits = model.eval()(stream[None, start:end])[0]
        losses = F.cross_entropy(logits, stream[start + 1 : end + 1], reduction="none")
        total += float(losses[score_from - start :].sum())
    return total / math.log(2) / int(ByteTable(ByteTokenizer()).exact_bytes(tokens[1:]).sum())


@pytest.mark.parametrize(("context", "stride"), [(64, 64), (64, 16), (50, 7), (1000, 1000), (8, 1)])
def test_the_batched_score_is_the_plain_one(model: GPT, tokens: np.ndarray, context: int, stride: int) -> None:
    table = ByteTable(ByteTokenizer())
    expected = plainly(model, tokens, context, stride)
    for batch_tokens in (1, 100, 100_000):
        score = score_tokens(model, tokens, table, context, stride, batch_tokens).score()
        assert score.bpb == pytest.approx(expected, rel=1e-12)
        assert score.coverage == 1.0


def test_documents_of_many_lengths_are_scored_as_if_each_were_alone(model: GPT, tokens: np.ndarray) -> None:
    begins = np.array([0, 1, 3, 90, 100, 230, len(tokens) - 1])
    plan = plan_documents(begins, len(tokens) - 1, 50, 7)
    together = dict(planned_losses(model, tokens, plan, 1000))
    for begin, end in zip(begins, [*begins[1:], len(tokens) - 1], strict=True):
        if end > begin:
            for first, nats in losses(model, tokens[begin : end + 1], 50, 7, 1):
                np.testing.assert_allclose(together.pop(begin + first), nats, rtol=1e-10)
    assert not together


def test_a_compiled_scoring_is_the_plain_one_and_only_long_ones_are_compiled(tokens: np.ndarray) -> None:
    model = GPT(ModelConfig(vocab_size=260, layers=1, dim=16, heads=2, kv_heads=1, softcap=5.0))
    plan = plan_windows(len(tokens) - 1, 32, 8)
    plain, fast = (dict(planned_losses(model, tokens, plan, 128, compiled)) for compiled in (False, True))
    assert plain.keys() == fast.keys()
    for first, nats in plain.items():
        np.testing.assert_allclose(fast[first], nats, rtol=1e-5)
    shape = BatchShape(8, 32, 8)
    times = int(COMPILE_FLOPS["cpu"] / scoring_flops(model.config, 32, 8) / 8)
    assert not _worth_compiling(model, shape, times)
    assert _worth_compiling(model, shape, times + 1)


def test_ranks_share_the_windows_and_lose_none(model: GPT, tokens: np.ndarray) -> None:
    table = ByteTable(ByteTokenizer())
    whole = score_tokens(model, tokens, table, 64, 16, 1000).score()
    parts = [score_tokens(model, tokens, table, 64, 16, 1000, rank, 3) for rank in range(3)]
    for part in parts[1:]:
        parts[0].merge(part.state())
    assert parts[0].score().bpb == pytest.approx(whole.bpb, rel=1e-12)
    assert parts[0].score()[2:] == whole[2:]


def test_scoring_leaves_the_model_in_the_mode_it_was_in(model: GPT, tokens: np.ndarray) -> None:
    for mode in (True, False):
        model.train(mode)
        score_tokens(model, tokens, ByteTable(ByteTokenizer()), 64, 64, 1000)
        assert model.training is mode


def test_losses_come_from_the_distributions_that_are_shown(model: GPT, tokens: np.ndarray) -> None:
    nats = np.full(len(tokens) - 1, np.nan)
    for first, row in losses(model, tokens, 50, 7, 1000):
        nats[first : first + len(row)] = row
    asked = [0, 1, 49, 50, 56, 57, len(nats) - 1]
    shown = distributions(model, tokens, asked, 50, 7)
    np.testing.assert_allclose(shown.sum(-1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(-np.log(shown[np.arange(len(asked)), tokens[1:][asked]]), nats[asked], rtol=1e-9)
