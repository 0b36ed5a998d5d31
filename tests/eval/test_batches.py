"""eval.batches: the fast way of feeding windows equals the plain one, over batches, strides and documents."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.tokenizer import ByteTokenizer
from eval.adapt import plain_losses
from eval.batches import Feed, batch_rows, window_losses, window_probabilities
from eval.protocol import Protocol
from eval.windows import Windows, plan_documents, plan_windows
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


def together(model: GPT, plan: Windows, *how: Any, **more: Any) -> list[np.ndarray]:
    """All targets and their losses, as they come."""
    return [
        np.concatenate(parts) for parts in zip(*window_losses(model, TOKENS, plan, Feed(*how, **more)), strict=True)
    ]


@pytest.mark.parametrize(("context", "stride"), [(64, 64), (64, 16), (50, 7), (1000, 1000), (8, 1)])
def test_losses_and_distributions_are_the_plain_ones_in_order(model: GPT, context: int, stride: int) -> None:
    expected = plainly(model, TOKENS, context, stride)
    cost = -expected[np.arange(TARGETS), TOKENS[1:]]
    plan = plan_windows(TARGETS, context, stride)
    for batch_tokens in (1, 128, 100_000):
        targets, nats = together(model, plan, batch_tokens)
        assert targets.tolist() == list(range(TARGETS))
        np.testing.assert_allclose(nats, cost, rtol=1e-10)
        at = 0
        order = np.arange(260)[::-1].copy()
        for first, found in window_probabilities(model, TOKENS, plan, Feed(batch_tokens), order):
            assert first == at
            at += len(found)
            np.testing.assert_allclose(found[:, order], np.exp(expected[first:at]), rtol=1e-9)
        assert at == TARGETS
    shown = dict.fromkeys([0, TARGETS - 1, 1, 7, 49, 50, 56, 57, 64], np.empty(0))
    list(plain_losses(model, ByteTokenizer(), TOKENS, Protocol(context, stride), shown))
    for target, p in shown.items():
        np.testing.assert_allclose(p, np.exp(expected[target]), rtol=1e-9)


def test_documents_of_many_lengths_are_scored_as_if_each_were_alone(model: GPT) -> None:
    begins = np.array([0, 1, 3, 90, 100, 230, TARGETS])
    plan = plan_documents(begins, TARGETS, 50, 7)
    targets, nats = together(model, plan, 1000)
    assert np.sort(targets).tolist() == list(range(TARGETS))
    for begin, end in zip(begins, [*begins[1:], TARGETS], strict=True):
        if end > begin:
            for own, costs in window_losses(model, TOKENS[begin : end + 1], plan_windows(end - begin, 50, 7), Feed(1)):
                np.testing.assert_allclose(nats[np.argsort(targets)][begin + own], costs, rtol=1e-10)


@pytest.mark.slow
def test_a_compiled_scoring_is_the_plain_one() -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=260, layers=1, dim=16, heads=2, kv_heads=1, softcap=5.0))
    plan = plan_windows(TARGETS, 32, 8)
    for precision, rtol in (("fp32", 1e-5), ("bf16", 2e-2)):
        plain, fast = (together(model, plan, 128, compiled, precision) for compiled in (False, True))
        assert plain[0].tolist() == fast[0].tolist()
        np.testing.assert_allclose(fast[1], plain[1], rtol=rtol)


def test_in_bf16_products_are_rounded_and_losses_are_not() -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=260, layers=2, dim=32, heads=2, kv_heads=1, q_gain=1.5, softcap=5.0))
    plan = plan_windows(TARGETS, 64, 16)
    whole, half = (together(model, plan, precision=precision)[1] for precision in ("fp32", "bf16"))
    assert 0 < np.abs(half - whole).max() < 0.05
    assert half.sum() == pytest.approx(whole.sum(), rel=1e-3)
    assert not np.isin(half, torch.from_numpy(half).bfloat16().double()).all()  # a loss has more bits than a product
    np.testing.assert_allclose(together(model, plan, 64, precision="bf16")[1], half, atol=0.02)
    for precision, total in (("fp32", whole), ("bf16", half)):
        rows = window_probabilities(model, TOKENS, plan, Feed(precision=precision))
        cost = [-np.log(p[np.arange(len(p)), TOKENS[first + 1 : first + 1 + len(p)]]).sum() for first, p in rows]
        assert sum(cost) == pytest.approx(total.sum(), rel=1e-4)


def test_the_device_decides_how_many_windows_make_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, kind, given, width, last, vocabulary, rows in (
        (2, "cpu", 0, 512, 64, 1024, 2),
        (64, "cpu", 0, 512, 64, 1024, 32),
        (2, "cpu", 8192, 512, 64, 1024, 16),
        (2, "cpu", 1, 512, 64, 1024, 1),
        (2, "cuda", 0, 2048, 64, 1024, 64),
        (2, "cuda", 0, 2048, 2048, 65_536, 2),  # a GiB of logits
        (2, "cuda", 4096, 2048, 2048, 65_536, 2),
    ):
        monkeypatch.setattr("torch.get_num_threads", lambda threads=threads: threads)
        assert batch_rows(kind, given, width, last, vocabulary) == rows
