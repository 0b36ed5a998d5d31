"""tools.leaderboard: groups, places, steps and badges; a stranger's folder is shown as text and stops nothing."""

import html
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.files import write_json
from eval import stats
from tests.records import TRACK, check, copied, edit_json, resign
from tools.leaderboard import act, draw_chart, find_front, markdown, parser
from tools.record.ranking import rank_all
from tools.record.rows import Row, read_submission
from tools.record.schema import Submission, load_tracks

TRACKS = load_tracks()
OPEN = "track_non_record_16mb"
EVIL = "$body<script>alert('x')</script>\" ' & | [a](javascript:b) `c` ![d](e) www.f.g h://i @j k@l.m \u202e\n# *n*"
quickly = settings(max_examples=50)
corpora = st.tuples(st.sampled_from([TRACK, OPEN]), st.sampled_from("ab"))


@pytest.fixture(scope="module")
def claim(record: Path) -> Submission:
    return read_submission(record)


def make_row(claim: Submission, name: str, bpbs: Sequence[float], **changes: Any) -> Row:
    (first, *_) = claim.seed_results.values()
    results = {str(seed): replace(first, val_bpb=bpb) for seed, bpb in enumerate(bpbs)}
    changes |= {"val_bpb": sum(bpbs) / len(bpbs), "seeds": tuple(range(len(bpbs))), "seed_results": results}
    made = replace(claim, name=name, **changes)
    return Row(Path(made.track, name), made, None)


def light_copy(record: Path, folder: Path, **changes: Any) -> Path:
    """A folder with what the leaderboard reads of a record, and nothing large."""
    folder.mkdir(parents=True)
    values = json.loads((record / "submission.json").read_text())
    write_json(folder / "submission.json", values | changes)
    resign(folder)
    return folder


def made(root: Path) -> tuple[dict[str, Any], str, str]:
    answer = act(parser().parse_args([str(root)]))
    return answer, (root / "README.md").read_text(encoding="utf-8"), (root / "index.html").read_text(encoding="utf-8")


def tags(page: str) -> set[str]:
    """What a browser takes for markup, without the values of attributes."""
    return {re.sub('="[^"]*"', "", tag) for tag in re.findall("<(?!!--)[^>]*>", page.partition("</head>")[2])}


@quickly
@given(drawn=st.lists(st.tuples(corpora, st.integers(1, 2 * 10**6), st.integers(1, 4)), max_size=8))
def test_a_group_is_one_track_and_one_corpus_in_order_of_scores(claim: Submission, drawn: list[Any]) -> None:
    rows = []
    for number, ((track, corpus), size, count) in enumerate(drawn):
        data = replace(claim.data, val_sha256=f"{number}", val_text_sha256=corpus * 64)  # one text in other tokens
        rows.append(make_row(claim, f"row{number}", [size % 97 + 1] * count, track=track, data=data, bytes_total=size))
    groups = rank_all(rows, TRACKS)
    assert sum(len(group.rows) for group in groups) == len(rows)
    assert groups == sorted(groups, key=lambda group: list(TRACKS.tracks).index(group.track.name))
    for group in groups:
        assert len({(each.row.claim.track, each.row.claim.data.text) for each in group.rows}) == 1
        placed = [each for each in group.rows if each.place is not None]
        assert [each.place for each in placed] == list(range(1, len(placed) + 1))
        assert placed == sorted(placed, key=lambda each: each.row.claim.val_bpb)
        for each in group.rows:
            is_over = each.row.claim.bytes_total > group.track.cap_bytes
            assert (each.place is None) == (is_over or len(each.row.claim.seeds) < group.track.seeds)


def test_a_step_is_measured_against_the_best_before_it(claim: Submission) -> None:
    scores = [[bpb - 0.0004, bpb, bpb + 0.0004] for bpb in (1.70, 1.69, 1.6895, 1.695)]
    rows = [make_row(claim, f"row{i}", bpbs, date=f"2026-11-0{i}") for i, bpbs in enumerate(scores, 1)]
    (group,) = rank_all(rows, TRACKS)
    steps = {each.row.claim.name: each for each in group.rows}
    margin = 0.005 / stats.nats_per_bpb(claim.evaluation.val_tokens, claim.evaluation.val_bytes)
    p = stats.lead(stats.seeds(scores[1]), stats.seeds(scores[0]), stats.Rule("written", margin, 0.01)).p
    assert steps["row1"].step == "First: there is no earlier record on this corpus."
    assert steps["row2"].step.startswith(f"Proved: 0.0100 bits per byte ahead of row1 (1.7000); p = {p:.2g} for a lead")
    assert steps["row3"].step.startswith("Not proved: 0.0005 bits per byte ahead of row2 (1.6900); p = ")
    assert steps["row4"].step == "No step: row3 (1.6895) is earlier and not worse."
    assert [name for name, each in steps.items() if each.proved] == ["row2"]
    rows = [make_row(claim, "old", [2.0], track=OPEN), make_row(claim, "young", [1.0], track=OPEN)]
    assert rank_all(rows, TRACKS)[0].rows[0].step.endswith("old (2.0000), but one seed has no spread to test with.")


@quickly
@given(points=st.lists(st.tuples(st.integers(1, 20), st.floats(1, 2)), min_size=1, max_size=8))
def test_no_point_is_smaller_and_better_than_the_front(points: list[tuple[int, float]]) -> None:
    front = find_front(points)
    assert set(front) <= set(points)
    assert front == sorted(front, key=lambda corner: (corner[0], -corner[1]))  # to the right and down
    assert all(any(left <= x and low <= y for left, low in front) for x, y in points)


def test_a_chart_has_a_numbered_point_for_every_place(claim: Submission) -> None:
    rows = [make_row(claim, f"{n}", [1.31 + n / 10] * 3, bytes_total=900_000 - n) for n in range(3)]
    over = make_row(claim, "over", [0.5] * 3, bytes_total=10**9)
    chart = draw_chart(rank_all([*rows, over], TRACKS)[0])
    assert re.findall(r">([1-4])</text>", chart) == ["3", "2", "1"]
    assert draw_chart(rank_all([over], TRACKS)[0]) == ""


def test_a_badge_is_the_kept_verdict_until_a_file_changes(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    root = folder.parents[1]
    log = folder / "train_seed7.log"
    assert "| not verified |" in made(root)[1]
    check(folder, "--keep")
    assert re.search(r"\| valid \(files and numbers, \d{4}-\d\d-\d\d\) \|", made(root)[1])
    log.write_bytes(log.read_bytes()[::-1])  # of the same size
    assert re.search(r"\| changed since .* was valid: train\\_seed7.log is not the file that", made(root)[1])
    resign(folder)
    assert re.search(r"\| changed since .* was valid: manifest.json is not the one that was verified", made(root)[1])
    edit_json(folder / "submission.json", lambda claim: claim.update(val_bpb=0.5))
    resign(folder)
    check(folder, "--keep")
    answer, readme, _ = made(root)
    assert answer["ranked"] == []
    assert re.search(r"\| invalid \(files and numbers.*No place: its newest verdict is invalid\.", readme, re.S)


def test_verdicts_that_cannot_be_read_verify_nothing(record: Path, tmp_path: Path) -> None:
    light_copy(record, tmp_path / TRACK / "one")
    for text in ("{", '{"a/b": 7}', '{"a/b": {"verdict": "superb"}}'):
        (tmp_path / "verdicts.json").write_text(text)
        assert re.search(r"\| not verified \|.*no record counts as verified", made(tmp_path)[1], re.S), text


def test_a_folder_that_cannot_be_read_is_listed_with_its_reason(record: Path, tmp_path: Path) -> None:
    unreadable: list[tuple[str | dict[str, Any], str]] = [
        ({"schema": "bitgolf-record-1"}, "schema is 'bitgolf-record-1'"),
        ({"surprise": 1}, "unknown key surprise"),
        ({"val_bpb": 1e300}, "val_bpb: 1e+300: input should be less than or equal to 1000"),
        ({"val_bpb_std": -1.0}, "val_bpb_std: -1.0: input should be greater"),
        ({"bytes_total": 10**399}, "integer of 400 digits"),
        ({"date": "yesterday"}, "date: 'yesterday': string should match pattern"),
        ({"seeds": [7]}, "do not name the same seeds"),
        ({"track": OPEN}, f"track is {OPEN}"),
        ("{", "not JSON"),
        ('{"a":' * 30 + "1" + "}" * 30, "more than 20 levels"),
        (" " * 5_000_000, "files like it are read up to"),
    ]
    home = tmp_path / TRACK
    light_copy(record, home / "good", name="The good one")
    expected = {}
    for number, (change, reason) in enumerate(unreadable):
        folder = light_copy(record, home / f"unreadable{number:02}", **(change if isinstance(change, dict) else {}))
        if isinstance(change, str):
            (folder / "submission.json").write_text(change)
        expected[f"{TRACK}/{folder.name}"] = reason
    for name in ("empty", "piped", "odd\nname"):
        (home / name).mkdir()
    os.mkfifo(home / "piped" / "submission.json")
    (home / "linked").symlink_to(home / "good")
    light_copy(record, tmp_path / "elsewhere" / "one")
    expected |= {
        f"{TRACK}/empty": "submission.json is missing",
        f"{TRACK}/piped": "not a plain file",
        f"{TRACK}/odd name": "characters that cannot be printed",
        f"{TRACK}/linked": "in a link, which is not followed",
        "elsewhere/one": "no track is called elsewhere",
    }
    answer, readme, page = made(tmp_path)
    assert answer["ranked"] == [f"{TRACK}/good"]
    found = {each["record"]: each["reason"] for each in answer["unread"]}
    assert found.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in found[name]
        assert name in page
        assert markdown(name) in readme


def test_text_of_a_record_is_never_markup(record: Path, tmp_path: Path) -> None:
    data = json.loads((record / "submission.json").read_text())["data"] | {"name": EVIL, "val_text_sha256": EVIL}
    for root, changes in (("calm", {}), ("wild", {"name": EVIL, "author": EVIL, "data": data})):
        light_copy(record, tmp_path / root / TRACK / "<b>[a](b)|", **changes)
        light_copy(record, tmp_path / root / TRACK / "<i>", date=EVIL if changes else "never")
    _, readme, page = made(tmp_path / "wild")
    assert tags(page) == tags(made(tmp_path / "calm")[2])
    links = set(re.findall('(?:href|src)="([^"#]*)"', page))  # without those to parts of the chart
    assert links == {f"./{TRACK}/%3Cb%3E%5Ba%5D%28b%29%7C/"}
    assert "$body<script>alert('x')</script>\" ' & |" in html.unescape(page)
    assert not re.search(r"<(?!!-- -->)|(?<!\\)]\((?!\./track_|index\.html)|@\w|://|www\.|\u202e|^# \*n", readme, re.M)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in readme.splitlines() if line.startswith("|")} == {12, 3}
