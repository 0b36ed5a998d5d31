"""Rules of clocks, bytes, machines and statistics: what passes, what is for people to judge, what is over."""

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.records import check, copied
from tools.record.claim import open_record
from tools.record.runs import differences
from tools.record.schema import load_tracks
from tools.verify.folder import Folder
from tools.verify.track_rules import check_budget, check_size, parse_device

APART, INSIDE, ANY_TIME = "track_cpu_10min_1mb", "track_10min_16mb", "track_non_record_16mb"
STEP_S = 0.6  # and 1,000 steps
BUDGETS = [  # track, seconds of training, of calibration, of the last step, what is found
    (APART, 600.5, 71.0, STEP_S, []),  # over by less than the step that it was in
    (APART, 600.7, 71.0, STEP_S, ["budget.train invalid"]),
    (APART, 605.0, 71.0, 5.5, []),
    (APART, 608.0, 71.0, 9.0, ["budget.train flag"]),  # in a last step of 15 times the average
    (APART, 600.0, 700.0, STEP_S, ["budget.calibration flag"]),
    (INSIDE, 590.0, 9.0, STEP_S, []),
    (INSIDE, 599.6, 4.7, STEP_S, ["budget.calibration flag"]),  # as a merged row was
    (INSIDE, 599.6, 46.0, STEP_S, ["budget.calibration invalid"]),
    (INSIDE, 601.3, 0.0, STEP_S, ["budget.train invalid"]),
    (ANY_TIME, 9000.0, 9000.0, STEP_S, []),
]


def test_clocks_are_held_to_the_track_with_a_step_of_grace(record: Path) -> None:
    seed = open_record(Folder(record)).evidence.seeds[0]
    config = seed.head.header.config | {"quant": {"method": "rate"}}  # which reads training text
    seed = replace(seed, head=replace(seed.head, header=replace(seed.head.header, config=config)))
    for track, train_s, calibration_s, last_s, expected in BUDGETS:
        result = replace(seed.result, steps=1000, train_seconds=train_s, calibration_seconds=calibration_s)
        last = {"step": 1000, "loss": 1.0, "elapsed_s": train_s, "step_s": last_s}
        found = check_budget(replace(seed, result=result, metrics=[last]), load_tracks().named(track))
        assert [f"{finding.rule} {finding.level}" for finding in found] == expected, (track, train_s)


def test_code_and_artifact_are_held_to_the_cap_and_more_files_counted(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    (folder / "weights.bin").write_bytes(bytes(1000))
    opened = open_record(Folder(folder))
    total = opened.claim.bytes_total
    for cap, expected in (
        (total - 1, ["size.cap", "size.measured"]),
        (total, ["size.strict", "size.measured"]),
        (total + 999, ["size.strict", "size.measured"]),
        (total + 1000, ["size.measured"]),
    ):
        found = list(check_size(replace(opened, track=replace(opened.track, cap_bytes=cap))))
        assert [finding.rule for finding in found] == expected
        measured = found[-1].evidence
        assert (measured["bytes_total"], measured["bytes_strict"]) == (total, total + 1000)
        assert 0 < measured["bytes_contest"] < total


def test_a_device_is_read_in_the_words_that_a_run_writes() -> None:
    assert parse_device("8 x cuda (NVIDIA H100 80GB HBM3)") == ("cuda", 8)
    assert parse_device("2 x cpu (4 threads)") == ("cpu", 8)
    for other in (
        "",
        "8 x NVIDIA H100",
        "2 x cpu",
        "x cpu (2 threads)",
        "99999 x cpu (2 threads)",
        "1 x cpu (٢ threads)",
    ):
        assert parse_device(other) == ("", 0), other


def test_claims_differ_in_values_types_and_keys_but_not_in_rounding() -> None:
    claim = {"a": 1.0, "b": {"c": [1, 2.0], "d": True}, "e": None}
    assert not list(differences({"a": 1.0 + 1e-13, "b": {"c": [1, 2.0], "d": True}, "e": None}, claim))
    changed = {"a": 1.0 + 1e-9, "b": {"c": [1, 2.5], "d": 1}, "f": 0}
    assert [key for key, _, _ in differences(changed, claim)] == ["a", "b.c.1", "b.d", "e", "f"]
    assert [key for key, _, _ in differences({"a": 1, "b": {"c": [1], "d": True}, "e": None}, claim)] == ["a", "b.c"]


# -- the lead over a rival ------------------------------------------------------------------------------------------


def rival(record: Path, tmp_path: Path, lead_nats: float, **changed: Any) -> Path:
    """The record again, with an earlier row beside it whose losses are higher by `lead_nats`."""
    folder = copied(record, tmp_path / str(lead_nats))
    claim = json.loads((record / "submission.json").read_text())
    over = claim["evaluation"]
    for result in claim["seed_results"].values():
        result["val_bpb"] += lead_nats * over["val_tokens"] / math.log(2) / over["val_bytes"]
    claim["val_bpb"] = statistics.fmean(result["val_bpb"] for result in claim["seed_results"].values())
    other = folder.parent / "2026-11-01_before"
    other.mkdir()
    claim |= {"name": "before", "date": "2026-11-01", **changed}
    (other / "submission.json").write_text(json.dumps(claim))
    return folder


def lead(folder: Path) -> str:
    (found,) = (finding for finding in check(folder).findings if finding["rule"] == "stats.lead")
    level: str = found["level"]
    return f"{level}: {found['message'].partition(':')[0]}"


def test_a_lead_is_proved_to_be_judged_or_none(record: Path, tmp_path: Path) -> None:
    spread_nats = 1.0  # of three seeds of six steps: far wider than a margin
    for lead_nats, expected in (
        (5 * spread_nats, "note: Proved"),
        (0.004, "flag: Not proved"),  # within the margin
        (-0.01, "note: No step"),  # it does not lead: nobody is accused
    ):
        assert lead(rival(record, tmp_path, lead_nats)) == expected


def test_rows_that_are_no_rivals(record: Path, tmp_path: Path) -> None:
    data = json.loads((record / "submission.json").read_text())["data"]
    folder = rival(record, tmp_path, 0.004, data={**data, "val_text_sha256": "other"})
    assert lead(folder) == "note: First"
    folder = rival(record, tmp_path, 0.003, date="2026-12-01")  # later than the record
    assert lead(folder) == "note: First"
    folder = rival(record, tmp_path, 0.002)
    (folder.parent / "2026-11-01_before" / "submission.json").write_text("{" * 100_000)
    assert lead(folder) == "note: First"


def test_a_row_that_was_found_invalid_need_not_be_led(record: Path, tmp_path: Path) -> None:
    own = json.loads((record / "submission.json").read_text())["name"]
    folder = rival(record, tmp_path, 0.004, name=own)  # a rival is one by its folder, whatever its name
    assert lead(folder) == "flag: Not proved"
    verdict = {"verdict": "invalid", "tier": "fast", "date": "", "record_sha256": "", "findings": [], "measured": {}}
    place = f"{folder.parent.name}/2026-11-01_before"
    (folder.parents[1] / "verdicts.json").write_text(json.dumps({place: verdict}))
    assert lead(folder) == "note: First"
