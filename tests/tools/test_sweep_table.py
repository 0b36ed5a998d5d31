"""What the table and the verdicts say, against figures worked out by hand."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import mpmath
import pytest

from tools.sweep.plot import picture
from tools.sweep.spec import Claim, Sheet, Sweep, read_sweep
from tools.sweep.table import Trial, as_csv, as_markdown, rows, verdicts
from train_gpt import RunConfig

ROOT = Path(__file__).parents[2]
CURVE = [(step, 6 - step / 50) for step in range(10, 110, 10)]


def trials(variant: str, scores: Sequence[float | None]) -> list[Trial]:
    return [
        Trial(variant, n, 100, "diverged" if bpb is None else "complete", bpb, bpb, 1.5, 10, CURVE if bpb else ())
        for n, bpb in enumerate(scores)
    ]


def sweep(by_bpb: float = 0.0) -> Sweep:
    config = RunConfig()
    claim = Claim(says="one | is better", source="a source", better="one", worse="two", by_bpb=by_bpb)
    sheet = Sheet(base="x", seeds=(1, 2, 3), variants={"one": {}, "two": {}}, claims=(claim,))
    return Sweep("try", sheet, {"one": config, "two": config})


def test_a_row_has_mean_spread_and_welchs_error_to_the_first_variant() -> None:
    first, second = rows(sweep(), [*trials("one", [1.0, 2.0, 3.0]), *trials("two", [2.0, 4.0, 6.0])])
    assert (first.mean, first.std, first.difference, first.p) == (2.0, 1.0, None, None)
    assert (second.mean, second.std, second.difference, second.params_percent) == (4.0, 2.0, 2.0, 0.0)
    assert second.error == pytest.approx(math.sqrt(1 / 3 + 4 / 3))
    df, t = (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2), 2 / math.sqrt(5 / 3)
    two_sided = mpmath.betainc(df / 2, 0.5, 0, df / (df + t * t), regularized=True)
    assert second.p == pytest.approx(float(two_sided), abs=1e-12)


@pytest.mark.parametrize(
    ("one", "two", "by_bpb", "verdict"),
    [
        ([1.0, 1.1, 1.2], [2.0, 2.1, 2.2], 0.0, "holds"),
        ([2.0, 2.1, 2.2], [1.0, 1.1, 1.2], 0.0, "reversed"),
        ([1.0, 1.1, 1.2], [1.05, 1.15, 1.25], 0.0, "undecided"),
        ([1.0, 1.1, 1.2], [1.0, 1.1, 1.2], -0.5, "holds"),
        ([1.0, 1.1, 1.2], [2.0, 2.1, 2.2], 2.0, "reversed"),
        ([1.0, 1.1, 1.2], [None, None, None], 0.0, "holds"),
        ([None, None, None], [1.0, 1.1, 1.2], 0.0, "reversed"),
        ([None, None, None], [None, None, None], 0.0, "no data"),
        ([1.0, 1.1, 1.2], [None], 0.0, "no data"),  # its other seeds have not run
        ([None], [1.0, 1.1, 1.2], 0.0, "no data"),
        ([1.0], [2.0], 0.0, "undecided"),
        ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], 0.0, "undecided"),  # copies of one run
        ([1.0, 1.1], [], 0.0, "no data"),
    ],
)
def test_a_claim_is_settled_at_one_in_twenty_or_by_divergence(
    one: list[float | None], two: list[float | None], by_bpb: float, verdict: str
) -> None:
    (found,) = verdicts(sweep(by_bpb), [*trials("one", one), *trials("two", two)])
    assert found.verdict == verdict


def test_csv_has_every_number_in_full_and_markdown_every_variant() -> None:
    table = rows(sweep(), [*trials("one", [1 / 3, 2.0]), *trials("two", [None])])
    read = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert [float(read[0]["mean"]), read[1]["mean"], read[1]["diverged"]] == [(1 / 3 + 2.0) / 2, "", "1"]
    text = as_markdown(table, verdicts(sweep(), trials("one", [1.0])))
    assert "| two | " in text
    assert "0 of 3, 1 diverged" in text
    assert {line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("| one \\|")} == {9}


def test_a_picture_is_drawn_of_whatever_there_is() -> None:
    for given in ([], trials("two", [None]), [*trials("one", [1.0, 1.1]), *trials("two", [2.0])]):
        data = picture("try", rows(sweep(), given), given, {"all": ("one", "two")})
        assert data.startswith(b"\x89PNG")


@pytest.mark.parametrize("folder", sorted((ROOT / "docs" / "ablations").glob("*/")), ids=lambda folder: folder.name)
def test_a_committed_table_is_what_its_trials_come_to_and_the_page_says_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    ran = read_sweep(Path("configs/sweeps") / f"{folder.name}.yaml")
    answer = json.loads((folder / "answer.json").read_text())
    told = [Trial(**trial, curve=()) for trial in answer["trials"]]
    assert [(trial.variant, trial.seed) for trial in told] == ran.keys
    table, claims = rows(ran, told), verdicts(ran, told)
    text = as_markdown(table, claims)
    assert text == (folder / "table.md").read_text()
    assert [as_csv(table), as_csv(claims)] == [(folder / f"{name}.csv").read_text() for name in ("table", "claims")]
    page = (ROOT / "docs" / "ablations" / "README.md").read_text()
    assert all(line in page for line in text.splitlines())
