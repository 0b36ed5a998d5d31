"""Rows -> groups in order: places, and whether each record is a proved step beyond the best before it. Pure.

Scores on different corpora never share a ranking: a group is one track and one validation text, whatever its tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tools.record.claim import leads_over
from tools.record.rows import Row, printable
from tools.record.schema import Submission, Track, Tracks


@dataclass(frozen=True)
class Ranked:
    row: Row
    place: int | None  # 1 is the best; None: no place
    step: str  # against the best before it, or why it has no place
    proved: bool


@dataclass(frozen=True)
class Group:
    track: Track
    corpus: str  # its name and the beginning of its hash
    rows: list[Ranked]


def rank_all(rows: Sequence[Row], tracks: Tracks) -> list[Group]:
    """In the order of the tracks; within one by the name of the corpus."""
    together: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        together.setdefault((row.claim.track, row.claim.data.text), []).append(row)
    groups = [rank(own, tracks.named(track)) for (track, _), own in together.items()]
    order = list(tracks.tracks)
    return sorted(groups, key=lambda group: (order.index(group.track.name), group.corpus))


def rank(rows: Sequence[Row], track: Track) -> Group:
    """One track and one corpus: compared in the order of dates, listed best first, rows without a place last."""
    best: Submission | None = None
    placed, unplaced = [], []
    for row in sorted(rows, key=lambda row: (row.claim.date, row.record)):
        why = why_unplaced(row, track)
        if why:
            unplaced.append(Ranked(row, None, f"No place: {why}.", False))
            continue
        placed.append(Ranked(row, None, *compare(row.claim, best, track)))
        if best is None or row.claim.val_bpb < best.val_bpb:
            best = row.claim
    for ranked in (placed, unplaced):
        ranked.sort(key=lambda each: each.row.claim.val_bpb)  # of equals the earlier comes first
    ordered = [replace(each, place=place) for place, each in enumerate(placed, 1)] + unplaced
    data = rows[0].claim.data
    return Group(track, f"{printable(data.name, 60)} ({printable(data.text, 64)[:12]})", ordered)


def why_unplaced(row: Row, track: Track) -> str:
    """Why a row has no place; "": it has one. An invalid record that was changed has to be verified again first."""
    claim = row.claim
    if row.kept is not None and row.kept.verdict == "invalid":
        return "its newest verdict is invalid"
    if claim.bytes_total > track.cap_bytes:
        return f"{claim.bytes_total:,} bytes are over the cap of {track.cap_bytes:,}"
    if len(claim.seeds) < track.seeds:
        return f"it has {len(claim.seeds)} of the {track.seeds} seeds that the track needs"
    return ""


def compare(ours: Submission, best: Submission | None, track: Track) -> tuple[str, bool]:
    """The step in words, and whether the track's written rule counts it as proved."""
    if best is None:
        return "First: there is no earlier record on this corpus.", False
    rival = f"{printable(best.name, 80)} ({best.val_bpb:.4f})"
    if ours.val_bpb >= best.val_bpb:
        return f"No step: {rival} is earlier and not worse.", False
    found = leads_over(best.seed_bpbs, ours.seed_bpbs, ours.evaluation, track)["verdicts"][0]
    ahead = f"{best.val_bpb - ours.val_bpb:.4f} bits per byte ahead of {rival}"
    if found["reason"]:
        return f"Not proved: {ahead}, but {found['reason']}.", False
    seeds = f"{len(ours.seed_bpbs)} against {len(best.seed_bpbs)}"
    return (
        f"{'Proved' if found['holds'] else 'Not proved'}: {ahead}; p = {found['p']:.2g} for a lead of more than "
        f"{found['margin']:.4f} bits per byte (seeds: {seeds}); the track needs p < {track.p:g}."
    ), found["holds"]
