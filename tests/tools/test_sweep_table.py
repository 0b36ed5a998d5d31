"""The table and the verdicts against figures worked out by hand, and against the committed ablations."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mpmath
import pytest

from run_config import RunConfig
from tests.runs import ROOT
from tools.sweep.plot import picture
from tools.sweep.spec import Claim, Sheet, Sweep, read_sweep
from tools.sweep.table import Trial, as_markdown, judge, tabulate

CLAIM = Claim(says="one | is better", source="a source", better="one", worse="two")
SHEET = Sheet(base="x", seeds=(1, 2, 3), variants={"one": {}, "two": {}}, claims=(CLAIM,))
SWEEP = Sweep("try", SHEET, {"one": RunConfig(), "two": RunConfig()}, [])


def trials(variant: str, scores: Sequence[float | None]) -> list[Trial]:
    return [
        Trial(variant, seed, 100, "diverged" if bpb is None else "complete", bpb, 1.5)
        for seed, bpb in enumerate(scores)
    ]


def test_a_row_has_mean_spread_and_welchs_error_to_the_first_variant() -> None:
    first, second = tabulate(SWEEP, [*trials("one", [1.0, 2.0, 3.0]), *trials("two", [2.0, 4.0, 6.0])])
    assert (first.mean, first.std, first.behind_first.bpb) == (2.0, 1.0, None)
    assert (second.mean, second.std, second.behind_first.bpb) == (4.0, 2.0, 2.0)
    assert second.behind_first.error == pytest.approx(math.sqrt(1 / 3 + 4 / 3))
    df, t = (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2), 2 / math.sqrt(5 / 3)
    two_sided = float(mpmath.betainc(df / 2, 0.5, 0, df / (df + t * t), regularized=True))
    assert second.behind_first.p == pytest.approx(two_sided / 2, abs=1e-12)


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
    found = [*trials("one", [1 / 3, 2.0]), *trials("two", [None])]
    rows = tabulate(SWEEP, found)
    text = as_markdown(rows, [judge(CLAIM, rows, 3)])
    assert "| two | " in text
    assert "0 complete, 1 diverged" in text
    assert "1.1667 ± 1.1785" in text
    assert {line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("| one \\|")} == {9}


def test_a_picture_is_drawn_of_whatever_there_is() -> None:
    for found in ([], trials("two", [None]), [*trials("one", [1.0, 1.1]), *trials("two", [2.0])]):
        assert picture("try", tabulate(SWEEP, found)).startswith(b"\x89PNG")


@pytest.mark.parametrize("folder", sorted((ROOT / "docs" / "ablations").glob("*/")), ids=lambda folder: folder.name)
def test_the_committed_ablations_verdicts_follow_from_their_trials(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(Path("configs/sweeps") / f"{folder.name}.yaml")
    answer = json.loads((folder / "answer.json").read_text())
    fields = ("variant", "seed", "params", "state", "bpb", "seconds")
    found = [Trial(**{name: trial[name] for name in fields}) for trial in answer["trials"]]
    assert [(trial.variant, trial.seed) for trial in found] == [(key.variant, key.seed) for key in sweep.keys]
    rows = tabulate(sweep, found)
    for row, committed in zip(rows, answer["table"], strict=True):
        assert (row.variant, row.params, row.mean) == tuple(committed[name] for name in ("variant", "params", "mean"))
        assert row.behind_first.bpb == committed["difference"]
    for claim, committed in zip(sweep.sheet.claims, answer["claims"], strict=True):
        verdict = judge(claim, rows, len(sweep.sheet.seeds))
        assert (verdict.verdict, verdict.lead.p) == (committed["verdict"], pytest.approx(committed["p"]))
    page = (ROOT / "docs" / "ablations" / "README.md").read_text()
    assert all(line in page for line in (folder / "table.md").read_text().splitlines())
