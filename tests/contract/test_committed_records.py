"""The committed records: each is what was verified, passes the first tier today, and stands on the leaderboard."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.records import check
from tools.leaderboard import act, parser

RECORDS = Path(__file__).parents[2] / "records"
FOLDERS = sorted(path.parent for path in RECORDS.glob("track_*/*/submission.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_committed_record_passes_the_first_tier(folder: Path) -> None:
    answer = check(folder)
    assert answer.verdict == "valid", answer.findings


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_committed_record_was_scored_whole_as_it_stands(folder: Path) -> None:
    kept = json.loads((RECORDS / "verdicts.json").read_text())[f"{folder.parent.name}/{folder.name}"]
    manifest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert (kept["verdict"], kept["tier"], kept["record_sha256"]) == ("valid", "whole", manifest)


def test_the_leaderboard_is_that_of_the_committed_records(tmp_path: Path) -> None:
    copy = tmp_path / "records"
    shutil.copytree(RECORDS, copy)
    act(parser().parse_args([str(copy)]))
    for name in ("README.md", "index.html"):
        assert (copy / name).read_bytes() == (RECORDS / name).read_bytes(), f"{name}: run python -m tools.leaderboard"
