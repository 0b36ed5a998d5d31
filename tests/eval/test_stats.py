"""eval.stats: tails and tests against figures of others, the one chooser of a test, the field's bars."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import BadInput
from eval.stats import Rule, Seeds, act, lead, nats_per_bpb, paired, parser, seeds, show, spearman

OURS, RIVAL = [1.0598, 1.0612, 1.0620], [1.0651, 1.0658, 1.0664, 1.0649]
ANY_LEAD = Rule("enforced", 0.0, 0.25)


def margin_of(margin: float, p: float = 0.01) -> Rule:
    return Rule("written", margin, p)


def exact(mean: float) -> Seeds:
    return Seeds(1, mean, None)


def test_a_lead_beyond_a_margin_is_welchs_test_by_scipy() -> None:
    oracle = scipy.stats.ttest_ind(np.array(RIVAL) - 0.002, OURS, equal_var=False, alternative="greater")
    found = lead(seeds(OURS), seeds(RIVAL), margin_of(0.002))
    assert (found.test, found.margin, found.gap) == ("welch", 0.002, pytest.approx(np.mean(RIVAL) - np.mean(OURS)))
    assert (found.t, found.df, found.p) == pytest.approx((oracle.statistic, oracle.df, oracle.pvalue), rel=1e-9)


def test_the_contests_margin_in_bits_per_byte() -> None:
    """0.005 nats is 0.0030 bpb with 1,024 pieces: 62,021,632 tokens, 151,080,891 bytes."""
    assert 0.005 / nats_per_bpb(62_021_632, 151_080_891) == pytest.approx(0.0030, abs=5e-5)
    for tokens, size in [(0, 5), (5, 0), (-1, 5)]:
        with pytest.raises(BadInput, match="has some of each"):
            nats_per_bpb(tokens, size)


@settings(max_examples=20)
@given(st.integers(2, 5), st.floats(0.0005, 0.01), st.floats(0.001, 0.05))
def test_seeds_needed_is_the_first_number_that_is_enough(n: int, gap: float, p: float) -> None:
    ours, rival, rule = Seeds(n, 1.0, 0.001), Seeds(3, 1.0 + gap, 0.0005), margin_of(0.0, p)
    more = lead(ours, rival, rule).seeds_needed
    for k in range(n, 40 if more is None else n + more):
        assert not lead(ours._replace(n=k), rival, rule).holds
    assert more is None or lead(ours._replace(n=n + more), rival, rule).holds


def test_without_a_spread_nothing_is_proved_and_nothing_raised() -> None:
    for scores in ([], [1.0, math.nan], [math.inf]):
        with pytest.raises(BadInput, match="at least one, and finite numbers only"):
            seeds(scores)
    for ours, rival, reason in [
        (seeds([1.0]), seeds(RIVAL), "one seed has no spread"),
        (seeds([1.0]), exact(1.1), "one seed has no spread"),
        (seeds([1.0] * 3), exact(1.1), "the very same score prove nothing"),
        (seeds([1.0] * 3), seeds([1.1] * 3), "the very same score prove nothing"),
    ]:
        found = lead(ours, rival, ANY_LEAD)
        assert reason in found.reason
        assert (found.test, found.t, found.p, found.holds, found.seeds_needed) == ("none", None, None, False, None)
        assert found.gap == pytest.approx(rival.mean - ours.mean)


def test_a_rivals_copies_count_as_one_number_and_ours_as_none() -> None:
    assert lead(seeds(OURS), seeds([1.1] * 2), ANY_LEAD) == lead(seeds(OURS), exact(1.1), ANY_LEAD)
    assert lead(seeds([1.0] * 3), seeds(RIVAL), ANY_LEAD).test == "none"


@given(st.lists(st.integers(-40, 60), min_size=2, max_size=9), st.floats(0.01, 0.3))
def test_pairs_are_students_test_of_their_differences(thousandths: list[int], alpha: float) -> None:
    gains = [value / 1000 for value in thousandths]
    found = paired(gains, 0.005, alpha)
    if len(set(gains)) == 1:
        assert (found.mean, found.low, found.p, found.verdict, found.more_pairs) == (
            gains[0],
            *[None] * 2,
            "undecided",
            None,
        )
        return
    oracle = scipy.stats.ttest_1samp(gains, 0.0)
    interval = oracle.confidence_interval(1 - alpha)
    assert (found.pairs, found.mean) == (len(gains), pytest.approx(np.mean(gains)))
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, oracle.pvalue), abs=1e-9)
    is_significant = found.p < alpha
    assert (found.verdict == "hurts") == (is_significant and found.mean < 0)
    assert (found.verdict == "too small") == (0 <= found.high < 0.005)
    assert (found.verdict == "helps") == (is_significant and found.mean > 0 and found.high >= 0.005)


def test_the_pairs_that_a_gain_needs_are_those_of_the_power_tables() -> None:
    """Paired t-test, two-sided 0.05, power 0.8, by G*Power: 199, 34 and 15 pairs for 0.2, 0.5 and 0.8 deviations."""
    gains = [-1.0, 1.0, -1.0, 1.0, 0.0]  # a standard deviation of 1
    for effect, pairs in ((0.2, 199), (0.5, 34), (0.8, 15)):
        assert paired(gains, effect, 0.05).more_pairs == pairs - 5
    assert paired(gains, 50.0, 0.05).more_pairs == 0
    assert paired(gains, 0.0, 0.05).more_pairs is None
    assert paired([], 0.1, 0.05).mean is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_spearmans_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    one, other = zip(*pairs, strict=True)
    found = spearman(one, other)
    if found is None:
        assert min(len(set(one)), len(set(other))) == 1
    else:
        assert found == pytest.approx(scipy.stats.spearmanr(one, other).statistic, abs=1e-12)


def test_the_command_answers_under_both_rules() -> None:
    words = [*OURS, "--against", *RIVAL, "--nats-per-bpb", 2.588]
    found = act(parser().parse_intermixed_args([str(word) for word in words]))
    assert found["test"] == "welch"
    assert found["verdicts"] == [
        asdict(lead(seeds(OURS), seeds(RIVAL), rule)) for rule in (margin_of(0.005 / 2.588), ANY_LEAD)
    ]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert "enforced holds: leads by 0.00455" in show(found)
