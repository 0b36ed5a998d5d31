"""Trials -> a table of variants and a verdict on each claim, as plain values and as Markdown. Pure functions.

Seeds count as independent draws. A claim is settled at p < 0.05, one-sided and each alone: of twenty claims without
substance one will look settled.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from eval.stats import Rule, seeds
from eval.stats import lead as test_lead
from tools.sweep.spec import Claim, Sweep

P = 0.05


@dataclass(frozen=True)
class Trial:
    variant: str
    seed: int
    params: int
    state: str  # waiting, running, complete, diverged, crashed
    bpb: float | None = None  # scored from the artifact
    seconds: float | None = None  # of training
    data_sha256: str | None = None


@dataclass(frozen=True)
class Lead:
    """How far one side is ahead; None where there is too little to say."""

    bpb: float | None = None  # mean of the other side less this one's
    error: float | None = None  # standard error
    p: float | None = None  # one-sided: of such a lead if the true one were the margin


@dataclass(frozen=True)
class Row:
    """One variant over its seeds."""

    variant: str
    params: int
    bpb: list[float]  # of the complete trials
    diverged: int
    mean: float | None
    std: float | None
    behind_first: Lead  # of the first variant over this one
    seconds: float | None  # mean


@dataclass(frozen=True)
class Verdict:
    claim: Claim
    lead: Lead
    verdict: str  # holds, reversed, undecided, no data


def compare(ours: Sequence[float], rival: Sequence[float], margin: float = 0.0) -> Lead:
    """The one test behind every difference of a sweep."""
    if not ours or not rival:
        return Lead()
    if len(set(ours)) < 2 or len(set(rival)) < 2:  # one seed, or copies of one, has no spread to test with
        return Lead(statistics.fmean(rival) - statistics.fmean(ours))
    test = test_lead(seeds(ours), seeds(rival), Rule("sweep", margin, P))
    return Lead(test.gap, (test.gap - margin) / test.t if test.t else None, test.p)


def tabulate(sweep: Sweep, trials: Sequence[Trial]) -> list[Row]:
    rows: list[Row] = []
    for variant in sweep.configs:
        own = [trial for trial in trials if trial.variant == variant]
        bpb = [trial.bpb for trial in own if trial.bpb is not None]
        seconds = [trial.seconds for trial in own if trial.seconds is not None]
        row = Row(
            variant=variant,
            params=sweep.params(variant),
            bpb=bpb,
            diverged=sum(trial.state == "diverged" for trial in own),
            mean=statistics.fmean(bpb) if bpb else None,
            std=statistics.stdev(bpb) if len(bpb) > 1 else None,
            behind_first=compare(rows[0].bpb, bpb) if rows else Lead(),
            seconds=statistics.fmean(seconds) if seconds else None,
        )
        rows.append(row)
    return rows


def judge(claim: Claim, rows: Sequence[Row], seed_count: int) -> Verdict:
    named = {row.variant: row for row in rows}
    better = named[claim.better]
    worse = named[claim.worse]
    lead = compare(better.bpb, worse.bpb, claim.by_bpb)
    if lead.p is not None:
        verdict = "holds" if lead.p < P else "reversed" if 1 - lead.p < P else "undecided"
    elif better.bpb and worse.diverged == seed_count:
        verdict = "holds"  # a variant that never trains is worse
    elif worse.bpb and better.diverged == seed_count:
        verdict = "reversed"
    else:
        verdict = "undecided" if better.bpb and worse.bpb else "no data"
    return Verdict(claim, lead, verdict)


def as_markdown(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> str:
    table = [["variant", "parameters", "seeds", "bpb", "behind the first, bpb", "p", "seconds"]]
    for row in rows:
        behind = row.behind_first
        two_sided = 2 * min(behind.p, 1 - behind.p) if behind.p is not None else None
        done = f"{len(row.bpb)} complete" + (f", {row.diverged} diverged" if row.diverged else "")
        bpb = _show(row.mean, ".4f", row.std)
        lag = _show(behind.bpb, "+.4f", behind.error)
        cells = [row.variant, f"{row.params:,}", done, bpb, lag, _show(two_sided, ".2g"), _show(row.seconds, ".1f")]
        table.append(cells)
    claims = [["claim", "source", "better", "worse", "lead, bpb", "more than", "p", "verdict"]]
    for found in verdicts:
        claim = found.claim
        lead = _show(found.lead.bpb, "+.4f", found.lead.error)
        tested = [lead, f"{claim.by_bpb:g}", _show(found.lead.p, ".2g"), found.verdict]
        claims.append([claim.says, claim.source, claim.better, claim.worse, *tested])
    return _markdown(table) + ("\n" + _markdown(claims) if verdicts else "")


def _markdown(table: list[list[str]]) -> str:
    head, *rows = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in table]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


def _show(value: float | None, form: str, spread: float | None = None) -> str:
    if value is None:
        return ""
    return format(value, form) + (f" ± {spread:.4f}" if spread is not None else "")
