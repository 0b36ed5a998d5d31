"""Trials -> a table of variants and a verdict on each claim; as Markdown, CSV and plain data.

The difference to the first variant and the tests are Welch's (eval.stats): seeds are taken for independent draws. A
claim is settled at p < 0.05, one-sided and one claim at a time: of twenty without substance one will look settled.
Pure functions of plain values.
"""

import csv
import io
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eval.stats import Lead, Rule, lead, seeds
from tools.sweep.spec import Claim, Sweep

P = 0.05


class Trial(NamedTuple):
    variant: str
    seed: int
    params: int
    state: str  # complete, diverged, crashed, running, waiting; stopped or lost: to be run again
    bpb: float | None
    packed_bpb: float | None
    seconds: float | None
    steps: int | None
    curve: Sequence[tuple[int, float]]


class Row(NamedTuple):
    """One variant over its seeds; None where there is too little to say."""

    variant: str
    params: int
    params_percent: float  # against the first variant
    seeds: int  # that were asked for
    complete: int
    diverged: int
    mean: float | None
    std: float | None
    difference: float | None  # in bpb to the first variant; above 0: worse
    error: float | None  # its standard error
    p: float | None  # two-sided
    packed_mean: float | None
    seconds: float | None  # of training, mean


class Verdict(NamedTuple):
    says: str
    source: str
    better: str
    worse: str
    by_bpb: float
    lead: float | None  # of better over worse, in bpb
    error: float | None
    p: float | None  # of such a lead if the true one were by_bpb
    verdict: str  # holds, reversed, undecided, no data


def scores(trials: Sequence[Trial], variant: str) -> list[float]:
    return [trial.bpb for trial in trials if trial.variant == variant and trial.bpb is not None]


def rows(sweep: Sweep, trials: Sequence[Trial]) -> list[Row]:
    first = next(iter(sweep.configs))
    return [_row(sweep, trials, variant, first) for variant in sweep.configs]


def _row(sweep: Sweep, trials: Sequence[Trial], variant: str, first: str) -> Row:
    mine = [trial for trial in trials if trial.variant == variant]
    own, base = scores(trials, variant), scores(trials, first)
    test = _test(base, own) if variant != first else None
    return Row(
        variant=variant,
        params=sweep.params(variant),
        params_percent=100 * (sweep.params(variant) / sweep.params(first) - 1),
        seeds=len(sweep.sheet.seeds),
        complete=len(own),
        diverged=sum(trial.state == "diverged" for trial in mine),
        mean=_mean(own),
        std=statistics.stdev(own) if len(own) > 1 else None,
        difference=statistics.fmean(own) - statistics.fmean(base) if own and base and variant != first else None,
        error=_error(test),
        p=2 * min(test.p, 1 - test.p) if test and test.p is not None else None,
        packed_mean=_mean([trial.packed_bpb for trial in mine if trial.packed_bpb is not None]),
        seconds=_mean([trial.seconds for trial in mine if trial.seconds is not None]),
    )


def verdicts(sweep: Sweep, trials: Sequence[Trial]) -> list[Verdict]:
    return [_verdict(claim, trials, len(sweep.sheet.seeds)) for claim in sweep.sheet.claims]


def _verdict(claim: Claim, trials: Sequence[Trial], asked: int) -> Verdict:
    better, worse = scores(trials, claim.better), scores(trials, claim.worse)
    test = _test(better, worse, claim.by_bpb)
    fallen = Counter(trial.variant for trial in trials if trial.state == "diverged")
    fell = {variant for variant, count in fallen.items() if count == asked}  # with every seed; others may still train
    if test is not None and test.p is not None:
        verdict = "holds" if test.p < P else "reversed" if 1 - test.p < P else "undecided"
    elif better and not worse and claim.worse in fell:
        verdict = "holds"  # what does not train at all is worse
    elif worse and not better and claim.better in fell:
        verdict = "reversed"
    else:
        verdict = "undecided" if better and worse else "no data"
    lead = statistics.fmean(worse) - statistics.fmean(better) if better and worse else None
    says, source, by = claim.says, claim.source, claim.by_bpb
    p = test.p if test else None
    return Verdict(says, source, claim.better, claim.worse, by, lead, _error(test), p, verdict)


def _test(ours: Sequence[float], rival: Sequence[float], margin: float = 0.0) -> Lead | None:
    """Welch's, where both sides have a spread."""
    if len(set(ours)) < 2 or len(set(rival)) < 2:
        return None
    return lead(seeds(ours), seeds(rival), Rule("sweep", margin, P))


def _error(test: Lead | None) -> float | None:
    """The standard error behind a test; a lead that is the margin to the last bit has t = 0 and hides it."""
    return (test.gap - test.margin) / test.t if test and test.t else None


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


# -- how they are written ---------------------------------------------------------------------------------------------


def as_csv(items: Sequence[Any], skipped: Sequence[str] = ()) -> str:
    """Named tuples of one kind; numbers in full, an empty field for None."""
    if not items:
        return ""
    names = [name for name in items[0]._fields if name not in skipped]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(item, name) for name in names] for item in items)
    return text.getvalue()


def as_markdown(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> str:
    lines = ["| variant | parameters | to first | seeds | bpb | to first, bpb | p | packed bpb | seconds |",
             "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        fell = f", {row.diverged} diverged" if row.diverged else ""
        lines.append(
            f"| {row.variant} | {row.params:,} | {row.params_percent:+.2f} % | {row.complete} of {row.seeds}{fell} | "
            f"{_pm(row.mean, row.std, '.4f')} | {_pm(row.difference, row.error, '+.4f')} | {_say(row.p, '.2g')} | "
            f"{_say(row.packed_mean, '.4f')} | {_say(row.seconds, '.1f')} |"
        )
    if verdicts:
        lines += ["", "| claim | source | better | worse | lead, bpb | at least | p | verdict |",
                  "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for v in verdicts:
        lines.append(
            f"| {_cell(v.says)} | {_cell(v.source)} | {v.better} | {v.worse} | {_pm(v.lead, v.error, '+.4f')} | "
            f"{v.by_bpb:g} | {_say(v.p, '.2g')} | {v.verdict} |"
        )
    return "\n".join(lines) + "\n"


def as_data(items: Sequence[Any], skipped: Sequence[str] = ()) -> list[Mapping[str, Any]]:
    return [{key: value for key, value in item._asdict().items() if key not in skipped} for item in items]


def _say(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _pm(value: float | None, spread: float | None, form: str) -> str:
    return _say(value, form) + ("" if spread is None else f" ± {spread:.4f}")
