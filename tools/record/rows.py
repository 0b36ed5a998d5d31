"""The rows of a records folder: the claims that are there, as the leaderboard lists them and as rivals to beat."""

from pathlib import Path
from typing import Any

from base.config import Layer, build
from base.errors import BadInput
from base.files import read_json_object, read_plain
from tools.record.schema import SUBMISSION, Submission

VERDICTS = "verdicts.json"  # the newest verdict of each record, by TRACK/FOLDER
JSON_BYTES = 4 << 20


def read_submission(folder: Path) -> Submission:
    text = read_plain(folder / SUBMISSION, JSON_BYTES).decode("utf-8", errors="replace")
    submission: Submission = build(Submission, [Layer(SUBMISSION, read_json_object(text, SUBMISSION))])
    return submission


def read_verdicts(records: Path) -> dict[str, Any]:
    if not (records / VERDICTS).exists():
        return {}
    text = read_plain(records / VERDICTS, JSON_BYTES).decode("utf-8", errors="replace")
    return read_json_object(text, VERDICTS)


def best_rival(claim: Submission, records: Path, own: Path) -> Submission | None:
    """The best earlier row on the same data. A row that cannot be read, or was found invalid, is no rival."""
    try:
        verdicts = read_verdicts(records)
    except BadInput:
        verdicts = {}
    rivals = []
    for folder in sorted((records / claim.track).glob("*")):
        verdict = verdicts.get(f"{claim.track}/{folder.name}")
        is_invalid = isinstance(verdict, dict) and verdict.get("verdict") == "invalid"
        if not folder.is_dir() or folder.resolve() == own or is_invalid:
            continue
        try:
            row = read_submission(folder)
        except BadInput:
            continue
        is_same_data = (row.data.val_sha256, row.data.tokenizer_sha256) == (
            claim.data.val_sha256,
            claim.data.tokenizer_sha256,
        )
        if is_same_data and row.date <= claim.date:
            rivals.append(row)
    return min(rivals, key=lambda row: row.val_bpb, default=None)
