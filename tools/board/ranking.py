"""Rows in order: groups of one corpus, places, the Pareto front, and whether a step forward is proved, in words.

Scores on different corpora never share a ranking: a group is one track and one `data.val_sha256`. A row has no place
where its verdict is `invalid`, where it is over the track's cap, or where it has fewer seeds than a claim needs.
"""

from collections.abc import Sequence
from typing import NamedTuple

from eval.stats import Rule, Seeds, lead, nats_per_bpb, seeds
from tools.board.files import plain
from tools.board.reading import Board, Record
from tools.record.tracks import Track


class Row(NamedTuple):
    record: Record
    place: int | None  # 1 is the best; None: not ranked
    unplaced: str  # why, in words
    step: str  # whether it is a step over the best before it, in words
    proved: bool


class Group(NamedTuple):
    track: Track
    corpus: str
    val_sha256: str
    rows: tuple[Row, ...]


def groups(board: Board) -> list[Group]:
    """In the order of tracks.yaml; within a track the corpus with the most records first."""
    found = []
    for name in board.tracks.tracks:
        track = board.tracks.named(name)
        mine = board.of_track(track)
        split: dict[str, list[Record]] = {}
        for record in mine:
            split.setdefault(record.submission.data.val_sha256, []).append(record)
        made = [_group(track, sha256, records) for sha256, records in split.items()]
        found += sorted(made, key=lambda group: (-len(group.rows), group.corpus, group.val_sha256))
    return found


def _group(track: Track, val_sha256: str, records: Sequence[Record]) -> Group:
    corpus = min(plain(record.submission.data.name, 60) for record in records) or "a corpus without a name"
    reasons = {record.place: unplaced(record, track) for record in records}
    ordered = sorted(records, key=lambda record: (bool(reasons[record.place]), record.bpb, *_age(record)))
    steps = _steps(records, reasons, track)
    rows = []
    for number, record in enumerate(ordered, 1):
        reason = reasons[record.place]
        rows.append(Row(record, None if reason else number, reason, *steps[record.place]))
    return Group(track, corpus, val_sha256, tuple(rows))


def unplaced(record: Record, track: Track) -> str:
    """Why a record has no place; "": it has one."""
    submission = record.submission
    if record.badge.state == "invalid":
        return "its verdict is invalid"
    if submission.bytes_total > track.cap_bytes:
        return f"{submission.bytes_total:,} bytes are over the cap of {track.cap_bytes:,}"
    if len(submission.seeds) < track.seeds:
        have = len(submission.seeds)
        return f"{have} seed{'s' if have > 1 else ''}, and a claim on this track has {track.seeds} or more"
    return ""


def _age(record: Record) -> tuple[str, str]:
    return record.submission.date, record.place


def _steps(records: Sequence[Record], reasons: dict[str, str], track: Track) -> dict[str, tuple[str, bool]]:
    """Each record against the best that was there before it, in the order of dates."""
    best: Record | None = None
    found = {}
    for record in sorted(records, key=_age):
        if reasons[record.place]:
            found[record.place] = f"Not ranked: {reasons[record.place]}.", False
            continue
        found[record.place] = step(record, best, track)
        if best is None or record.bpb < best.bpb:
            best = record
    return found


def step(record: Record, best: Record | None, track: Track) -> tuple[str, bool]:
    if best is None:
        return "The first on this corpus: nothing was there to beat.", False
    rival = f"{plain(best.submission.name)} ({best.bpb:.4f})"
    if record.bpb >= best.bpb:
        return f"No step: {rival} was there before it.", False
    evaluation = record.submission.evaluation
    margin = track.margin_nats / nats_per_bpb(evaluation.val_tokens, evaluation.val_bytes)
    ours, his = _seeds(record), _seeds(best)
    ahead = f"{best.bpb - record.bpb:.4f} bpb ahead of {rival}"
    found = lead(ours, his, Rule("written", margin, track.p))
    if found.reason:
        return f"Not proved: {ahead}, but {found.reason}.", False
    against = "one seed, taken as exact" if his.n < 2 else f"{his.n} seeds"
    rule = f"a lead beyond {track.margin_nats:g} nats a token ({margin:.4f} bpb)"
    test = f"{ours.n} seeds against {against}: p = {found.p:.2g} for {rule}"
    if found.holds:
        return f"Proved: {ahead}. {test}, below the {track.p:g} that the written rule asks for.", True
    more = found.seeds_needed
    way = "no number of seeds up to 1,000 would do" if more is None else f"{more} more seeds like these would do"
    return f"Not proved: {ahead}. {test}; the written rule asks for p < {track.p:g}; {way}.", False


def _seeds(record: Record) -> Seeds:
    return seeds([result.val_bpb for result in record.submission.seed_results.values()])


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other one beats: not worse in both, better in one. Ordered by x; equal points all stay."""
    order = sorted(range(len(points)), key=lambda i: points[i])
    front: list[int] = []
    for i in order:
        if not front or points[i][1] < points[front[-1]][1] or points[i] == points[front[-1]]:
            front.append(i)
    return front
