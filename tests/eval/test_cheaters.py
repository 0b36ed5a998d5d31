"""Every cheater fails the probes named for its fault, with a counter-example; every honest scorer passes them all."""

from collections.abc import Callable

import numpy as np
import pytest

from eval.probes.basic import (
    Finding,
    boundary,
    byte_oracle,
    coverage,
    lay_ground,
    normalisation,
    repeat,
    suffix,
    target_flip,
    truncation,
)
from eval.probes.canary import coin_canary
from eval.probes.codec import Growing, codec_sample
from eval.probes.fresh import fresh_text
from eval.scorer import Scorer
from tests.eval import cheaters
from tests.eval.cheaters import World, make_world

CHEATERS: dict[type[cheaters.Forecaster], set[str]] = {
    cheaters.TargetKeyedCache: {"normalised", "flip", "coins"},
    cheaters.TwoPasses: {"flip", "suffix", "truncation", "coins"},
    cheaters.Slot: {"flip", "suffix", "truncation", "coins"},
    cheaters.SlotOnGPT: {"flip", "suffix", "truncation", "coins"},
    cheaters.PeeksOneAhead: {"suffix", "truncation", "coins"},
    cheaters.PeeksInSecret: {"normalised", "suffix", "truncation", "coins"},
    cheaters.SpreadsOverBytes: {"normalised", "coins"},
    cheaters.CountsLeadingSpacesTwice: {"bytes"},
    cheaters.CountsReplacementMarks: {"bytes"},
    cheaters.ScoresTheTailTwice: {"coverage"},
    cheaters.LeavesOutTheFirstWindow: {"coverage"},
    cheaters.TrainedOnValidation: {"fresh"},
    cheaters.Remembers: {"repeat"},
}
HONEST: dict[str, Callable[[World], Scorer]] = {
    "bigram": lambda world: world.base,
    "gpt": cheaters.gpt_scorer,
    "adapts after scoring": cheaters.AdaptsAfterScoring,
    "mixes what it has scored": cheaters.MixesWhatItHasScored,
    "counts as it goes, in turns": cheaters.in_turns,
}


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def findings(scorer: Scorer, world: World) -> dict[str, Finding]:
    rng, mark = np.random.default_rng(1), world.tokenizer.bos_id
    sample = world.val[:600]
    ground = lay_ground(scorer, sample, 1e-3)

    def turns() -> Growing:
        return Growing(scorer)

    found = [
        repeat(ground),
        coverage(scorer, ground, rng),
        byte_oracle(scorer, world.tokenizer, [ids[1:] for ids in world.val_documents[:3]], mark),
        normalisation(scorer, ground, rng),
        target_flip(scorer, ground, rng),
        suffix(scorer, ground, rng),
        truncation(scorer, ground, rng, mark),
        boundary(scorer, world.val_documents[0], world.val_documents[1], rng),
        coin_canary(scorer, world.val, mark, rng, np.random.default_rng(2), 256),
        codec_sample(scorer, turns, turns, sample[:48]),
        fresh_text(scorer, world.base, world.val_documents, world.fresh_documents, world.table),
    ]
    return {finding.name: finding for finding in found}


@pytest.mark.parametrize("cheater", CHEATERS, ids=lambda cheater: cheater.__name__)
def test_a_cheater_fails_the_probes_named_for_its_fault(cheater: type[cheaters.Forecaster], world: World) -> None:
    found = findings(cheater(world), world)
    failed = {name for name, finding in found.items() if not finding.passed}
    assert CHEATERS[cheater] <= failed
    for name in failed:
        assert any(character.isdigit() for character in found[name].detail)
        assert found[name].evidence


@pytest.mark.parametrize("honest", HONEST)
def test_an_honest_scorer_passes_every_probe(honest: str, world: World) -> None:
    found = findings(HONEST[honest](world), world)
    assert {name for name, finding in found.items() if not finding.passed} == set()
