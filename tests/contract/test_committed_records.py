"""The committed records: each passes the first tier, was scored completely as it is, and is on the leaderboard."""

import shutil
from pathlib import Path

import pytest

from base.files import file_sha256
from tests.records import check
from tools.leaderboard import act, parser
from tools.record.rows import read_verdicts

RECORDS = Path(__file__).parents[2] / "records"
FOLDERS = sorted(path.parent for path in RECORDS.glob("track_*/*/submission.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_committed_record_passes_the_first_tier_and_was_scored_completely_as_it_is(folder: Path) -> None:
    answer = check(folder)
    assert answer.verdict == "valid", answer.findings
    kept = read_verdicts(RECORDS)[f"{folder.parent.name}/{folder.name}"]
    assert (kept.verdict, kept.tier, kept.record_sha256) == ("valid", "whole", file_sha256(folder / "manifest.json"))


def test_the_leaderboard_is_that_of_the_committed_records(tmp_path: Path) -> None:
    copy = tmp_path / "records"
    shutil.copytree(RECORDS, copy)
    act(parser().parse_args([str(copy)]))
    assert (copy / "README.md").read_bytes() == (RECORDS / "README.md").read_bytes(), "run python -m tools.leaderboard"
