"""Every cheater fails the probes that its fault names, with a counter-example; every honest scorer passes them all."""

from collections.abc import Callable

import numpy as np
import pytest

from eval.probes import basic
from eval.probes.canary import check_coins
from eval.probes.codec import check_codec
from eval.probes.fresh import check_fresh
from eval.scorer import Scorer
from tests.eval import cheaters
from tests.eval.cheaters import World, make_world

CHEATERS: dict[type[cheaters.BigramScorer], set[str]] = {
    cheaters.TargetKeyedCache: {"normalised", "flip", "coins"},
    cheaters.TwoPasses: {"flip", "suffix", "truncation", "coins"},
    cheaters.Slot: {"flip", "suffix", "truncation", "coins"},
    cheaters.PeeksOneAhead: {"suffix", "truncation", "coins"},
    cheaters.PeeksInSecret: {"normalised", "suffix", "truncation", "coins"},
    cheaters.SpreadsOverBytes: {"normalised", "coins"},
    cheaters.LearnsBeforeItScores: {"flip", "coins", "codec"},
    cheaters.CreditsOtherSpellings: {"normalised", "coins"},
    cheaters.EndsCostNothing: {"normalised"},
    cheaters.ShowsFreeEnds: {"flip"},
    cheaters.LeavesOutEnds: {"coverage"},
    cheaters.CountsLeadingSpacesTwice: {"bytes"},
    cheaters.CountsReplacementMarks: {"bytes"},
    cheaters.ScoresTheTailTwice: {"coverage"},
    cheaters.LeavesOutTheFirstWindow: {"coverage"},
    cheaters.TrainedOnValidation: {"fresh"},
    cheaters.WarmsUpOnValidation: {"fresh"},
    cheaters.Remembers: {"repeat"},
}
HONEST = [
    pytest.param(lambda world: world.base, id="bigram"),
    pytest.param(cheaters.gpt_scorer, id="gpt", marks=pytest.mark.slow),
    pytest.param(cheaters.lora_scorer, id="lora", marks=pytest.mark.slow),
    pytest.param(cheaters.AdaptsAfterScoring, id="adapts"),
    pytest.param(cheaters.MixesWhatItHasScored, id="mixes"),
]


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def probe(scorer: Scorer, world: World) -> dict[str, basic.Finding]:
    rng = np.random.default_rng(1)
    mark = world.tokenizer.bos_id
    sample = world.val[:600]
    baseline = basic.measure_baseline(scorer, sample, 1e-3)
    findings = [
        basic.check_repeat(baseline),
        basic.check_coverage(scorer, baseline, rng, mark),
        basic.check_bytes(scorer, world.tokenizer, [ids[1:] for ids in world.val_documents[:3]], mark),
        basic.check_normalisation(scorer, baseline, rng, mark),
        basic.check_flip(scorer, baseline, rng, mark),
        basic.check_suffix(scorer, baseline, rng),
        basic.check_truncation(scorer, baseline, rng, mark),
        basic.measure_boundary(scorer, world.val_documents[0], world.val_documents[1], rng),
        check_coins(scorer, world.val, mark, rng, np.random.default_rng(2), 256),
        check_codec(scorer, sample[:48]),
        check_fresh(scorer, world.base, world.val_documents, world.fresh_documents, world.table),
    ]
    return {finding.name: finding for finding in findings}


@pytest.mark.parametrize("cheater", CHEATERS)
def test_a_cheater_fails_the_probes_named_for_its_fault(cheater: type[cheaters.BigramScorer], world: World) -> None:
    found = probe(cheater(world), world)
    failed = {name for name, finding in found.items() if not finding.passed}
    assert CHEATERS[cheater] <= failed
    for name in failed:
        assert any(character.isdigit() for character in found[name].detail)
        assert found[name].evidence


@pytest.mark.parametrize("honest", HONEST)
def test_an_honest_scorer_passes_every_probe(honest: Callable[[World], Scorer], world: World) -> None:
    found = probe(honest(world), world)
    assert {name for name, finding in found.items() if not finding.passed} == set()
