"""tools.board.ranking and charts: groups, places and fronts, against what one would do by hand."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.stats import Rule, lead, seeds
from tests.tools.invented import ANY, CPU, FINEWEB, STDLIB, invent, judge, submission
from tools.board.charts import axis, tick_words
from tools.board.curves import POINTS, parse_metrics
from tools.board.ranking import Group, groups, pareto
from tools.board.reading import read_board

VALUES = st.integers(0, 8).map(float)


def board(root: Path, *said: dict[str, Any]) -> list[Group]:
    for number, each in enumerate(said):
        invent(root, f"2026-11-{number + 1:02}_{number}", each, figures=False)
    return groups(read_board(root))


def on(val_sha256: str, name: str = "corpus") -> dict[str, Any]:
    return {**submission()["data"], "name": name, "val_sha256": val_sha256}


@given(st.lists(st.tuples(VALUES, VALUES), max_size=12))
def test_the_front_is_who_nobody_beats(points: list[tuple[float, float]]) -> None:
    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] <= b[0] and a[1] <= b[1] and a != b

    free = [i for i, point in enumerate(points) if not any(beats(other, point) for other in points)]
    found = pareto(points)
    assert sorted(found) == free
    assert [points[i] for i in found] == sorted(points[i] for i in free)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([CPU, ANY]), st.sampled_from("123"), st.integers(10**5, 2 * 10**6), st.integers(1, 4)
        ),
        max_size=6,
    )
)
def test_a_group_is_one_track_and_one_corpus_in_the_order_of_scores(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, str, int, int]]
) -> None:
    said = [
        submission(track, 1 + (size * 7919 % 1000) / 1000, count, bytes_model=size, data=on(corpus * 64))
        for track, corpus, size, count in drawn
    ]
    found = board(tmp_path_factory.mktemp("records"), *said)
    assert sum(len(group.rows) for group in found) == len(said)
    assert len({(group.track.name, group.val_sha256) for group in found}) == len(found)
    for group in found:
        for row in group.rows:
            assert row.record.submission.data.val_sha256 == group.val_sha256
            assert row.record.submission.track == group.track.name
        placed = [row for row in group.rows if row.place is not None]
        assert [row.place for row in placed] == list(range(1, len(placed) + 1))
        for before, after in itertools.pairwise(placed):
            assert before.record.bpb <= after.record.bpb
        for row in group.rows:
            over = row.record.submission.bytes_total > group.track.cap_bytes
            assert (row.place is None) == (over or len(row.record.submission.seeds) < group.track.seeds)


def test_corpora_of_one_name_and_other_bytes_are_apart(tmp_path: Path) -> None:
    found = board(tmp_path, submission(data=on(STDLIB, "same")), submission(data=on(FINEWEB, "same")))
    assert [group.corpus for group in found] == ["same", "same"]
    assert {group.val_sha256 for group in found} == {STDLIB, FINEWEB}


def test_an_invalid_record_has_no_place_and_is_nobodys_rival(tmp_path: Path) -> None:
    best = invent(tmp_path, "2026-11-01_a", submission(bpb=1.0, date="2026-11-01", name="Too good"), figures=False)
    invent(tmp_path, "2026-11-02_b", submission(bpb=1.6, date="2026-11-02", name="Honest"), figures=False)
    judge(tmp_path, best, "invalid", "fast")
    rows = groups(read_board(tmp_path))[0].rows
    assert [(row.record.submission.name, row.place) for row in rows] == [("Honest", 1), ("Too good", None)]
    assert rows[0].step.startswith("The first on this corpus")
    assert rows[1].step == "Not ranked: its verdict is invalid."


def test_a_step_is_told_as_the_written_rule_tells_it(tmp_path: Path) -> None:
    dates = ("2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04")
    scores = (1.70, 1.69, 1.6885, 1.695)
    found = board(tmp_path, *(submission(bpb=b, date=d, name=f"of {d}") for b, d in zip(scores, dates, strict=True)))
    rows = {row.record.submission.date: row for row in found[0].rows}
    assert rows[dates[0]].step == "The first on this corpus: nothing was there to beat."
    assert rows[dates[1]].proved
    assert rows[dates[1]].step.startswith("Proved: 0.0100 bpb ahead of of 2026-11-01 (1.7000). 3 seeds against 3 seeds")
    assert not rows[dates[2]].proved
    assert rows[dates[2]].step.startswith("Not proved: 0.0015 bpb ahead")
    assert rows[dates[3]].step == "No step: of 2026-11-03 (1.6885) was there before it."
    ours, his = (seeds([s + 0.0004 * i for i in (-1, 0, 1)]) for s in (1.69, 1.70))
    evaluation = submission()["evaluation"]
    margin = 0.005 / (0.6931471805599453 * evaluation["val_bytes"] / evaluation["val_tokens"])
    assert f"p = {lead(ours, his, Rule('written', margin, 0.01)).p:.2g} " in rows[dates[1]].step


def test_one_seed_proves_nothing_and_one_rival_is_taken_as_exact(tmp_path: Path) -> None:
    said = [submission(ANY, b, n, date=f"2026-11-0{i}") for i, (b, n) in enumerate([(2.0, 1), (1.9, 1), (1.8, 3)], 1)]
    steps = [row.step for row in board(tmp_path, *said)[0].rows]
    assert "3 seeds against one seed, taken as exact" in steps[0]
    assert "one seed has no spread to test with" in steps[1]


@given(st.lists(st.floats(-1e15, 1e15), min_size=1, max_size=8))
def test_an_axis_holds_its_values_and_tells_its_ticks_apart(values: list[float]) -> None:
    made = axis(values)
    assert made.low <= min(values) <= max(values) <= made.high
    assert made.low < made.high
    assert all(made.shows(tick) for tick in made.ticks[1:-1])
    assert len(made.ticks) <= 12


@given(st.floats(0.001, 1e9), st.floats(0.001, 1.0))
def test_ticks_are_told_apart_in_words(low: float, share: float) -> None:
    ticks = axis([low, low * (1 + share)]).ticks
    for unit in ("", "s", "B"):
        assert len(set(tick_words(ticks, unit))) == len(ticks)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 20)), min_size=2, max_size=400))
def test_a_curve_is_thin_ends_at_the_last_step_and_stays_among_the_losses(steps: list[tuple[float, float]]) -> None:
    lines = [json.dumps({"step": i, "elapsed_s": at, "loss": loss}) for i, (at, loss) in enumerate(steps)]
    curve = parse_metrics("\n".join([*lines, '{"val_bpb": 1.5, "elapsed_s": 3}']).encode(), "metrics.jsonl")
    assert len(curve.seconds) == min(POINTS, len(steps))
    assert list(curve.seconds) == sorted(curve.seconds)
    assert curve.seconds[-1] == max(at for at, _ in steps)
    losses = [loss for _, loss in steps]
    assert min(losses) - 1e-9 <= min(curve.losses) <= max(curve.losses) <= max(losses) + 1e-9
