"""Trials -> a table of variants and a verdict on each claim, as plain values and as Markdown. Pure functions.

Variants share their seeds, so a variant's gain over the first is tested pair by pair. A claim's sides count as
independent draws. It is settled at p < 0.05, one-sided and each alone: of twenty claims without substance one will
look settled.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from eval.stats import Lead, Paired, Rule, lead, paired, seeds, spearman
from tools.sweep.spec import Claim, Sweep

P = 0.05
CRASHED = "crashed"


@dataclass(frozen=True)
class Trial:
    variant: str
    seed: int
    params: int
    state: str  # waiting (or running), complete, diverged, stopped, crashed
    bpb: float | None = None  # scored from the artifact
    seconds: float | None = None  # of training
    data_sha256: str | None = None
    early_nats: float | None = None  # smoothed training loss after the share of the steps that train.stop_if names


@dataclass(frozen=True)
class Row:
    """One variant over its seeds."""

    variant: str
    params: int
    bpb: list[float]  # of the complete trials
    diverged: int
    stopped: int
    mean: float | None
    std: float | None
    gain: Paired | None  # over the first variant
    seconds: float | None  # mean


@dataclass(frozen=True)
class Verdict:
    claim: Claim
    lead: Lead | None  # None: one seed, or copies of one, has no spread to test with
    verdict: str  # holds, reversed, undecided, no data


@dataclass(frozen=True)
class Report:
    study: str
    trials: list[Trial]
    table: list[Row]
    claims: list[Verdict]
    early_correlation: float | None  # Spearman's, of early_nats and bpb


def make_report(sweep: Sweep, trials: list[Trial]) -> Report:
    table = tabulate(sweep, trials)
    claims = [judge(claim, table, len(sweep.sheet.seeds)) for claim in sweep.sheet.claims]
    pairs = [(trial.early_nats, trial.bpb) for trial in trials if trial.early_nats and trial.bpb]
    correlation = spearman([early for early, _ in pairs], [bpb for _, bpb in pairs])
    return Report(sweep.name, trials, table, claims, correlation)


def tabulate(sweep: Sweep, trials: Sequence[Trial]) -> list[Row]:
    rows: list[Row] = []
    first: dict[int, float] = {}  # seed -> bpb
    effect, alpha = (sweep.sheet.pairs.effect, sweep.sheet.pairs.alpha) if sweep.sheet.pairs else (0.0, P)
    for variant in sweep.configs:
        own = [trial for trial in trials if trial.variant == variant]
        found = {trial.seed: trial.bpb for trial in own if trial.bpb is not None}
        first = first if rows else found
        bpb = list(found.values())
        gains = [first[seed] - found[seed] for seed in found if seed in first]
        seconds = [trial.seconds for trial in own if trial.seconds is not None]
        row = Row(
            variant=variant,
            params=sweep.params(variant),
            bpb=bpb,
            diverged=sum(trial.state == "diverged" for trial in own),
            stopped=sum(trial.state == "stopped" for trial in own),
            mean=statistics.fmean(bpb) if bpb else None,
            std=statistics.stdev(bpb) if len(bpb) > 1 else None,
            gain=paired(gains, effect, alpha) if rows else None,
            seconds=statistics.fmean(seconds) if seconds else None,
        )
        rows.append(row)
    return rows


def judge(claim: Claim, rows: Sequence[Row], seed_count: int) -> Verdict:
    named = {row.variant: row for row in rows}
    better = named[claim.better]
    worse = named[claim.worse]
    found = None
    if len(set(better.bpb)) > 1 and len(set(worse.bpb)) > 1:
        found = lead(seeds(better.bpb), seeds(worse.bpb), Rule("sweep", claim.by_bpb, P))
    if found is not None and found.p is not None:
        verdict = "holds" if found.p < P else "reversed" if 1 - found.p < P else "undecided"
    elif better.bpb and worse.diverged == seed_count:
        verdict = "holds"  # a variant that never trains is worse
    elif worse.bpb and better.diverged == seed_count:
        verdict = "reversed"
    else:
        verdict = "undecided" if better.bpb and worse.bpb else "no data"
    return Verdict(claim, found, verdict)


def as_markdown(report: Report) -> str:
    rows = [["variant", "parameters", "seeds", "bpb", "gain, bpb", "interval", "p", "verdict", "more pairs", "seconds"]]
    for row in report.table:
        counts = {"complete": len(row.bpb), "diverged": row.diverged, "stopped": row.stopped}
        done = ", ".join(f"{n} {state}" for state, n in counts.items() if n or state == "complete")
        cells = [row.variant, f"{row.params:,}", done, _show(row.mean, ".4f", row.std), *_show_gain(row.gain)]
        rows.append([*cells, _show(row.seconds, ".1f")])
    claims = [["claim", "source", "better", "worse", "lead, bpb", "more than", "p", "verdict"]]
    for found in report.claims:
        claim = found.claim
        tested = (_show(found.lead.gap, "+.4f"), _show(found.lead.p, ".2g")) if found.lead else ("", "")
        words = [claim.says, claim.source, claim.better, claim.worse]
        claims.append([*words, tested[0], f"{claim.by_bpb:g}", tested[1], found.verdict])
    text = _markdown(rows) + ("\n" + _markdown(claims) if report.claims else "")
    if report.early_correlation is not None:
        text += f"\nSpearman's correlation of the early training loss with bpb: {report.early_correlation:.3f}\n"
    return text


def _show_gain(gain: Paired | None) -> list[str]:
    if gain is None:
        return [""] * 5
    interval = f"{gain.low:+.4f} to {gain.high:+.4f}" if gain.low is not None else ""
    return [_show(gain.mean, "+.4f"), interval, _show(gain.p, ".2g"), gain.verdict, _show(gain.more_pairs, "d")]


def _markdown(table: list[list[str]]) -> str:
    head, *rows = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in table]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


def _show(value: float | None, form: str, spread: float | None = None) -> str:
    if value is None:
        return ""
    return format(value, form) + (f" ± {spread:.4f}" if spread is not None else "")
