"""eval.ttt: what is scored never knows what comes after it, and learning pays where a text repeats itself."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from data.bytes import ByteTable
from data.tokenizer import ByteTokenizer
from eval.adapt import Adaptation, Adapted
from eval.metric import Tally
from eval.score import losses
from eval.ttt import UNTAUGHT, Adapter, Chunk, Learner, TTTConfig, lesson, plan_chunks
from eval.windows import plan_windows
from model.config import ModelConfig
from model.gpt import GPT

CONTEXT, STRIDE, BATCH = 32, 8, 1000
BOS = 1
KINDS = {
    "sgd": TTTConfig(kind="sgd", chunk_tokens=48, lr=0.3, epochs=2, momentum=0.9),
    "adam": TTTConfig(kind="adam", chunk_tokens=48, lr=0.01, momentum=0),
    "lora": TTTConfig(kind="lora", chunk_tokens=48, lr=0.03, rank=4),
    "documents": TTTConfig(kind="lora", chunk_tokens=24, lr=0.03, rank=4, reset="document", horizon_chunks=9),
}


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=260, layers=2, dim=32, heads=2, kv_heads=1, skips="plain", smear="static")
    return GPT(config).double()


def text(repeats: int = 4) -> np.ndarray:
    """Three documents that say much the same."""
    once = np.concatenate([[BOS], ByteTokenizer().encode("a score is a file that decompresses. " * repeats)])
    return np.concatenate([once, once[: len(once) // 2], once])


def gathered(pieces: Iterator[tuple[int, np.ndarray]], targets: int) -> np.ndarray:
    """All losses in their places; each target must come once."""
    nats = np.full(targets, np.nan)
    for first, row in pieces:
        assert np.isnan(nats[first : first + len(row)]).all()
        nats[first : first + len(row)] = row
    assert not np.isnan(nats).any()
    return nats


def scorer(model: GPT, config: TTTConfig) -> Adapted:
    return Adapted(Adaptation(ttt=config), model, ByteTokenizer(), CONTEXT, STRIDE, BATCH)


def adapted(model: GPT, tokens: np.ndarray, config: TTTConfig) -> np.ndarray:
    return gathered(scorer(model, config).losses(tokens), len(tokens) - 1)


def plain(model: GPT, tokens: np.ndarray) -> np.ndarray:
    return gathered(losses(model, tokens, CONTEXT, STRIDE, BATCH), len(tokens) - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_after_a_target_changes_nothing_of_its_loss(model: GPT, kind: str) -> None:
    tokens = text()
    before = adapted(model, tokens, KINDS[kind])
    for cut in (1, 40, 96, 97, 180, len(tokens) - 2):
        other = tokens.copy()
        other[cut + 1 :] = np.random.default_rng(cut).integers(4, 260, len(tokens) - cut - 1)
        np.testing.assert_allclose(adapted(model, other, KINDS[kind])[:cut], before[:cut], rtol=1e-12)
        if KINDS[kind].reset == "never":  # the chunks are the same ones: not even the rounding differs
            assert (adapted(model, other, KINDS[kind])[:cut] == before[:cut]).all()


def test_a_boundary_is_not_known_before_it_was_scored(model: GPT) -> None:
    """A scorer that began a document anew with its first BOS still to be scored would know that the BOS is coming."""
    tokens = text()
    config = KINDS["documents"]
    where = int(plan_windows(len(tokens) - 1, CONTEXT, STRIDE).score_from[9])
    other = tokens.copy()
    other[where + 1] = BOS  # the first target of a window
    one, two = (scorer(model, config).score(t, [where]).shown for t in (tokens, other))
    np.testing.assert_allclose(one, two, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_cut_short_costs_the_same_up_to_the_cut(model: GPT, kind: str) -> None:
    tokens = text()
    whole = adapted(model, tokens, KINDS[kind])
    for length in (2, CONTEXT, CONTEXT + 1, 97, len(tokens) - 1):
        np.testing.assert_allclose(adapted(model, tokens[:length], KINDS[kind]), whole[: length - 1], rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_chunk_is_the_plain_score_and_the_later_ones_are_not(model: GPT, kind: str) -> None:
    tokens = text()
    end = plan_chunks(tokens, CONTEXT, STRIDE, KINDS[kind], BOS)[0].end
    taught, untaught = adapted(model, tokens, KINDS[kind]), plain(model, tokens)
    np.testing.assert_allclose(taught[:end], untaught[:end], rtol=1e-12)
    assert not np.isclose(taught[end : end + STRIDE], untaught[end : end + STRIDE], rtol=1e-6).any()


@pytest.mark.parametrize("kind", KINDS)
def test_learning_pays_on_a_text_that_repeats_itself(model: GPT, kind: str) -> None:
    tokens = text(repeats=10)
    assert adapted(model, tokens, KINDS[kind]).sum() < 0.98 * plain(model, tokens).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_that_is_handed_in_stays_as_it_was(model: GPT, kind: str) -> None:
    tokens = text(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for mode in (True, False):
        model.train(mode)
        part = scorer(model, KINDS[kind]).losses(tokens)
        next(part)  # left half way
        adapted(model, tokens, KINDS[kind])
        assert model.training is mode
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_rate_of_next_to_nothing_is_the_plain_score(model: GPT) -> None:
    for kind in KINDS:
        config = replace(KINDS[kind], lr=1e-30)
        np.testing.assert_allclose(adapted(model, text(), config), plain(model, text()), rtol=1e-12)


def test_what_is_pulled_all_the_way_back_has_learned_nothing(model: GPT) -> None:
    for kind in KINDS:
        np.testing.assert_allclose(
            adapted(model, text(), replace(KINDS[kind], pull=1.0)), plain(model, text()), rtol=1e-12
        )


def test_every_document_begins_with_the_artifacts_own_weights(model: GPT) -> None:
    """Reset, a second document costs what it costs where the first one taught nothing."""
    tokens, config = text(), replace(KINDS["documents"], horizon_chunks=0)
    once, weak = (adapted(model, tokens, replace(config, kind="sgd", lr=lr, clip=1.0)) for lr in (0.3, 1e-30))
    second = [chunk for chunk in plan_chunks(tokens, CONTEXT, STRIDE, config, BOS) if chunk.fresh]
    assert len(second) == 2
    for chunk in second:
        np.testing.assert_allclose(once[chunk.first : chunk.end], weak[chunk.first : chunk.end], rtol=1e-12)
        assert not np.isclose(once[chunk.first - 1], weak[chunk.first - 1], rtol=1e-6)


def test_losses_come_from_the_distributions_that_are_shown(model: GPT) -> None:
    tokens, table = text(), ByteTable(ByteTokenizer())
    asked = [len(tokens) - 2, 0, 31, 32, 47, 48, 100, 101, 240]
    for config in KINDS.values():
        scored = scorer(model, config).score(tokens, asked)
        assert scored.size_bytes == int(table.exact_bytes(tokens[1:]).sum())
        assert scored.shown.shape == (len(asked), 260)
        np.testing.assert_allclose(scored.shown.sum(-1), 1.0, rtol=1e-12)
        cost = -np.log(scored.shown[np.arange(len(asked)), tokens[1:][asked]])
        np.testing.assert_allclose(cost, scored.nats[asked], rtol=1e-9)
        np.testing.assert_array_equal(scored.nats, adapted(model, tokens, config))
    assert scorer(model, config).score(tokens).shown.shape == (0, 260)


def test_a_tally_takes_the_losses(model: GPT) -> None:
    tokens = text()
    tally = Tally(ByteTable(ByteTokenizer()), tokens)
    for first, nats in scorer(model, KINDS["sgd"]).losses(tokens):
        tally.add(first, nats)
    assert tally.score().coverage == 1.0


@given(st.data())
def test_chunks_cover_every_target_once_and_lessons_teach_each_once(data: st.DataObject) -> None:
    context = data.draw(st.integers(1, 12))
    stride = data.draw(st.integers(1, context))
    tokens = np.random.default_rng(data.draw(st.integers(0, 99))).choice([BOS, 5, 6, 7], data.draw(st.integers(2, 120)))
    config = TTTConfig(
        chunk_tokens=data.draw(st.integers(1, 30)), reset=data.draw(st.sampled_from(["never", "document"]))
    )
    chunks = plan_chunks(tokens, context, stride, config, BOS)
    assert [chunk.first for chunk in chunks] == [0, *(chunk.end for chunk in chunks[:-1])]
    assert chunks[-1].end == len(tokens) - 1
    for chunk in chunks[:-1]:  # the last one teaches nobody
        rows, targets = lesson(tokens, chunk, context)
        assert rows.shape == targets.shape == (len(rows), context)
        taught = targets[targets != UNTAUGHT]
        assert sorted(taught.tolist()) == sorted(tokens[chunk.first + 1 : chunk.end + 1].tolist())
        for row, target in zip(rows.tolist(), targets.tolist(), strict=True):  # each row is a piece of the stream
            places = [i for i in range(chunk.end - context + 1) if tokens[i : i + context].tolist() == row]
            assert any(all(t in (UNTAUGHT, tokens[i + 1 + k]) for k, t in enumerate(target)) for i in places)


def test_an_adapter_learns_what_autograd_says_of_a_low_rank_sum(model: GPT) -> None:
    torch.manual_seed(1)
    weight, x, y = torch.randn(6, 5).double().requires_grad_(), torch.randn(9, 5).double(), torch.randn(9, 6).double()
    adapter = Adapter(weight, 2, torch.Generator().manual_seed(0))
    adapter.put()
    first = weight.detach().clone()
    assert torch.equal(adapter.up, torch.zeros(6, 2).double())
    adapter.up += torch.randn(6, 2).double()
    adapter.put()
    F.mse_loss(x @ weight.T, y).backward()
    adapter.take_gradient()
    up, down = (factor.clone().requires_grad_() for factor in (adapter.up, adapter.down))
    F.mse_loss(x @ (first + up @ down).T, y).backward()
    torch.testing.assert_close(adapter.up.grad, up.grad)
    torch.testing.assert_close(adapter.down.grad, down.grad)


def test_a_step_of_sgd_is_the_gradient_of_the_chunks_mean_loss_less_the_pull(model: GPT) -> None:
    tokens = text()
    config = replace(KINDS["sgd"], epochs=1, momentum=0.0, clip=0.0, pull=0.25, lr=0.5)
    chunk = plan_chunks(tokens, CONTEXT, STRIDE, config, BOS)[1]
    rows, targets = lesson(tokens, chunk, CONTEXT)
    model.zero_grad()
    F.cross_entropy(model(rows).flatten(0, 1), targets.flatten(), ignore_index=UNTAUGHT).backward()
    expected = [p.detach() - 0.75 * 0.5 * p.grad for p in model.parameters()]
    model.zero_grad()
    for batch_rows in (1, 100):  # in pieces or at once
        learner = Learner(model, config)
        learner.learn(rows, targets, batch_rows)
        for own, wanted in zip(learner.model.parameters(), expected, strict=True):
            torch.testing.assert_close(own.detach(), wanted, rtol=1e-9, atol=1e-12)


def test_adapters_leave_all_but_attention_and_mlp_alone(model: GPT) -> None:
    tokens = text()
    learner = Learner(model, KINDS["lora"])
    learner.learn(*lesson(tokens, Chunk(0, 0, 64, False), CONTEXT), 10)
    after = dict(learner.model.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(after[name], parameter) is not (".attn." in name or ".mlp." in name), name
        if ".attn." in name or ".mlp." in name:
            assert torch.linalg.matrix_rank(after[name] - parameter) <= KINDS["lora"].rank


def test_the_rate_falls_by_a_cosine_and_stays_at_nothing(model: GPT) -> None:
    learner = Learner(model, replace(KINDS["sgd"], horizon_chunks=4, epochs=1, clip=0.0, momentum=0.0, pull=0.0))
    rows, targets = lesson(text(), Chunk(0, 0, 64, False), CONTEXT)
    rates = []
    for _ in range(6):
        learner.learn(rows, targets, 10)
        rates.append(learner._optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.3 * (1 + math.cos(math.pi * min(k, 4) / 4)) / 2 for k in range(6)])
    settled = [p.clone() for p in learner.model.parameters()]
    learner.learn(rows, targets, 10)
    assert all(torch.equal(a, b) for a, b in zip(learner.model.parameters(), settled, strict=True))
