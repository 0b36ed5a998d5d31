"""Rules of clocks and of statistics: what passes, what is for people to judge, what is over."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from data.tokenizer import SentencePieceTokenizer
from tests.tools.records_fixture import SEEDS, TRACK, copied, edit_json, edit_text, make_record
from tests.tools.records_fixture import resign as signed_again
from tests.tools.test_verify_tampers import checked
from tools.record.tracks import load_tracks
from tools.verify.log import Tail
from tools.verify.logs import _budget
from tools.verify.verdict import Finding

INSIDE, APART = "track_10min_16mb", "track_cpu_10min_1mb"


def tail(train_ms: int, calibration_ms: int, eval_ms: int) -> Tail:
    return Tail(
        steps=1000, train_ms=train_ms, step_avg_ms=train_ms / 1000, pre_quant_loss=3, pre_quant_bpb=1,
        calibration_ms=calibration_ms, artifact_bytes=1, artifact_sha256="", code_bytes=1, total_bytes=2, loss=3, bpb=1,
        eval_ms=eval_ms,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("track", "train_ms", "calibration_ms", "eval_ms", "expected"),
    [
        (APART, 600_500, 71_000, 300_000, []),  # by the step that it was in
        (APART, 600_700, 71_000, 300_000, ["budget.train invalid"]),
        (APART, 600_000, 700_000, 300_000, ["budget.calibration flag"]),
        (APART, 600_000, 1, 600_500, ["budget.eval invalid"]),
        (INSIDE, 590_000, 9_000, 300_000, []),
        (INSIDE, 599_600, 4_700, 300_000, ["budget.calibration flag"]),  # as a merged row was: 599.6 + 4.7 s
        (INSIDE, 599_600, 46_000, 300_000, ["budget.calibration invalid"]),
        (INSIDE, 601_300, 0, 688_000, ["budget.train invalid", "budget.eval invalid"]),
        ("track_non_record_16mb", 9_000_000, 9_000_000, 9_000_000, []),
    ],
)
def test_clocks_are_held_to_the_track_with_a_step_of_grace(
    track: str, train_ms: int, calibration_ms: int, eval_ms: int, expected: list[str]
) -> None:
    found: list[Finding] = list(_budget(1, tail(train_ms, calibration_ms, eval_ms), 0.6, load_tracks().named(track)))
    assert [f"{finding.rule} {finding.level}" for finding in found] == expected


@pytest.fixture(scope="module")
def record(tokenizer: SentencePieceTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_record(tmp_path_factory.mktemp("records") / TRACK / "2026-11-21_tiny", tokenizer)


def rival(record: Path, tmp_path: Path, lead_nats: float, **changed: Any) -> Path:
    """The record again, with an earlier row beside it whose losses are higher by `lead_nats`."""
    folder = copied(record, tmp_path)
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


def lead(folder: Path, *words: str) -> list[str]:
    found = [f for f in checked(folder, *words)["findings"] if f["rule"] == "stats.lead"]
    return [f"{f['level']} {f['evidence'].get('rule', '')}".strip() for f in found]


def test_a_lead_of_twice_the_margin_is_proved_under_both_rules(record: Path, tmp_path: Path) -> None:
    assert lead(rival(record, tmp_path, 0.012)) == ["note written", "note enforced"]


def test_a_lead_within_the_margin_is_for_people_to_judge(record: Path, tmp_path: Path) -> None:
    assert lead(rival(record, tmp_path, 0.004)) == ["flag written", "note enforced"]


def test_the_margin_can_be_another(record: Path, tmp_path: Path) -> None:
    folder = rival(record, tmp_path, 0.004)
    assert lead(folder, "--margin", "0") == ["note written", "note enforced"]
    assert lead(folder, "--margin", "0", "--p", "0.000001") == ["flag written", "note enforced"]


def test_a_row_that_is_not_led_accuses_nobody(record: Path, tmp_path: Path) -> None:
    assert lead(rival(record, tmp_path, -0.01)) == ["note"]


def test_rows_on_other_data_are_no_rivals(record: Path, tmp_path: Path) -> None:
    data = {"name": "x", "source": "x", "sha256": "x", "val_sha256": "other", "tokenizer_sha256": "x"}
    assert lead(rival(record, tmp_path, 0.004, data=data)) == ["note"]


def test_a_row_that_cannot_be_read_is_no_rival(record: Path, tmp_path: Path) -> None:
    folder = rival(record, tmp_path, 0.004)
    (folder.parent / "2026-11-01_before" / "submission.json").write_text("{" * 100_000)
    assert lead(folder) == ["note"]


def test_a_rival_is_one_by_its_folder_whatever_its_name(record: Path, tmp_path: Path) -> None:
    own = json.loads((record / "submission.json").read_text())["name"]
    assert lead(rival(record, tmp_path, 0.004, name=own)) == ["flag written", "note enforced"]


def test_a_row_that_was_found_invalid_need_not_be_led(record: Path, tmp_path: Path) -> None:
    folder = rival(record, tmp_path, 0.004)
    place = f"{folder.parent.name}/2026-11-01_before"
    (folder.parents[1] / "verdicts.json").write_text(json.dumps({place: {"verdict": "invalid"}}))
    assert lead(folder) == ["note"]


def test_a_rival_of_equal_seeds_is_tested_by_our_spread(record: Path, tmp_path: Path) -> None:
    folder = rival(record, tmp_path, 0.012)
    path = folder.parent / "2026-11-01_before" / "submission.json"
    claim = json.loads(path.read_text())
    for result in claim["seed_results"].values():
        result["val_bpb"] = claim["val_bpb"]
    path.write_text(json.dumps(claim))
    assert lead(folder) == ["note written", "note enforced"]


def test_what_a_resumed_run_writes_is_no_fault(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    name = f"train_seed{SEEDS[0]}.log"
    edit_text(
        folder / name, "step 20 val", "step 19 val_bpb:2.0000 (then it was killed)\ngoing on at step 12\nstep 20 val"
    )
    signed_again(folder)
    answer = checked(folder)
    assert answer["verdict"] == "valid", answer["findings"]
    assert "log.resumed" in {finding["rule"] for finding in answer["findings"]}


def test_rounded_numbers_are_no_lies(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    for key in ("val_bpb", "val_bpb_std", "val_loss", "val_loss_std"):
        edit_json(folder / "submission.json", lambda claim, key=key: claim.update({key: round(claim[key], 8)}))
    signed_again(folder)
    assert checked(folder)["verdict"] == "valid"
