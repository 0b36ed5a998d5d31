"""The probes one by one: what they forgive, what they name, and the pieces they stand on."""

from collections.abc import Sequence
from math import log

import numpy as np
import pytest

from base.errors import CheckFailed
from data.bytes import ByteTable
from data.tokenizer_training import train_tokenizer
from eval.adapt import ModelScorer
from eval.batches import window_losses
from eval.probes.basic import byte_oracle, costs, coverage, lay_ground, normalisation, repeat, suffix, truncation
from eval.probes.codec import Growing, codec_sample
from eval.probes.fresh import Bigram, fresh_text
from eval.protocol import Protocol
from eval.scorer import Floats, Scored, Tokens
from eval.windows import plan_windows
from tests.eval.cheaters import Forecaster, World, make_world, tiny_gpt


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


class Noisy(Forecaster):
    """Rounding: every loss and every forecast a little off, never twice the same."""

    def __init__(self, world: World, nats: float) -> None:
        super().__init__(world)
        self.noise_nats, self.rng = nats, np.random.default_rng(0)

    def forecasts(self, tokens: Tokens) -> Floats:
        p = super().forecasts(tokens)
        p = p * np.exp(self.rng.uniform(-self.noise_nats, self.noise_nats, p.shape) / 2)
        normal: Floats = p / p.sum(-1, keepdims=True)
        return normal


def test_rounding_is_measured_and_forgiven(world: World) -> None:
    noisy, rng = Noisy(world, 0.01), np.random.default_rng(0)
    ground = lay_ground(noisy, world.val[:400], 1e-6)
    assert 0.005 < ground.noise_nats < 0.02
    assert ground.floor_nats == 2 * ground.noise_nats
    assert repeat(ground).passed
    for found in (suffix(noisy, ground, rng), truncation(noisy, ground, rng, 1), normalisation(noisy, ground, rng)):
        assert found.passed, found.detail


def test_chance_that_is_more_than_rounding_is_not_forgiven(world: World) -> None:
    noisy = Noisy(world, 0.5)
    ground = lay_ground(noisy, world.val[:400], 1e-3)
    assert not repeat(ground).passed
    assert ground.floor_nats == pytest.approx(0.1)  # and it does not excuse other probes either
    found = codec_sample(noisy, lambda: Growing(noisy), lambda: Growing(noisy), world.val[:60])
    assert not found.passed
    assert "two forecasts of one text differ" in found.detail


def test_other_batches_count_as_noise(world: World) -> None:
    ground = lay_ground(world.base, world.val[:400], 1e-3, [Noisy(world, 0.01)])
    assert ground.floor_nats > 0.005


def test_a_target_that_does_not_exist_is_named(world: World) -> None:
    class Beyond(Forecaster):
        def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
            scored = super().score(tokens, show)
            return scored._replace(targets=np.append(scored.targets, len(tokens)), nats=np.append(scored.nats, 1.0))

    found = coverage(Beyond(world), lay_ground(world.base, world.val[:100], 1e-3), np.random.default_rng(0))
    assert not found.passed
    assert found.detail == "of a text of 2 tokens, target 2 does not exist (0 such of 1)"


def test_costs_are_by_target_and_missing_where_there_is_none() -> None:
    scored = Scored(np.array([2, 0, 7]), np.array([3.0, 1.0, 9.0]), 0, np.empty((0, 4)))
    np.testing.assert_array_equal(costs(scored, 4), [1.0, np.nan, 3.0, np.nan])


def test_tokens_that_are_not_the_canonical_text_are_found(world: World) -> None:
    ids = world.val_documents[0][1:]
    text = world.tokenizer.decode(ids.tolist()).encode()
    mark = world.tokenizer.bos_id
    assert byte_oracle(world.base, world.tokenizer, [ids], mark, [text]).passed
    found = byte_oracle(world.base, world.tokenizer, [ids], mark, [text[:9] + b"?" + text[10:]])
    assert not found.passed
    assert "at byte 9" in found.detail


def test_the_contests_count_passes_only_where_it_is_the_smaller_one(world: World) -> None:
    class Contest(Forecaster):
        def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
            size = int(self.world.table.contest_bytes(tokens[:-1], tokens[1:]).sum())
            return super().score(tokens, show)._replace(size_bytes=size)

    found = byte_oracle(
        Contest(world), world.tokenizer, [ids[1:] for ids in world.val_documents], world.tokenizer.bos_id
    )
    assert found.passed, found.detail  # the space that begins a text is not counted, which makes no score better
    indented = train_tokenizer(["def f():\n        return x\n    if y:\n        pass\n" * 20], 290)
    other = world._replace(
        tokenizer=indented, table=ByteTable(indented), base=Bigram(np.arange(290), ByteTable(indented))
    )
    found = byte_oracle(Contest(other), indented, [], indented.bos_id)
    assert not found.passed
    assert "part at token" in found.detail


def test_the_model_scorer_gives_the_scores_own_losses_in_any_batches(world: World) -> None:
    model, tokens = tiny_gpt(world), world.val[:300]
    expected = np.empty(299)
    for first, nats in window_losses(model, tokens, plan_windows(299, 64, 16), 4096):
        expected[first : first + len(nats)] = nats
    for batch_tokens in (1, 4096):
        scored = ModelScorer(model, world.tokenizer, Protocol(64, 16, batch_tokens=batch_tokens)).score(
            tokens, [5, 200]
        )
        np.testing.assert_allclose(costs(scored, 299), expected, atol=1e-5)
        np.testing.assert_allclose(-np.log(scored.shown[[0, 1], tokens[[6, 201]]]), expected[[5, 200]], atol=1e-5)
        assert scored.size_bytes == world.table.exact_bytes(tokens[1:]).sum()


def test_the_reference_is_witten_and_bells_formula(world: World) -> None:
    tokens = world.train[:500].tolist()
    scored = Bigram(world.train[:500], world.table).score(world.val[:120], list(range(119)))
    np.testing.assert_allclose(scored.shown.sum(-1), 1.0, rtol=1e-12)
    followers: dict[int, list[int]] = {}
    for before, after in zip(tokens[:-1], tokens[1:], strict=True):
        followers.setdefault(before, []).append(after)
    for target, (y, x) in enumerate(zip(world.val[:119].tolist(), world.val[1:120].tolist(), strict=True)):
        alone = (tokens.count(x) + 0.5) / (len(tokens) + 0.5 * world.table.vocab_size)
        seen = followers.get(y, [])
        kinds = len(set(seen))
        p = (seen.count(x) + kinds * alone) / (len(seen) + kinds) if seen else alone
        assert scored.nats[target] == pytest.approx(-log(p), rel=1e-9)
        assert scored.shown[target, x] == pytest.approx(p, rel=1e-9)


def test_fresh_text_that_is_merely_harder_is_no_evidence(world: World) -> None:
    """Both kinds are scored by the reference too: what is harder for both says nothing."""
    harder = [np.where(np.arange(len(ids)) % 9 == 4, 300, ids) for ids in world.fresh_documents]
    gpt = ModelScorer(tiny_gpt(world), world.tokenizer, Protocol(64, 64))
    found = fresh_text(gpt, world.base, world.val_documents, world.fresh_documents, world.table)
    worse = fresh_text(world.base, world.base, world.val_documents, harder, world.table)
    assert found.passed
    assert worse.passed


def test_a_score_that_is_no_number_is_refused(world: World) -> None:
    class Broken(Forecaster):
        def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
            scored = super().score(tokens, show)
            return scored._replace(nats=np.where(scored.targets == 3, np.nan, scored.nats))

    with pytest.raises(CheckFailed, match="nan"):
        fresh_text(Broken(world), world.base, world.val_documents, world.fresh_documents, world.table)
