"""Seeds against seeds: is one set of scores lower than another, by how much, and how sure can one be?

    python -m eval.stats 1.0598 1.0612 1.0620 --against 1.0651 1.0658 1.0661 --nats-per-bpb 2.588
    python -m eval.stats 1.0598 1.0612 1.0620 --against 1.0651 --margin-bpb 0.002 --json

Scores are bits per byte, the lower the better. Every test is one-sided: p is the probability of a lead at least this
far beyond the margin if the true lead were the margin. One rival's number is taken for his mean, several for his seeds.
Verdicts are given under two rules of the contest: the written one (a lead of 0.005 nats a token, p < 0.01: here the
whole margin has to be proved) and the one that was enforced (any lead, p < 0.25). A single seed has no spread: it can
only be tested with one that is known beforehand (--sigma; modded-nanogpt's Track 3 has 0.0013 for its losses).

Pure functions of plain numbers; no arrays, no model. That the seeds are independent draws, none left out, nobody can
see from them.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput

ENFORCED_P = 0.25
MOST_SEEDS = 1000  # nobody trains more to prove a point
GAMMA_SERIES = (1, -1 / 8, 1 / 128, 5 / 1024, -21 / 32768, -399 / 262144, 869 / 4194304)  # Γ(a+½)/Γ(a)/√a in 1/a
GAMMA_SERIES_FROM = 100.0  # where the first term left out is below 1e-16


class Seeds(NamedTuple):
    """All that a test needs of a set of scores, so that a rival's published mean and spread will do."""

    n: int
    mean: float
    std: float | None  # of the sample (n - 1); one seed has none


class Outcome(NamedTuple):
    gap: float  # the rival's mean less ours: how far we lead
    margin: float  # the lead that was to be proved
    t: float
    df: float | None  # degrees of freedom; None where the spread was known, and t is a normal deviate
    p: float


class Rule(NamedTuple):
    name: str
    margin: float  # bpb
    p: float  # below which the lead is held to be proved


def seeds(scores: Sequence[float]) -> Seeds:
    if not scores:
        raise BadInput("no score was given: a mean needs one seed, a spread two")
    for score in scores:
        _finite("a seed's score", score)
    return Seeds(len(scores), statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else None)


def welch(ours: Seeds, rival: Seeds, margin: float = 0.0) -> Outcome:
    """Do we lead by more than the margin, each side with a spread of its own (Welch 1947)?"""
    own, his = _variance_of_mean(ours), _variance_of_mean(rival)
    df = (own + his) ** 2 / (own**2 / (ours.n - 1) + his**2 / (rival.n - 1))
    return _student(rival.mean - ours.mean, margin, math.sqrt(own + his), df)


def one_sample(ours: Seeds, rival_mean: float, margin: float = 0.0) -> Outcome:
    """The same against a mean that is taken as exact."""
    return _student(rival_mean - ours.mean, margin, math.sqrt(_variance_of_mean(ours)), ours.n - 1)


def known_sigma(ours: Seeds, rival: Seeds | float, sigma: float, margin: float = 0.0) -> Outcome:
    """With a spread known beforehand; against a bar, or (the pairwise form) against seeds of the same spread.

    Track 3 of modded-nanogpt asks for (bar - mean)·√n >= 0.004 at sigma 0.0013: that is t·sigma, and p < 0.00105.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise BadInput(f"sigma {sigma}: a known spread is a number above 0")
    his_mean, share = (rival.mean, 1 / rival.n) if isinstance(rival, Seeds) else (rival, 0.0)
    gap = _finite("the rival's mean", his_mean) - ours.mean
    t = (gap - _finite("the margin", margin)) / (sigma * math.sqrt(1 / ours.n + share))
    return Outcome(gap, margin, t, None, normal_tail(t))


def seeds_needed(test: Callable[[Seeds], Outcome], ours: Seeds, p: float) -> int | None:
    """How many more of our seeds bring `test` below p if lead and spread stay as they are; None: not within 1,000.

    0 means that there are enough. Every number is tried: a rival with few seeds bounds what more of ours can show.
    """
    enough = (n for n in range(ours.n, MOST_SEEDS + 1) if test(ours._replace(n=n)).p < p)
    found = next(enough, None)
    return None if found is None else found - ours.n


def nats_per_bpb(tokens: int, size_bytes: int) -> float:
    """Nats a token that one bit per byte comes to, on a text of so many tokens and bytes."""
    if tokens <= 0 or size_bytes <= 0:
        raise BadInput(f"{tokens} tokens and {size_bytes} bytes: a text that was scored has some of each")
    return math.log(2) * size_bytes / tokens


def normal_tail(z: float) -> float:
    """P(Z >= z) for a standard normal Z."""
    return math.erfc(z / math.sqrt(2)) / 2


def student_tail(t: float, df: float) -> float:
    """P(T >= t) for Student's t of df degrees of freedom, whole or not; to 1e-12 of itself up to df = 1e6."""
    if math.isnan(t) or not (math.isfinite(df) and df > 0):
        raise ValueError(f"t {t} with {df} degrees of freedom: t is a number, df a finite one above 0")
    if t < 0:
        return 1 - student_tail(-t, df)
    ratio = t / math.sqrt(df)
    if math.isinf(ratio):
        return 0.0
    length = math.hypot(1, ratio)
    outer, inner = (1 / length) ** 2, (ratio / length) ** 2  # x and 1 - x of the incomplete beta, neither rounded away
    log_outer = -math.log1p(ratio * ratio) if ratio < 1 else -2 * math.log(length)
    # x^a (1-x)^b / B(a, b) with a = df/2 and b = 1/2, whose Γ(b) is √π
    front = math.exp(df / 2 * log_outer) * (ratio / length) * _gamma_ratio(df / 2) / math.sqrt(math.pi)
    if outer < (df / 2 + 1) / (df / 2 + 2.5):
        return front * _beta_fraction(df / 2, 0.5, outer, inner) / 2
    return 0.5 - front * _beta_fraction(0.5, df / 2, inner, outer) / 2


def _gamma_ratio(a: float) -> float:
    """Γ(a + ½)/Γ(a); lgamma's difference would lose the digits that a large `a` needs."""
    if a < GAMMA_SERIES_FROM:
        return math.gamma(a + 0.5) / math.gamma(a)
    return math.sqrt(a) * math.fsum(term / a**power for power, term in enumerate(GAMMA_SERIES))


def _beta_fraction(a: float, b: float, x: float, y: float) -> float:
    """B(a, b)·I_x(a, b) / (x^a y^b) with y = 1 - x: Didonato and Morris' continued fraction (ACM TOMS 18, 1992, eq. 9).

    It takes y as it was found, where the better known fraction would need the digits that 1 - x has lost.
    """

    def partial(m: int) -> float:
        return m + m * (b - m) * x / (a + 2 * m - 1) + (a + m) * (a * y - b * x + 1 + m * (1 + y)) / (a + 2 * m + 1)

    value = c = a * (a * y - b * x + 1) / (a + 1)
    d, change, m = 0.0, 0.0, 0
    while abs(change - 1) > 4e-16:  # Lentz's method
        m += 1
        above = (a + m - 1) * (a + b + m - 1) * m * (b - m) * (x / (a + 2 * m - 1)) ** 2
        d = 1 / (partial(m) + above * d)
        c = partial(m) + above / c
        change = c * d
        value *= change
    return 1 / value


def _variance_of_mean(side: Seeds) -> float:
    if side.std is None or side.n < 2:
        raise BadInput("one seed has no spread: give two or more, or a spread that is known beforehand (--sigma)")
    if not side.std > 0:  # seeds with the very same score are one run, copied, more often than they are luck
        raise BadInput(
            f"{side.n} seeds around {side.mean} with a spread of {side.std} prove nothing: give independent seeds, "
            "or a spread that is known beforehand (--sigma)"
        )
    return side.std**2 / side.n


def _student(gap: float, margin: float, error: float, df: float) -> Outcome:
    t = (_finite("the lead over the rival", gap) - _finite("the margin", margin)) / error
    return Outcome(gap, margin, t, df, student_tail(t, df))


def _finite(what: str, value: float) -> float:
    if not math.isfinite(value):
        raise BadInput(f"{what} is {value}: no test can use what is not a finite number")
    return value


def parser() -> OneLineParser:
    parser = command("eval.stats", __doc__ or "")
    parser.add_argument("ours", type=float, nargs="+", metavar="OURS", help="our seeds' bits per byte")
    parser.add_argument(
        "--against", type=float, nargs="+", required=True, metavar="RIVAL", help="his seeds, or one number: his mean"
    )
    parser.add_argument("--p", type=float, default=0.01, help="of the written rule (default 0.01)")
    margin = parser.add_mutually_exclusive_group()
    margin.add_argument("--margin-nats", type=float, default=0.005, help="of the written rule, a token (default 0.005)")
    margin.add_argument("--margin-bpb", type=float, help="of the written rule, in bits per byte")
    parser.add_argument("--nats-per-bpb", type=float, help="ln 2 x bytes / tokens of the text that was scored")
    parser.add_argument(
        "--sigma", type=float, help="test with this spread in bpb, known beforehand, not the seeds' own"
    )
    return parser


def act(args: argparse.Namespace) -> Answer:
    ours = seeds(args.ours)
    rival: Seeds | float = seeds(args.against) if len(args.against) > 1 else args.against[0]
    if not 0 < args.p < 1:
        raise BadInput(f"--p {args.p} is no probability between 0 and 1")
    margin = args.margin_bpb
    if margin is None:
        if args.nats_per_bpb is None or not 0 < args.nats_per_bpb < math.inf:
            raise BadInput(
                f"a margin of {args.margin_nats} nats a token depends on the tokenizer: give --nats-per-bpb, above 0 "
                "(ln 2 x bytes / tokens of the text), or the margin as --margin-bpb"
            )
        margin = args.margin_nats / args.nats_per_bpb
    if not 0 <= margin < math.inf:
        raise BadInput(f"a margin of {margin:g} bits a byte: a lead that is to be proved is 0 or more")
    rules = (Rule("written", margin, args.p), Rule("enforced", 0.0, ENFORCED_P))
    return {
        "ours": ours._asdict(),
        "rival": rival._asdict() if isinstance(rival, Seeds) else {"n": None, "mean": rival, "std": None},
        "test": "known sigma" if args.sigma is not None else "welch" if isinstance(rival, Seeds) else "one sample",
        "verdicts": [verdict(ours, rival, rule, args.sigma) for rule in rules],
    }


def verdict(ours: Seeds, rival: Seeds | float, rule: Rule, sigma: float | None = None) -> Answer:
    def test(side: Seeds) -> Outcome:
        if sigma is not None:
            return known_sigma(side, rival, sigma, rule.margin)
        return welch(side, rival, rule.margin) if isinstance(rival, Seeds) else one_sample(side, rival, rule.margin)

    outcome = test(ours)
    return {
        "rule": rule.name,
        **outcome._asdict(),
        "p_needed": rule.p,
        "holds": outcome.p < rule.p,
        "seeds_needed": seeds_needed(test, ours, rule.p),
    }


def show(answer: Answer) -> str:
    lines = [f"{side:<6} {_spelled(answer[side])}" for side in ("ours", "rival")]
    for v in answer["verdicts"]:
        df = "" if v["df"] is None else f" at {v['df']:.2f} degrees of freedom"
        more = {0: "", None: "; no number of seeds up to 1,000 would do"}.get(
            v["seeds_needed"], f"; more seeds like these that it takes: {v['seeds_needed']}"
        )
        lines.append(
            f"{v['rule']:<9}{'holds' if v['holds'] else 'does not hold'}: leads by {v['gap']:.5f}, margin "
            f"{v['margin']:.5f}, {answer['test']} t = {v['t']:.3f}{df}, p = {v['p']:.3g} (below {v['p_needed']:g})"
            + more
        )
    return "\n".join(lines)


def _spelled(side: Answer) -> str:
    spread = "" if side["std"] is None else f" ± {side['std']:.5f}"
    return f"{side['mean']:.5f}{spread} bpb" + (f" ({side['n']} seeds)" if side["n"] else " (taken as exact)")


if __name__ == "__main__":
    raise SystemExit(run(parser(), act, show))
