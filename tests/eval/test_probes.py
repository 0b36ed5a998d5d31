"""The probes one by one: what they allow, what they name, and their parts."""

from collections.abc import Sequence
from math import log

import numpy as np
import pytest

from base.errors import CheckFailed
from data.bytes import ByteTable
from data.tokenizer_training import train_tokenizer
from eval.adapt import ModelScorer
from eval.probes import basic
from eval.probes.codec import check_codec
from eval.probes.fresh import Bigram, check_fresh
from eval.protocol import Protocol
from eval.scorer import Floats, Scored, Tokens
from tests.eval.cheaters import BigramScorer, World, tiny_gpt


class Noisy(BigramScorer):
    """Rounding: every loss and every prediction a little off, never twice the same."""

    def __init__(self, world: World, nats: float) -> None:
        super().__init__(world)
        self.noise_nats = nats
        self.rng = np.random.default_rng(0)

    def predict(self, tokens: Tokens) -> Floats:
        p = super().predict(tokens)
        p = p * np.exp(self.rng.uniform(-self.noise_nats, self.noise_nats, p.shape) / 2)
        normal: Floats = p / p.sum(-1, keepdims=True)
        return normal


def test_rounding_is_measured_and_allowed(world: World) -> None:
    noisy = Noisy(world, 0.01)
    rng = np.random.default_rng(0)
    baseline = basic.measure_baseline(noisy, world.val[:400], 1e-6)
    assert 0.005 < baseline.noise_nats < 0.02
    assert baseline.floor_nats == 2 * baseline.noise_nats
    for found in (
        basic.check_repeat(baseline),
        basic.check_suffix(noisy, baseline, rng),
        basic.check_truncation(noisy, baseline, rng, 1),
        basic.check_normalisation(noisy, baseline, rng, 1),
    ):
        assert found.passed, found.detail


def test_randomness_beyond_rounding_is_not_allowed(world: World) -> None:
    noisy = Noisy(world, 0.5)
    baseline = basic.measure_baseline(noisy, world.val[:400], 1e-3)
    assert not basic.check_repeat(baseline).passed
    assert baseline.floor_nats == pytest.approx(0.1)  # and it does not excuse other probes either
    found = check_codec(noisy, world.val[:60])
    assert not found.passed
    assert "two predictions of one text differ" in found.detail


def test_a_target_that_does_not_exist_is_named(world: World) -> None:
    class Beyond(BigramScorer):
        def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
            scored = super().score(tokens, show)
            return scored._replace(targets=np.append(scored.targets, len(tokens)), nats=np.append(scored.nats, 1.0))

    baseline = basic.measure_baseline(world.base, world.val[:100], 1e-3)
    found = basic.check_coverage(Beyond(world), baseline, np.random.default_rng(0), 1)
    assert not found.passed
    assert found.detail == "in a text of 2 tokens, target 2 is scored 1 times and does not exist"


def test_the_contests_count_passes_only_where_it_is_the_smaller_one(world: World) -> None:
    class Contest(BigramScorer):
        def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
            size = int(self.world.table.contest_bytes(tokens[:-1], tokens[1:]).sum())
            return super().score(tokens, show)._replace(size_bytes=size)

    found = basic.check_bytes(
        Contest(world), world.tokenizer, [ids[1:] for ids in world.val_documents], world.tokenizer.bos_id
    )
    assert found.passed, found.detail  # the space that begins a text is not counted, which makes no score better
    indented = train_tokenizer(["def f():\n        return x\n    if y:\n        pass\n" * 20], 290)
    other = world._replace(
        tokenizer=indented, table=ByteTable(indented), base=Bigram(np.arange(290), ByteTable(indented))
    )
    found = basic.check_bytes(Contest(other), indented, [], indented.bos_id)
    assert not found.passed
    assert "the first wrong count is with token" in found.detail


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


def test_fresh_text_that_is_only_harder_is_no_evidence(world: World) -> None:
    """It is harder for the reference, too."""
    harder = [np.where(np.arange(len(ids)) % 9 == 4, 300, ids) for ids in world.fresh_documents]
    gpt = ModelScorer(tiny_gpt(world), world.tokenizer, Protocol(64, 64))
    found = check_fresh(gpt, world.base, world.val_documents, world.fresh_documents, world.table)
    worse = check_fresh(world.base, world.base, world.val_documents, harder, world.table)
    assert found.passed
    assert worse.passed


def test_a_loss_that_is_not_a_number_is_refused(world: World) -> None:
    class Broken(BigramScorer):
        def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
            scored = super().score(tokens, show)
            return scored._replace(nats=np.where(scored.targets == 3, np.nan, scored.nats))

    with pytest.raises(CheckFailed, match="nan"):
        check_fresh(Broken(world), world.base, world.val_documents, world.fresh_documents, world.table)
