"""eval.batches: the fast way of feeding windows equals the plain one, over batches, strides and documents."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.tokenizer import ByteTokenizer
from eval.adapt import plain_losses
from eval.batches import window_losses, window_probabilities
from eval.protocol import Protocol
from eval.windows import plan_documents, plan_windows
from model.config import ModelConfig
from model.gpt import GPT

TOKENS = np.concatenate([[1], ByteTokenizer().encode("a score is a file that decompresses. " * 12)])
TARGETS = len(TOKENS) - 1


@torch.no_grad()
def plainly(model: GPT, tokens: np.ndarray, context: int, stride: int) -> np.ndarray:
    """(targets, V) log-probabilities, one window at a time, every logit computed: the definition."""
    stream = torch.from_numpy(tokens.astype(np.int64))
    rows = []
    for start, end, score_from in zip(*plan_windows(len(tokens) - 1, context, stride), strict=True):
        rows.append(F.log_softmax(model.eval()(stream[None, start:end])[0, score_from - start :], -1))
    return torch.cat(rows).numpy()


@pytest.mark.parametrize(("context", "stride"), [(64, 64), (64, 16), (50, 7), (1000, 1000), (8, 1)])
def test_losses_and_distributions_are_the_plain_ones_in_the_order_of_the_text(
    model: GPT, context: int, stride: int
) -> None:
    expected = plainly(model, TOKENS, context, stride)
    cost = -expected[np.arange(TARGETS), TOKENS[1:]]
    plan = plan_windows(TARGETS, context, stride)
    for batch_tokens in (1, 128, 100_000):
        at = 0
        losses = window_losses(model, TOKENS, plan, batch_tokens)
        order = np.arange(260)[::-1].copy()
        rows = window_probabilities(model, TOKENS, plan, batch_tokens, order=order)
        for (first, nats), (same, found) in zip(losses, rows, strict=True):
            assert first == same == at
            at += len(nats)
            np.testing.assert_allclose(nats, cost[first:at], rtol=1e-10)
            np.testing.assert_allclose(found[:, order], np.exp(expected[first:at]), rtol=1e-9)
        assert at == TARGETS
    shown = dict.fromkeys([0, TARGETS - 1, 1, 7, 49, 50, 56, 57, 64], np.empty(0))
    list(plain_losses(model, ByteTokenizer(), TOKENS, Protocol(context, stride), shown))
    for target, p in shown.items():
        np.testing.assert_allclose(p, np.exp(expected[target]), rtol=1e-9)


def test_documents_of_many_lengths_are_scored_as_if_each_were_alone(model: GPT) -> None:
    begins = np.array([0, 1, 3, 90, 100, 230, TARGETS])
    plan = plan_documents(begins, TARGETS, 50, 7)
    together = dict(window_losses(model, TOKENS, plan, 1000))
    for begin, end in zip(begins, [*begins[1:], TARGETS], strict=True):
        if end > begin:
            for first, nats in window_losses(model, TOKENS[begin : end + 1], plan_windows(end - begin, 50, 7), 1):
                np.testing.assert_allclose(together.pop(begin + first), nats, rtol=1e-10)
    assert not together


@pytest.mark.slow
def test_a_compiled_scoring_is_the_plain_one() -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=260, layers=1, dim=16, heads=2, kv_heads=1, softcap=5.0))
    plan = plan_windows(TARGETS, 32, 8)
    plain, fast = (dict(window_losses(model, TOKENS, plan, 128, compiled)) for compiled in (False, True))
    assert plain.keys() == fast.keys()
    for first, nats in plain.items():
        np.testing.assert_allclose(fast[first], nats, rtol=1e-5)
