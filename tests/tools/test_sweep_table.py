"""The table and the verdicts against figures worked out by hand, and against the committed ablations."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

from run_config import RunConfig
from tests.runs import ROOT
from tools.sweep.plot import picture
from tools.sweep.spec import Claim, Pairs, Sheet, Sweep, read_sweep
from tools.sweep.table import Trial, as_markdown, judge, make_report, tabulate

CLAIM = Claim(says="one | is better", source="a source", better="one", worse="two")
SHEET = Sheet(base="x", seeds=(1, 2, 3), variants={"one": {}, "two": {}}, claims=(CLAIM,))
SWEEP = Sweep("try", SHEET, {"one": RunConfig(), "two": RunConfig()}, [])


def trials(variant: str, scores: Sequence[float | None]) -> list[Trial]:
    return [
        Trial(variant, seed, 100, "diverged" if bpb is None else "complete", bpb, 1.5)
        for seed, bpb in enumerate(scores)
    ]


def test_a_row_has_mean_spread_and_the_gain_of_its_pairs_over_the_first_variant() -> None:
    one, two = [1.0, 2.0, 3.0, 9.0], [2.0, 4.0, 6.0, None]  # what has no partner does not count
    first, second = tabulate(SWEEP, [*trials("one", one), *reversed(trials("two", two))])
    assert (first.mean, first.gain) == (3.75, None)
    assert (second.mean, second.std, second.diverged) == (4.0, 2.0, 1)
    assert second.gain is not None
    assert (second.gain.pairs, second.gain.mean, second.gain.more_pairs) == (3, -2.0, None)
    oracle = scipy.stats.ttest_rel(one[:3], two[:3])
    interval = oracle.confidence_interval(0.95)
    found = (second.gain.p, second.gain.low, second.gain.high)
    assert found == pytest.approx((oracle.pvalue, interval.low, interval.high))


def test_a_sweep_of_pairs_is_judged_at_its_own_level_and_effect() -> None:
    sheet = replace(SHEET, pairs=Pairs(effect=1.5, alpha=0.2))
    found = [*trials("one", [4.0, 4.1, 4.2]), *trials("two", [3.1, 3.1, 3.1])]
    row = tabulate(SWEEP._replace(sheet=sheet), found)[1]
    assert row.gain is not None
    assert (row.gain.verdict, row.gain.more_pairs) == ("too small", 0)
    assert row.gain.high == pytest.approx(scipy.stats.ttest_1samp([0.9, 1.0, 1.1], 0).confidence_interval(0.8).high)


def test_early_losses_are_correlated_with_scores_by_rank() -> None:
    found = [replace(trial, early_nats=5 - (trial.bpb or 0) ** 2) for trial in trials("one", [1.0, 3.0, 2.0])]
    report = make_report(SWEEP, [*found, *trials("two", [4.0, None])])
    assert report.early_correlation == pytest.approx(-1)
    assert "early training loss with bpb: -1.000" in as_markdown(report)
    assert make_report(SWEEP, trials("one", [1.0, 2.0])).early_correlation is None


def test_a_claim_is_settled_at_one_in_twenty_or_by_divergence() -> None:
    low, high = [1.0, 1.1, 1.2], [2.0, 2.1, 2.2]
    none: list[float | None] = [None, None, None]
    cases: list[tuple[list[Any], list[Any], float, str]] = [
        (low, high, 0.0, "holds"), (high, low, 0.0, "reversed"), (low, [1.05, 1.15, 1.25], 0.0, "undecided"),
        (low, low, -0.5, "holds"), (low, high, 2.0, "reversed"),
        (low, none, 0.0, "holds"), (none, low, 0.0, "reversed"), (none, none, 0.0, "no data"),
        (low, [None], 0.0, "no data"), ([None], low, 0.0, "no data"),  # the other seeds have not run
        ([1.0], [2.0], 0.0, "undecided"), ([1.0] * 3, [2.0] * 3, 0.0, "undecided"),  # copies of one run
        ([1.0, 1.1], [], 0.0, "no data"),
    ]  # fmt: skip
    for one, two, by_bpb, verdict in cases:
        claim = Claim(says="x", source="y", better="one", worse="two", by_bpb=by_bpb)
        rows = tabulate(SWEEP, [*trials("one", one), *trials("two", two)])
        assert judge(claim, rows, 3).verdict == verdict, (one, two)


def test_markdown_has_every_variant_and_claim() -> None:
    stopped = Trial("two", 2, 100, "stopped")
    text = as_markdown(make_report(SWEEP, [*trials("one", [1 / 3, 2.0]), *trials("two", [None]), stopped]))
    assert "| two | " in text
    assert "0 complete, 1 diverged, 1 stopped" in text
    assert "1.1667 ± 1.1785" in text
    assert {line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("| one \\|")} == {9}


def test_a_picture_is_drawn_of_whatever_there_is() -> None:
    for found in ([], trials("two", [None]), [*trials("one", [1.0, 1.1]), *trials("two", [2.0])]):
        assert picture(make_report(SWEEP, found)).startswith(b"\x89PNG")


def invert(difference: float | None) -> dict[str, float] | None:
    return None if difference is None else {"mean": -difference}


@pytest.mark.parametrize("folder", sorted((ROOT / "docs" / "ablations").glob("*/")), ids=lambda folder: folder.name)
def test_the_committed_verdicts_follow_from_their_trials(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(Path("configs/sweeps") / f"{folder.name}.yaml")
    answer = json.loads((folder / "answer.json").read_text())
    fields = ("variant", "seed", "params", "state", "bpb", "seconds")
    found = [Trial(**{name: trial[name] for name in fields}) for trial in answer["trials"]]
    assert [(trial.variant, trial.seed) for trial in found] == [(key.variant, key.seed) for key in sweep.keys]
    rows = tabulate(sweep, found)
    for row, committed in zip(rows, answer["table"], strict=True):
        assert (row.variant, row.params, row.mean) == tuple(committed[name] for name in ("variant", "params", "mean"))
        gain = committed["gain"] if "gain" in committed else invert(committed["difference"])  # the first two sweeps
        assert (row.gain and row.gain.mean) == (gain and pytest.approx(gain["mean"]))
    for claim, committed in zip(sweep.sheet.claims, answer["claims"], strict=True):
        verdict = judge(claim, rows, len(sweep.sheet.seeds))
        assert (verdict.verdict, verdict.lead and verdict.lead.p) == (
            committed["verdict"],
            pytest.approx(committed["p"]),
        )
    page = (ROOT / "docs" / "ablations" / "README.md").read_text()
    assert all(line in page for line in (folder / "table.md").read_text().splitlines())
