"""tools/record: the published schema is the code's own, and the worst finding decides."""

import json
from pathlib import Path

import pytest

from base.errors import BadInput
from tools.record.schema import schema
from tools.record.tracks import load_tracks
from tools.verify.verdict import Finding, Level, verdict

ROOT = Path(__file__).parents[2]


def test_the_published_schema_is_the_one_of_the_code() -> None:
    assert json.loads((ROOT / "records" / "schema.json").read_text()) == schema()


def test_every_track_is_named_after_its_rules() -> None:
    tracks = load_tracks()
    assert tracks.named("track_10min_16mb").cap_bytes == 16_000_000
    assert tracks.named("track_cpu_10min_1mb").cap_bytes == 1_000_000
    assert {"track_non_record_16mb", "track_h200_10min_16mb"} < set(tracks.tracks)


def test_an_unknown_track_is_refused_with_those_that_exist() -> None:
    with pytest.raises(BadInput, match="no track is called x; there are track_10min_16mb"):
        load_tracks().named("x")


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([], "valid"),
        (["note"], "valid"),
        (["note", "flag"], "flagged"),
        (["flag", "unverified"], "unverified"),
        (["unverified", "invalid", "flag"], "invalid"),
    ],
)
def test_the_worst_finding_decides(levels: list[Level], expected: str) -> None:
    assert verdict([Finding("a.b", level, "said") for level in levels]) == expected
