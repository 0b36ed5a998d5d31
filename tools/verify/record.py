"""A record as its folder holds it, read once and safely, for rules to look at.

    record = open_record(Path("records/track_cpu_10min_1mb/2026-11-21_name"))
    record.submission, record.track, record.logs[1337].tail, record.path / "model.golf"

What could not be read is None or left out, and has its finding in `troubles`. A rule is a function over a Record that
yields findings; it yields nothing where what it looks at is missing. Evidence of `note` findings whose rule ends in
`.measured` becomes the answer's `measured`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from base.config import Layer, build
from base.errors import BadInput
from tools.record.schema import Data, Submission
from tools.record.tracks import TRACKS, Track, Tracks, load_tracks
from tools.verify.folder import Folder
from tools.verify.log import Log, read_log
from tools.verify.strict import read_json
from tools.verify.verdict import Finding

SUBMISSION, MANIFEST, README, CODE = "submission.json", "manifest.json", "README.md", "train_gpt.py"
ARTIFACT, TOKENIZER, REQUIREMENTS = "model.golf", "tokenizer.model", "requirements.txt"
VERDICTS = "verdicts.json"  # kept beside the records
FIGURES = ("figures/loss.png", "figures/bytes.png", "figures/position.png")
LONGEST_SEED = 18  # digits
MOST_ROWS = 200_000  # of metrics; runs have a few thousand steps

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to check, as the command line says."""

    sample: bool = False  # the second tier on a sample
    rerun: bool = False  # train again, too
    data: Path | None = None  # the prepared dataset; None: prepared from what the record says it is
    margin_nats: float | None = None  # the lead to prove, instead of the track's own
    p: float | None = None
    records: Path = TRACKS.parent  # where the rows to beat lie


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class CodeEntry:
    sources: dict[str, str]  # repository path -> sha256; empty: not known, by one hash alone
    sources_sha256: str = ""  # of all of them; "": a record from before it was said
    packed: bool


@dataclass(frozen=True, kw_only=True)
class RecordManifest:
    schema: Literal["bitgolf-manifest-1"]
    files: dict[str, FileEntry]
    code: CodeEntry
    data: Data
    environment: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Record:
    path: Path  # absolute
    folder: Folder  # the only way to read from it
    tracks: Tracks
    submission: Submission | None = None
    manifest: RecordManifest | None = None
    track: Track | None = None
    logs: Mapping[int, Log] = field(default_factory=dict)  # by seed, as the submission names them
    metrics: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # rows, the same way
    troubles: tuple[Finding, ...] = ()

    def log_of(self, seed: str) -> Log | None:
        """By the seed as the submission spells it."""
        return self.logs.get(int(seed)) if seed.isdecimal() and len(seed) <= LONGEST_SEED else None


def open_record(path: Path) -> Record:
    folder, tracks, troubles = Folder(path), load_tracks(), list[Finding]()

    def attempt(rule: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except BadInput as bad:
            troubles.append(Finding(rule, "invalid", str(bad)))
            return None

    def typed(cls: type[T], name: str) -> T:
        values = read_json(folder.text(name), name)
        if not isinstance(values, dict):
            raise BadInput(f"{name}: holds {type(values).__name__}, not an object")
        try:
            made: T = build(cls, [Layer(name, values)])
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{name}: {error!s:.200}") from None
        return made

    submission = attempt("schema.submission", lambda: typed(Submission, SUBMISSION)) if SUBMISSION in folder else None
    manifest = attempt("schema.manifest", lambda: typed(RecordManifest, MANIFEST)) if MANIFEST in folder else None
    track = attempt("schema.track", lambda: tracks.named(submission.track)) if submission else None
    logs: dict[int, Log] = {}
    metrics: dict[int, list[dict[str, Any]]] = {}
    for key, result in (submission.seed_results if submission else {}).items():
        if not key.isdecimal() or len(key) > LONGEST_SEED or key != str(int(key)):
            trouble = f"{SUBMISSION}: seed_results has {key!r:.40}, which is no seed"
            troubles.append(Finding("schema.submission", "invalid", trouble))
            continue
        log = attempt("log.readable", partial(_log, folder, result.log))
        rows = attempt("log.metrics", partial(_rows, folder, result.metrics))
        logs |= {int(key): log} if log is not None else {}
        metrics |= {int(key): rows} if rows is not None else {}
    return Record(
        path=folder.path, folder=folder, tracks=tracks, submission=submission, manifest=manifest, track=track,
        logs=logs, metrics=metrics, troubles=tuple(troubles),
    )  # fmt: skip


def _log(folder: Folder, name: str) -> Log | None:
    """None where it is missing: the rule of files says so."""
    return read_log(folder.text(name)) if name in folder else None


def _rows(folder: Folder, name: str) -> list[dict[str, Any]] | None:
    if name not in folder:
        return None
    rows, lines = [], folder.text(name).splitlines()
    if len(lines) > MOST_ROWS:
        raise BadInput(f"{name} has {len(lines):,} lines; up to {MOST_ROWS:,} are read")
    for number, line in enumerate(lines, 1):
        row = read_json(line, f"{name}, line {number}")
        if not isinstance(row, dict) or not all(isinstance(value, int | float) for value in row.values()):
            raise BadInput(f"{name}, line {number}: not an object of numbers")
        rows.append(row)
    return rows
