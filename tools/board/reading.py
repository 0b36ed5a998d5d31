"""A folder of records -> typed rows; what cannot be read is listed with its reason and stops nothing.

Read are submission.json, manifest.json, figures/*.png, metrics_seed*.jsonl, verdicts.json and tracks.yaml. A badge
holds only while the manifest is the one that was verified, and what is read here is what the manifest names.
"""

import hashlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from base.config import Layer, build
from base.errors import BadInput
from base.files import read_plain
from tools.board.curves import Curve, parse_metrics
from tools.board.files import JSON_BYTES, inside, parse_object, plain, require_sane
from tools.record.schema import Submission
from tools.record.tracks import TRACKS, Track, Tracks, load_tracks
from tools.verify.verdict import Finding, Level, Verdict

SUBMISSION, MANIFEST, VERDICTS = "submission.json", "manifest.json", "verdicts.json"
FIGURES = ("figures/loss.png", "figures/bytes.png", "figures/position.png")
FIGURE_BYTES, METRICS_BYTES, HASHED_BYTES = 4_000_000, 32_000_000, 256 << 20
PNG = b"\x89PNG\r\n\x1a\n"
TIERS = {"fast": "files and numbers", "sample": "score on a sample", "whole": "whole score"}

State = Literal["valid", "flagged", "unverified", "invalid", "changed", "none"]


@dataclass(frozen=True)
class Badge:
    state: State
    tier: str = ""  # in words
    day: str = ""
    verdict: str = ""  # what was said, where the folder has changed since
    findings: tuple[Finding, ...] = ()
    reason: str = ""


class File(NamedTuple):
    name: str
    size_bytes: int | None  # None: named in the manifest, not to be found
    sha256: str  # as the manifest says


@dataclass(frozen=True)
class Record:
    place: str  # TRACK/FOLDER
    submission: Submission
    badge: Badge
    files: tuple[File, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    figures: dict[str, bytes] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # file -> why it is not shown
    curve: Curve | None = None

    @property
    def bpb(self) -> float:
        return self.submission.val_bpb

    @property
    def train_seconds(self) -> float:
        return max(result.train_seconds for result in self.submission.seed_results.values())

    @property
    def calibration_seconds(self) -> float:
        return max(result.calibration_seconds for result in self.submission.seed_results.values())

    @property
    def eval_seconds(self) -> float:
        return max(result.eval_seconds for result in self.submission.seed_results.values())


class Broken(NamedTuple):
    place: str
    reason: str


@dataclass(frozen=True)
class Board:
    tracks: Tracks
    records: tuple[Record, ...]
    broken: tuple[Broken, ...]

    def of_track(self, track: Track) -> list[Record]:
        return [record for record in self.records if record.submission.track == track.name]


def read_board(root: Path) -> Board:
    """All of a records folder, in the order of its names."""
    if not root.is_dir():
        raise BadInput(f"{root}: no such folder; name the one that holds TRACK/FOLDER/{SUBMISSION}")
    own = root / "tracks.yaml"
    tracks = load_tracks(own if own.is_file() else TRACKS)
    records: list[Record] = []
    broken: list[Broken] = []
    verdicts: dict[str, Any] = {}
    if (root / VERDICTS).exists():
        try:
            verdicts = parse_object(read_plain(root / VERDICTS, 2 * JSON_BYTES), VERDICTS)
        except BadInput as bad:
            broken.append(Broken(VERDICTS, f"{bad}; no record counts as verified"))
    for home in _folders(root):
        if home.name not in tracks.tracks:
            broken.append(Broken(plain(home.name), f"no track is called so; there are {', '.join(tracks.tracks)}"))
            continue
        for folder in _folders(home):
            place = f"{home.name}/{folder.name}"
            try:
                records.append(_read(folder, place, verdicts.get(place)))
            except BadInput as bad:
                broken.append(Broken(plain(place), plain(bad, 500)))
    return Board(tracks, tuple(records), tuple(broken))


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read(folder: Path, place: str, said: Any) -> Record:
    if folder.is_symlink() or folder.parent.is_symlink():
        raise BadInput("the folder is a link, and links are not followed")
    if not inside(folder.name):
        raise BadInput("the folder's name does not fit into a link; use letters, digits, `-`, `_` and `.`")
    contents = {SUBMISSION: read_plain(folder / SUBMISSION, JSON_BYTES)}
    submission = _submission(contents[SUBMISSION], folder)
    manifest_file = read_plain(folder / MANIFEST, JSON_BYTES)
    manifest = parse_object(manifest_file, MANIFEST)
    missing: dict[str, str] = {}
    first = submission.seed_results[str(submission.seeds[0])]
    for name in (*FIGURES, first.metrics):
        try:
            contents[name] = _part(folder, name)
        except BadInput as bad:
            missing[name] = plain(bad)
    curve = None
    if first.metrics in contents:
        try:
            curve = parse_metrics(contents[first.metrics], first.metrics)
        except BadInput as bad:
            missing[first.metrics] = plain(bad)
    files = _files(folder, manifest)
    return Record(
        place=place,
        submission=submission,
        badge=_badge(said, hashlib.sha256(manifest_file).hexdigest(), _changed(folder, files, contents, missing)),
        files=files,
        environment=_words(manifest.get("environment")),
        figures={name: contents[name] for name in FIGURES if name in contents},
        missing=missing,
        curve=curve,
    )


def _submission(data: bytes, folder: Path) -> Submission:
    values = parse_object(data, SUBMISSION)
    require_sane(values, apart=("seeds", "notes"))
    try:
        submission: Submission = build(Submission, [Layer(SUBMISSION, values)])
    except BadInput as bad:  # of a key that is not there, a config would have taken its default
        raise BadInput(f"{SUBMISSION}: {str(bad).removeprefix('defaults: ').removeprefix(f'{SUBMISSION}: ')}") from None
    if submission.track != folder.parent.name:
        raise BadInput(f"{SUBMISSION} says {submission.track}, and the folder lies in {folder.parent.name}")
    try:
        date.fromisoformat(submission.date[:10])
    except ValueError:
        raise BadInput(f"{SUBMISSION}: date {submission.date!r:.40} does not begin with YYYY-MM-DD") from None
    if sorted(map(str, submission.seeds)) != sorted(submission.seed_results):
        raise BadInput(f"{SUBMISSION}: seeds and seed_results do not name the same seeds")
    if not plain(submission.name):
        raise BadInput(f"{SUBMISSION}: its name holds nothing that can be shown")
    return submission


def _part(folder: Path, name: str) -> bytes:
    """A file of the folder, none of whose own folders is a link."""
    if not inside(name):
        raise BadInput(f"{name!r:.60} is no name of a file in the folder")
    if any(parent.is_symlink() for parent in (folder / name).parents[: name.count("/")]):
        raise BadInput(f"{name} lies in a link, and links are not followed")
    if name not in FIGURES:
        return read_plain(folder / name, METRICS_BYTES)
    content = read_plain(folder / name, FIGURE_BYTES)
    if not content.startswith(PNG):
        raise BadInput(f"{name} is no PNG picture")
    return content


def _files(folder: Path, manifest: dict[str, Any]) -> tuple[File, ...]:
    """What the manifest names, as far as it lies in the folder; the manifest itself first."""
    named = manifest.get("files")
    if not isinstance(named, dict):
        raise BadInput(f"{MANIFEST}: files is no object of names")
    found = [File(MANIFEST, (folder / MANIFEST).lstat().st_size, "")]
    for name, entry in sorted(named.items()):
        sha256 = entry.get("sha256") if isinstance(entry, dict) else None
        found.append(File(name, _size(folder, name), plain(sha256 or "")))
    return tuple(found)


def _size(folder: Path, name: str) -> int | None:
    if not inside(name) or any(parent.is_symlink() for parent in (folder / name).parents[: name.count("/")]):
        return None
    try:
        status = (folder / name).lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _changed(folder: Path, files: Sequence[File], contents: dict[str, bytes], missing: dict[str, str]) -> str:
    """Why the folder is not what its manifest says; "": it is."""
    hashes = {file.name: file.sha256 for file in files}
    there = [file.name for file in files if file.size_bytes is not None and file.name not in {MANIFEST, *missing}]
    for name in dict.fromkeys([*contents, *there]):
        content = contents[name] if name in contents else read_plain(folder / name, HASHED_BYTES)
        if hashes.get(name) != hashlib.sha256(content).hexdigest():
            return f"{plain(name)} is not the file that the manifest names"
    gone = [file.name for file in files if file.size_bytes is None] + [name for name in missing if name in hashes]
    return f"{plain(gone[0])} is in the manifest and not, or not readable, in the folder" if gone else ""


def _badge(said: Any, record_sha256: str, changed: str) -> Badge:
    if said is None:
        return Badge("none")
    try:
        word, tier, day, judged = (said[key] for key in ("verdict", "tier", "date", "record_sha256"))
        findings = tuple(_finding(each) for each in said["findings"])
        if word not in get_args(Verdict) or tier not in TIERS:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        return Badge("none", reason=f"{VERDICTS} has an entry that cannot be read; verify the folder again")
    known = (TIERS[tier], plain(day)[:10])
    if judged != record_sha256:
        return Badge("changed", *known, word, findings, f"{MANIFEST} is not the one that was verified")
    if changed:
        return Badge("changed", *known, word, findings, changed)
    return Badge(word, *known, word, findings)


def _finding(said: Any) -> Finding:
    if said["level"] not in get_args(Level):
        raise ValueError
    evidence = said.get("evidence", {})
    return Finding(
        str(said["rule"]), said["level"], str(said["message"]), evidence if isinstance(evidence, dict) else {}
    )


def _words(values: Any) -> dict[str, str]:
    return {plain(key, 40): plain(value) for key, value in values.items()} if isinstance(values, dict) else {}
