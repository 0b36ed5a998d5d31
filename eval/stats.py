"""Seeds against seeds: is one set of scores lower than another, by how much, and how sure can one be?

    python -m eval.stats 1.0598 1.0612 1.0620 --against 1.0651 1.0658 1.0661 --nats-per-bpb 2.588
    python -m eval.stats 1.0598 1.0612 1.0620 --against 1.0651 --margin-bpb 0.002 --json

Scores are bits per byte, lower is better. Every test is one-sided: p is the probability of a lead at least this far
beyond the margin if the true lead were the margin. A single rival number is taken as an exact mean, several as seeds.
Verdicts are given under two rules of the contest: the written one (a lead of 0.005 nats per token, p < 0.01) and the
one that was enforced (any lead, p < 0.25).

`lead` is the one chooser of the test, for records, their verifier, the leaderboard and sweeps' claims; `paired` is for
runs in pairs of one seed. Whether the seeds are independent draws, with none left out, the numbers cannot show.
"""

import argparse
import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from scipy.special import nctdtr, stdtr, stdtrit

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput

WRITTEN_MARGIN_NATS, WRITTEN_P = 0.005, 0.01
ENFORCED_P = 0.25
MOST_SEEDS = 1000  # nobody trains more to prove a point
POWER = 0.8


class Seeds(NamedTuple):
    n: int
    mean: float
    std: float | None  # of the sample (n - 1); one seed has none


class Rule(NamedTuple):
    name: str
    margin: float  # bpb
    p: float  # below which the lead counts as proved


@dataclass(frozen=True)
class Lead:
    """Whether we lead by more than a rule's margin, as far as these seeds can show it."""

    rule: str
    gap: float  # the rival's mean less ours: how far we lead
    margin: float  # the lead that was to be proved
    test: str  # "welch", "one sample"; "none" where there is no spread to test with
    reason: str  # why there is no test; "" where there is one
    t: float | None
    df: float | None  # degrees of freedom
    p: float | None
    p_needed: float
    holds: bool
    seeds_needed: int | None  # more of ours, if lead and spread stay as they are; None: no number up to 1,000 will do


def seeds(scores: Sequence[float]) -> Seeds:
    if not scores or not all(map(math.isfinite, scores)):
        raise BadInput(f"scores {list(scores)}: give at least one, and finite numbers only")
    return Seeds(len(scores), statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else None)


def lead(ours: Seeds, rival: Seeds, rule: Rule) -> Lead:
    """The verdict under a rule, by Welch's test (1947) against seeds and the one-sample test against a single number.

    Equal scores are one run, copied, more often than luck: ours prove nothing, a rival's count as a single number.
    """
    gap = rival.mean - ours.mean
    if not ours.std:
        reason = "one seed has no spread to test with" if ours.n < 2 else "seeds with the very same score prove nothing"
        return Lead(rule.name, gap, rule.margin, "none", reason, None, None, None, rule.p, False, None)
    test = "welch" if rival.std else "one sample"
    t, df, p = _test(ours, rival, rule.margin)
    return Lead(rule.name, gap, rule.margin, test, "", t, df, p, rule.p, p < rule.p, _seeds_needed(ours, rival, rule))


def _test(ours: Seeds, rival: Seeds, margin: float) -> tuple[float, float, float]:
    """(t, degrees of freedom, one-sided p); a single rival number has no error."""
    own = (ours.std or 0.0) / math.sqrt(ours.n)  # standard errors of the means
    error = math.hypot(own, (rival.std or 0.0) / math.sqrt(rival.n))
    t = (rival.mean - ours.mean - margin) / error
    share = (own / error) ** 2  # of the variance; Welch and Satterthwaite's degrees of freedom follow from it
    df = 1 / (share**2 / (ours.n - 1) + (1 - share) ** 2 / max(1, rival.n - 1))
    return t, df, float(stdtr(df, -t))  # scipy.stats.t.sf, without the second that importing it takes


def _seeds_needed(ours: Seeds, rival: Seeds, rule: Rule) -> int | None:
    """Every number is tried: a rival with few seeds limits what more of ours can show."""
    for n in range(ours.n, MOST_SEEDS + 1):
        if _test(ours._replace(n=n), rival, rule.margin)[2] < rule.p:
            return n - ours.n
    return None


@dataclass(frozen=True)
class Paired:
    """What so many paired gains show of their mean; None where they have no spread to tell."""

    pairs: int
    mean: float | None
    low: float | None  # the ends of Student's confidence interval
    high: float | None
    p: float | None  # two-sided: of a mean this far from 0 if there were no gain
    verdict: str  # helps, hurts, too small (below the effect, by the interval), undecided
    more_pairs: int | None  # until a gain of `effect` is found with 80 % power; None: no number up to 1,000 will do


def paired(gains: Sequence[float], effect: float, alpha: float) -> Paired:
    """The paired test at level alpha. `effect`: the smallest gain worth having."""
    n = len(gains)
    if len(set(gains)) < 2:  # one pair, or copies of one
        return Paired(n, gains[0] if n else None, None, None, None, "undecided", None)
    mean, std = statistics.fmean(gains), statistics.stdev(gains)
    error = std / math.sqrt(n)
    reach = float(stdtrit(n - 1, 1 - alpha / 2)) * error
    low, high = mean - reach, mean + reach
    verdict = "helps" if low > 0 else "undecided"
    if high < effect:
        verdict = "hurts" if high < 0 else "too small"
    needed = _pairs_needed(effect / std, alpha)
    more = max(0, needed - n) if needed else None
    return Paired(n, mean, low, high, 2 * float(stdtr(n - 1, -abs(mean) / error)), verdict, more)


def _pairs_needed(effect: float, alpha: float) -> int | None:
    """`effect` in standard deviations of a difference. A test that errs to the other side does not count as power."""
    for n in range(2, MOST_SEEDS + 1):
        if 1 - nctdtr(n - 1, effect * math.sqrt(n), stdtrit(n - 1, 1 - alpha / 2)) >= POWER:
            return n
    return None


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The rank correlation; equal values share their mean rank. None: a side has no two different values."""
    if min(len(set(one)), len(set(other))) < 2:
        return None
    sides = ((values, sorted(values)) for values in (one, other))
    ranks = [[bisect_left(ordered, v) + bisect_right(ordered, v) for v in values] for values, ordered in sides]
    return statistics.correlation(*ranks)


def nats_per_bpb(tokens: int, size_bytes: int) -> float:
    """How many nats per token one bit per byte is, on a text of so many tokens and bytes."""
    if tokens <= 0 or size_bytes <= 0:
        raise BadInput(f"{tokens} tokens and {size_bytes} bytes: a text that was scored has some of each")
    return math.log(2) * size_bytes / tokens


def parser() -> OneLineParser:
    flags = command("eval.stats", __doc__ or "")
    flags.add_argument("ours", type=float, nargs="+", metavar="OURS", help="our seeds' bits per byte")
    flags.add_argument("--against", type=float, nargs="+", required=True, metavar="RIVAL", help="seeds, or one mean")
    margin = flags.add_mutually_exclusive_group(required=True)
    margin.add_argument("--nats-per-bpb", type=float, help="ln 2 x bytes / tokens: for a margin of 0.005 nats")
    margin.add_argument("--margin-bpb", type=float, help="the written rule's margin in bits per byte")
    return flags


def act(args: argparse.Namespace) -> Answer:
    ours, rival = seeds(args.ours), seeds(args.against)
    margin = args.margin_bpb
    if args.nats_per_bpb:
        margin = WRITTEN_MARGIN_NATS / args.nats_per_bpb
    if margin is None or not 0 <= margin < math.inf:
        raise BadInput(f"a margin of {margin} bits per byte: use 0 or more, and a --nats-per-bpb above 0")
    rules = (Rule("written", margin, WRITTEN_P), Rule("enforced", 0.0, ENFORCED_P))
    verdicts = [lead(ours, rival, rule) for rule in rules]
    if verdicts[0].reason:
        raise BadInput(f"{verdicts[0].reason}: give independent seeds")
    return {
        "ours": ours._asdict(),
        "rival": rival._asdict(),
        "test": verdicts[0].test,
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }


def show(answer: Answer) -> str:
    lines = [f"{side:<9}{answer[side]['mean']:.5f} bits per byte" for side in ("ours", "rival")]
    for v in answer["verdicts"]:
        needed = "more than 1,000" if v["seeds_needed"] is None else v["seeds_needed"]
        lines.append(
            f"{v['rule']:<9}{'holds' if v['holds'] else 'does not hold'}: leads by {v['gap']:.5f}, margin "
            f"{v['margin']:.5f}, {v['test']} t = {v['t']:.3f}, p = {v['p']:.3g} (below {v['p_needed']:g}); "
            f"more seeds like these needed: {needed}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(run(parser(), act, show))
