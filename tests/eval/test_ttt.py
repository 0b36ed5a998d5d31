"""eval.ttt: what is scored never knows what comes after it, and learning pays where a text repeats itself."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from data.tokenizer import ByteTokenizer
from eval.adapt import ttt_losses
from eval.batches import window_losses
from eval.config import AdaptConfig, TTTConfig
from eval.protocol import Protocol
from eval.ttt import IGNORED, Learner, lesson, plan_chunks
from eval.windows import plan_windows
from model.gpt import GPT

PROTOCOL = Protocol(32, 8, batch_tokens=1000)
CONFIG = TTTConfig(chunk_tokens=48, lr=0.01)
BOS = 1


def text(repeats: int = 4) -> np.ndarray:
    """Three documents that are much alike."""
    once = np.concatenate([[BOS], ByteTokenizer().encode("a score is a file that decompresses. " * repeats)])
    return np.concatenate([once, once[: len(once) // 2], once])


def learning(config: TTTConfig) -> Protocol:
    return replace(PROTOCOL, adapt=AdaptConfig(kind="ttt", ttt=config))


def adapted(model: GPT, tokens: np.ndarray, config: TTTConfig = CONFIG) -> np.ndarray:
    """Losses in order; each target must come once."""
    nats = np.full(len(tokens) - 1, np.nan)
    for first, row in ttt_losses(model, ByteTokenizer(), tokens, learning(config), {}):
        assert np.isnan(nats[first : first + len(row)]).all()
        nats[first : first + len(row)] = row
    assert not np.isnan(nats).any()
    return nats


def test_before_it_learns_and_where_it_cannot_the_score_is_the_plain_one(model: GPT) -> None:
    tokens = text()
    plan = plan_windows(len(tokens) - 1, PROTOCOL.context, PROTOCOL.stride)
    untaught = np.concatenate([nats for _, nats in window_losses(model, tokens, plan, 1000)])
    end = plan_chunks(len(tokens) - 1, 32, 8, 48)[0].end
    taught = adapted(model, tokens)
    np.testing.assert_allclose(taught[:end], untaught[:end], rtol=1e-12)
    assert not np.isclose(taught[end : end + 8], untaught[end : end + 8], rtol=1e-6).any()
    for config in (replace(CONFIG, lr=1e-30), replace(CONFIG, pull=1.0)):
        np.testing.assert_allclose(adapted(model, tokens, config), untaught, rtol=1e-12)


def test_the_model_passed_in_does_not_change(model: GPT) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for mode in (True, False):
        model.train(mode)
        next(ttt_losses(model, ByteTokenizer(), text(1), learning(CONFIG), {}))  # left half way
        adapted(model, text(1))
        assert model.training is mode
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@given(st.data())
def test_chunks_cover_every_target_once_and_lessons_teach_each_once(data: st.DataObject) -> None:
    context = data.draw(st.integers(1, 12))
    stride = data.draw(st.integers(1, context))
    tokens = np.random.default_rng(data.draw(st.integers(0, 99))).choice([BOS, 5, 6, 7], data.draw(st.integers(2, 120)))
    chunks = plan_chunks(len(tokens) - 1, context, stride, data.draw(st.integers(1, 30)))
    assert [chunk.first for chunk in chunks] == [0, *(chunk.end for chunk in chunks[:-1])]
    assert chunks[-1].end == len(tokens) - 1
    for chunk in chunks[:-1]:  # the last one teaches nobody
        rows, targets = lesson(tokens, chunk, context)
        assert rows.shape == targets.shape == (len(rows), context)
        taught = targets[targets != IGNORED]
        assert sorted(taught.tolist()) == sorted(tokens[chunk.first + 1 : chunk.end + 1].tolist())
        for row, target in zip(rows.tolist(), targets.tolist(), strict=True):  # each row is a piece of the stream
            places = [i for i in range(chunk.end - context + 1) if tokens[i : i + context].tolist() == row]
            assert any(all(t in (IGNORED, tokens[i + 1 + k]) for k, t in enumerate(target)) for i in places)


def test_a_step_is_adams_on_the_chunks_mean_loss_less_the_pull(model: GPT) -> None:
    tokens = text()
    config = replace(CONFIG, clip=0.5, pull=0.25, lr=0.01)
    rows, targets = lesson(tokens, plan_chunks(len(tokens) - 1, 32, 8, 48)[1], 32)
    model.zero_grad()
    F.cross_entropy(model(rows).flatten(0, 1), targets.flatten(), ignore_index=IGNORED).backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    norm = torch.sqrt(sum((g**2).sum() for g in gradients))
    assert norm > config.clip
    for batch_rows in (1, 100):  # in pieces or at once
        learner = Learner(model, config)
        learner.learn(rows, targets, batch_rows)
        for own, before, gradient in zip(learner.model.parameters(), model.parameters(), gradients, strict=True):
            g = gradient * config.clip / norm
            wanted = before - 0.75 * config.lr * g / (g.abs() + 1e-8)  # Adam's first step, without momentum
            torch.testing.assert_close(own, wanted, rtol=1e-6, atol=1e-9)
