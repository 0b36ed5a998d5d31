"""eval.probes.canary: the inequality, exactly and statistically. Cheaters: tests/contract/test_cheaters.py."""

import itertools

import numpy as np
import pytest

from eval.probes.canary import LIMIT_BITS, build_canary, check_coins, gain_bits, total_bits
from eval.scorer import Scorer
from tests.eval import cheaters
from tests.eval.cheaters import World

RUNS = 200


@pytest.fixture(scope="module")
def honest(world: World) -> list[Scorer]:
    return [world.base, cheaters.MixesWhatItHasScored(world), cheaters.AdaptsAfterScoring(world)]


def test_over_all_outcomes_of_the_coins_an_honest_gain_averages_one(honest: list[Scorer], world: World) -> None:
    for scorer in honest:
        canary = build_canary(scorer, world.val, world.tokenizer.bos_id, 6, np.random.default_rng(3))
        outcomes = [np.array(coins) for coins in itertools.product((0, 1), repeat=6)]
        gains = [total_bits(gain_bits(scorer, canary, coins)) for coins in outcomes]
        assert np.mean(np.exp2(gains)) == pytest.approx(1.0, rel=1e-9)


def test_in_200_runs_an_honest_scorer_gains_little_and_rarely(honest: list[Scorer], world: World) -> None:
    for scorer in honest:
        bits = np.empty(RUNS)
        for seed in range(RUNS):
            rng, secret = np.random.default_rng(seed), np.random.default_rng([seed, 1])
            found = check_coins(scorer, world.val, world.tokenizer.bos_id, rng, secret, 24)
            assert found.passed
            bits[seed] = found.evidence["bits"]
        assert bits.max() < LIMIT_BITS
        for b in (1, 2, 3, 4, 5):
            chance = 2.0**-b
            assert (bits >= b).mean() <= chance + 4 * np.sqrt(chance * (1 - chance) / RUNS)
