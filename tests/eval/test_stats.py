"""eval.stats: the tail of Student's t against 40 digits, the tests against figures of others, the field's bars."""

import json
import math
from functools import partial

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.cli import run
from base.errors import BadInput
from eval.stats import (
    Rule,
    Seeds,
    act,
    known_sigma,
    nats_per_bpb,
    normal_tail,
    one_sample,
    parser,
    seeds,
    seeds_needed,
    show,
    student_tail,
    verdict,
    welch,
)

OURS, RIVAL = [1.0598, 1.0612, 1.0620], [1.0651, 1.0658, 1.0664, 1.0649]


def exact_tail(t: float, df: float) -> mpmath.mpf:
    with mpmath.workdps(40):
        x = mpmath.mpf(df) / (mpmath.mpf(df) + mpmath.mpf(t) ** 2)
        tail = mpmath.betainc(mpmath.mpf(df) / 2, mpmath.mpf(1) / 2, 0, x, regularized=True) / 2
        return tail if t >= 0 else 1 - tail


def is_near(found: float, exact: mpmath.mpf) -> bool:
    return bool(abs(found - exact) <= 1e-12 * exact)


@given(st.floats(-2, 4), st.floats(-3, 1.5), st.sampled_from([-1, 1]))
def test_the_tail_of_students_t_is_right_to_twelve_digits(df_power: float, t_power: float, sign: int) -> None:
    t, df = sign * 10**t_power, 10**df_power
    exact = exact_tail(t, df)
    assert exact < 1e-300 or is_near(student_tail(t, df), exact)


@pytest.mark.parametrize("df", [1, 2, 3, 4.5, 199.9, 200, 200.1, 1e5, 1e6])
@pytest.mark.parametrize("t", [0.0, 1e-9, 0.3, 1.0, 1.7, 1.74, 3.0, 9.0, 30.0])
def test_the_tail_is_right_on_a_grid_across_its_branches(t: float, df: float) -> None:
    assert is_near(student_tail(t, df), exact_tail(t, df))


@given(st.floats(-1e300, 1e300))
def test_the_tail_of_one_degree_of_freedom_is_the_arctangents(t: float) -> None:
    expected = math.atan2(1, t) / math.pi
    assert student_tail(t, 1.0) == pytest.approx(expected, rel=1e-12)


def test_the_normal_tail_is_right_and_is_students_limit() -> None:
    for z in np.linspace(-8, 30, 77):
        with mpmath.workdps(40):
            exact = mpmath.erfc(mpmath.mpf(float(z)) / mpmath.sqrt(2)) / 2
        assert is_near(normal_tail(float(z)), exact)
    assert student_tail(2.0, 1e6) == pytest.approx(normal_tail(2.0), rel=1e-5)


def test_the_tails_of_a_printed_table_come_out() -> None:
    for t, df, p in [(6.314, 1, 0.05), (2.920, 2, 0.05), (4.604, 4, 0.005), (2.764, 10, 0.01), (2.457, 30, 0.01)]:
        assert student_tail(t, df) == pytest.approx(p, rel=1e-3)


def test_no_tail_of_what_is_no_number() -> None:
    assert student_tail(math.inf, 3.0) == 0.0
    assert student_tail(-math.inf, 3.0) == 1.0
    for t, df in [(math.nan, 3.0), (1.0, 0.0), (1.0, math.nan), (1.0, math.inf), (1.0, -2.0)]:
        with pytest.raises(ValueError, match="degrees of freedom"):
            student_tail(t, df)


def test_mean_and_spread_are_numpys() -> None:
    side = seeds(OURS)
    assert side.n == 3
    assert side.mean == pytest.approx(np.mean(OURS), rel=1e-15)
    assert side.std == pytest.approx(np.std(OURS, ddof=1), rel=1e-12)
    assert seeds([1.5]) == (1, 1.5, None)


def test_welch_by_its_formula() -> None:
    """The formula written out in fp64 arrays, its tail integrated from Student's density."""
    a, b = np.array(OURS), np.array(RIVAL)
    va, vb = a.var(ddof=1) / 3, b.var(ddof=1) / 4
    t, df = (b.mean() - a.mean() - 0.002) / math.sqrt(va + vb), (va + vb) ** 2 / (va**2 / 2 + vb**2 / 3)
    density = mpmath.gamma((df + 1) / 2) / mpmath.sqrt(df * mpmath.pi) / mpmath.gamma(df / 2)
    p = density * mpmath.quad(lambda u: (1 + u * u / df) ** (-(df + 1) / 2), [t, 10, 100, mpmath.inf])
    found = welch(seeds(OURS), seeds(RIVAL), 0.002)
    assert found == pytest.approx((b.mean() - a.mean(), 0.002, t, df, float(p)), rel=1e-9)


def test_one_sample_of_two_seeds_by_hand() -> None:
    found = one_sample(Seeds(2, 1.0, 0.01), 1.02, 0.01)  # t = 0.01 / (0.01/√2) = √2 at one degree of freedom
    assert found == pytest.approx((0.02, 0.01, math.sqrt(2), 1, math.atan2(1, math.sqrt(2)) / math.pi), rel=1e-12)


def test_welch_of_a_rival_with_endless_seeds_is_the_one_sample_test() -> None:
    many = welch(seeds(OURS), Seeds(10**12, 1.0655, 0.0005))
    alone = one_sample(seeds(OURS), 1.0655)
    assert many[2:] == pytest.approx(alone[2:], rel=1e-5)


@given(st.lists(st.floats(0.9, 1.2), min_size=1, max_size=6), st.floats(-0.1, 0.1))
def test_the_tests_are_odd_around_the_margin(scores: list[float], lead: float) -> None:
    ours = seeds(scores)
    ahead, behind = (known_sigma(ours, ours.mean + sign * lead, 0.05) for sign in (1, -1))
    assert ahead.p + behind.p == pytest.approx(1.0, abs=1e-12)
    assert known_sigma(ours, ours.mean + lead, 0.05, lead).p == pytest.approx(0.5, abs=1e-9)


def test_track_3_of_modded_nanogpt() -> None:
    """(3.28 - mean)·√n >= 0.004 at sigma 0.0013; its p is 0.00105, a hair above the 0.001 that goes with it."""
    at_the_bar = known_sigma(Seeds(4, 3.278, None), 3.28, 0.0013)
    assert at_the_bar.t * 0.0013 == pytest.approx(0.004, rel=1e-9)
    assert at_the_bar.df is None
    assert at_the_bar.p == pytest.approx(0.001046, rel=1e-3)
    pairwise = known_sigma(Seeds(4, 3.278, None), Seeds(2, 3.28, None), 0.0013)
    assert pairwise.t == pytest.approx(0.002 / 0.0013 / math.sqrt(1 / 4 + 1 / 2), rel=1e-9)


def test_the_contests_margin_in_bits_per_byte() -> None:
    """0.005 nats is 0.0030 bpb with 1,024 pieces: 62,021,632 tokens, 151,080,891 bytes."""
    assert 0.005 / nats_per_bpb(62_021_632, 151_080_891) == pytest.approx(0.0030, abs=5e-5)
    bits = 1.0611
    assert bits * nats_per_bpb(10, 27) == pytest.approx(bits * math.log(2) * 27 / 10, rel=1e-15)
    for tokens, size in [(0, 5), (5, 0), (-1, 5)]:
        with pytest.raises(BadInput, match="has some of each"):
            nats_per_bpb(tokens, size)


def test_three_seeds_against_three_resolve_what_the_field_says() -> None:
    """A spread of 0.0006 bpb and p < 0.01 need a lead of about 0.0018 (of equal spreads: t(4) = 3.747)."""
    smallest = 3.747 * 0.0006 * math.sqrt(2 / 3)
    assert smallest == pytest.approx(0.0018, abs=5e-5)
    for lead, proved in ((smallest * 1.001, True), (smallest * 0.999, False)):
        assert (welch(Seeds(3, 1.0, 0.0006), Seeds(3, 1.0 + lead, 0.0006)).p < 0.01) is proved


@given(st.integers(2, 5), st.floats(0.0005, 0.01), st.floats(0.001, 0.05))
def test_seeds_needed_is_the_first_number_that_is_enough(n: int, lead: float, p: float) -> None:
    ours, rival = Seeds(n, 1.0, 0.001), Seeds(3, 1.0 + lead, 0.0005)
    test = partial(welch, rival=rival)
    more = seeds_needed(test, ours, p)
    counts = range(n, 1001) if more is None else range(n, n + more)
    assert all(test(ours._replace(n=k)).p >= p for k in counts)
    assert more is None or test(ours._replace(n=n + more)).p < p


def test_seeds_needed_by_the_closed_form_of_a_known_spread() -> None:
    need = math.ceil((2.3263478740408408 * 0.0013 / 0.001) ** 2)  # the 99th percentile of a normal
    test = partial(known_sigma, rival=3.28, sigma=0.0013)
    assert seeds_needed(test, Seeds(1, 3.279, None), 0.01) == need - 1
    assert seeds_needed(test, Seeds(need, 3.279, None), 0.01) == 0
    assert seeds_needed(test, Seeds(1, 3.281, None), 0.01) is None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: seeds([]), "no score was given"),
        (lambda: seeds([1.0, math.nan]), "score is nan"),
        (lambda: seeds([1.0, math.inf]), "score is inf"),
        (lambda: welch(seeds([1.0]), seeds(RIVAL)), "one seed has no spread"),
        (lambda: welch(seeds(OURS), seeds([1.1])), "one seed has no spread"),
        (lambda: one_sample(seeds([1.0]), 1.1), "one seed has no spread"),
        (lambda: one_sample(seeds([1.0, 1.0, 1.0]), 1.1), "3 seeds around 1.0 with a spread of 0.0 prove nothing"),
        (lambda: welch(seeds(OURS), seeds([1.1, 1.1])), "a spread of 0.0 prove nothing"),
        (lambda: welch(Seeds(1, 1.0, 0.1), seeds(RIVAL)), "one seed has no spread"),
        (lambda: welch(Seeds(3, 1.0, math.nan), seeds(RIVAL)), "a spread of nan"),
        (lambda: one_sample(seeds(OURS), math.nan), "lead over the rival is nan"),
        (lambda: welch(seeds(OURS), seeds(RIVAL), math.inf), "margin is inf"),
        (lambda: known_sigma(seeds(OURS), math.nan, 1.0), "rival's mean is nan"),
        (lambda: known_sigma(seeds(OURS), 1.0, 1.0, math.nan), "margin is nan"),
        (lambda: known_sigma(seeds(OURS), 1.1, 0.0), "sigma 0.0"),
        (lambda: known_sigma(seeds(OURS), 1.1, math.nan), "sigma nan"),
    ],
)
def test_what_no_test_can_use_is_refused_in_a_line(call, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match=said):
        call()


def test_a_verdict_follows_its_rule() -> None:
    strict, loose = (
        verdict(seeds(OURS), seeds(RIVAL), Rule("r", margin, p)) for margin, p in ((0.0045, 1e-3), (0, 0.25))
    )
    assert (strict["holds"], loose["holds"]) == (False, True)
    assert loose["seeds_needed"] == 0
    assert strict["seeds_needed"] is None  # the margin is nearly all of the lead


def answer(*words: object) -> dict:  # type: ignore[type-arg]
    return act(parser().parse_intermixed_args([str(word) for word in words]))


def test_the_command_answers_under_both_rules() -> None:
    said = answer(*OURS, "--against", *RIVAL, "--nats-per-bpb", 2.588)
    assert [v["rule"] for v in said["verdicts"]] == ["written", "enforced"]
    assert said["test"] == "welch"
    written, enforced = said["verdicts"]
    assert written["margin"] == pytest.approx(0.005 / 2.588)
    assert written["p"] == welch(seeds(OURS), seeds(RIVAL), 0.005 / 2.588).p
    assert enforced["p"] == welch(seeds(OURS), seeds(RIVAL)).p
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert "enforced holds: leads by 0.00455" in show(said)


def test_the_command_takes_a_mean_and_a_known_spread() -> None:
    assert answer(*OURS, "--against", 1.0655, "--margin-bpb", 0.002)["test"] == "one sample"
    said = answer(1.06, "--against", 1.0655, "--margin-bpb", 0.002, "--sigma", 0.0006)
    assert said["test"] == "known sigma"
    assert said["verdicts"][0]["t"] == pytest.approx(0.0035 / 0.0006)
    assert "(taken as exact)" in show(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["1.0", "1.1", "--against", "1.2"], "depends on the tokenizer"),
        (["1.0", "1.1", "--against", "1.2", "--nats-per-bpb", "-1"], "above 0"),
        (["1.0", "--against", "1.2", "--margin-bpb", "0"], "one seed has no spread"),
        (["1.0", "1.1", "--against", "1.2", "--margin-bpb", "0", "--p", "2"], "no probability"),
        (["1.0", "1.1"], "--against"),
        (["1.0", "x", "--against", "1.2"], "invalid float"),
    ],
)
def test_the_command_refuses_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(parser(), act, show, words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
