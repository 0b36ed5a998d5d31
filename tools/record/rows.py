"""The rows of a records folder: the claims that are there, as the leaderboard lists them and as rivals to beat.

    rows, unread = read_rows(Path("records"), load_tracks())

A stranger's folder is read within bounds and no link is followed; one that cannot be read is in `unread`, with its
reason. Whether a claim is true is not checked here: a row carries the verdict that tools.verify kept.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from base.config import Layer, build
from base.errors import BadInput
from base.files import is_inside, read_json_object, read_plain
from tools.record.schema import MANIFEST, SUBMISSION, Submission, Tracks, load_tracks
from tools.verify.files import check_manifest
from tools.verify.folder import Folder
from tools.verify.verdict import Tier, Verdict

VERDICTS = "verdicts.json"  # the newest verdict of each record, by TRACK/FOLDER
NOT_VERIFIED, CHANGED = "not verified", "changed since verified"
JSON_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class KeptVerdict:
    """An entry of verdicts.json, as `tools.verify --keep` writes it."""

    verdict: Verdict
    tier: Tier
    date: str
    record_sha256: str  # of the manifest that was verified
    findings: tuple[dict[str, Any], ...]
    measured: dict[str, Any]


@dataclass(frozen=True)
class Row:
    folder: Path
    claim: Submission
    kept: KeptVerdict | None

    @property
    def record(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def verdict(self) -> str:
        """The kept one, as long as the folder is the one that was verified."""
        if self.kept is None:
            return NOT_VERIFIED
        return CHANGED if self.change else self.kept.verdict

    @cached_property
    def change(self) -> str:
        """How the folder differs from the one that was verified; "" if it does not."""
        if self.kept is None:
            return ""
        try:
            folder = Folder(self.folder)
            if folder.sha256(MANIFEST) != self.kept.record_sha256:
                return f"{MANIFEST} is not the one that was verified"
            return next((finding.message for finding in check_manifest(folder) if finding.level == "invalid"), "")
        except (BadInput, OSError) as trouble:
            return str(trouble)


@dataclass(frozen=True)
class Unread:
    record: str
    reason: str


def read_rows(records: Path, tracks: Tracks) -> tuple[list[Row], list[Unread]]:
    """Every folder of every track, in the order of their names."""
    rows: list[Row] = []
    unread: list[Unread] = []
    try:
        verdicts = read_verdicts(records)
    except BadInput as bad:
        verdicts = {}
        unread.append(Unread(VERDICTS, printable(f"no record counts as verified: {bad}", 300)))
    for folder in sorted(records.glob("*/*")):
        record = f"{folder.parent.name}/{folder.name}"
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        try:
            rows.append(Row(folder, read_record(folder, tracks), verdicts.get(record)))
        except (BadInput, OSError) as trouble:
            unread.append(Unread(printable(record, 200), printable(str(trouble), 300)))
    return rows, unread


def best_rival(claim: Submission, records: Path, own: Path) -> Submission | None:
    """The best earlier row on the same text. A row that cannot be read, or was found invalid, is no rival."""
    rivals = [
        row.claim
        for row in read_rows(records, load_tracks())[0]
        if row.claim.track == claim.track
        and row.claim.date <= claim.date
        and row.claim.data.text == claim.data.text
        and row.folder.resolve() != own
        and not (row.kept and row.kept.verdict == "invalid")
    ]
    return min(rivals, key=lambda rival: rival.val_bpb, default=None)


def printable(text: str, most: int) -> str:
    """One line of a stranger's text: no control, direction or half characters, cut where it is too long."""
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def read_record(folder: Path, tracks: Tracks) -> Submission:
    track = tracks.named(folder.parent.name)
    if folder.is_symlink() or folder.parent.is_symlink():
        raise BadInput("it is in a link, which is not followed")
    if not is_inside(folder.name):
        raise BadInput("its name has characters that cannot be printed")
    claim = read_submission(folder)
    if claim.track != track.name:
        raise BadInput(f"{SUBMISSION}: track is {claim.track:.60}, but the folder is in {track.name}")
    return claim


def read_submission(folder: Path) -> Submission:
    values = read_object(folder / SUBMISSION)
    if (schema := values.get("schema")) != Submission.schema:
        raise BadInput(f"{SUBMISSION}: schema is {schema!r:.60}, not {Submission.schema}")
    claim: Submission = build(Submission, [Layer(SUBMISSION, values)])
    if sorted(map(str, claim.seeds)) != sorted(claim.seed_results):
        raise BadInput(f"{SUBMISSION}: seeds and seed_results do not name the same seeds")
    return claim


def read_verdicts(records: Path) -> dict[str, KeptVerdict]:
    if not (records / VERDICTS).exists():
        return {}
    entries = read_object(records / VERDICTS)
    return {name: build(KeptVerdict, [Layer(f"{VERDICTS}: {name}", entry or {})]) for name, entry in entries.items()}


def read_object(path: Path) -> dict[str, Any]:
    return read_json_object(read_plain(path, JSON_BYTES).decode("utf-8", errors="replace"), path.name)
