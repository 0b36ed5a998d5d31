"""Numbers and states as a reader sees them; one spelling for the page and for README.md."""

from tools.board.files import plain
from tools.board.ranking import Group, Row
from tools.board.reading import Badge, Record

STATES = {
    "valid": "valid",
    "flagged": "flagged",
    "unverified": "unverified",
    "invalid": "invalid",
    "changed": "changed since verified",
    "none": "not verified",
}
MEANINGS = {
    "valid": "every check that was made holds",
    "flagged": "every number holds; people have to say whether a policy allows it",
    "unverified": "something that a check needs is not there",
    "invalid": "a counter-example is at hand; the row has no place",
    "changed": "the folder is not the one that was verified",
    "none": "nobody has run tools.verify on it",
}


def count(value: int) -> str:
    return f"{value:,}"


def size(value: int) -> str:
    """A size for axes and small print; the exact count stands beside it."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}" if value < 1000 * scale else f"{value / scale:,.0f} {unit}"
    return f"{value} B"


def weights(value: int) -> str:
    for unit, scale in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}" if value < 1000 * scale else f"{value / scale:,.0f} {unit}"
    return str(value)


def seconds(value: float) -> str:
    return f"{value:,.1f} s" if value < 100 else f"{value:,.0f} s"


def bits(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if 1e-3 <= value < 1e6 else f"{value:.3g}"


def spread(record: Record) -> str:
    std = record.submission.val_bpb_std
    return "" if std is None else f"± {bits(std) if std >= 1e-4 or std < 0 else f'{std:.1g}'}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 100 else f"{100 * share:,.0f} %"


def day(record: Record) -> str:
    return record.submission.date[:10]


def name(record: Record) -> str:
    return plain(record.submission.name, 80)


def author(record: Record) -> str:
    return plain(record.submission.author, 60) or "no author"


def badge_detail(badge: Badge) -> str:
    """Which tier said it and when."""
    return ", ".join(part for part in (badge.tier, badge.day) if part)


def place(row: Row) -> str:
    return "–" if row.place is None else str(row.place)


def corpus(group: Group) -> str:
    return f"{group.corpus} · {plain(group.val_sha256, 60)[:12]}"


def rules(group: Group) -> str:
    """The track's rules in one sentence."""
    track = group.track
    limits = [f"{track.cap_bytes:,} bytes of code and artifact"]
    if track.train_seconds:
        inside = ", calibration inside" if track.calibration == "inside" else ""
        limits.append(f"{track.train_seconds:g} s of training{inside}")
    if track.eval_seconds:
        limits.append(f"{track.eval_seconds:g} s of evaluation")
    limits.append(f"hardware: {track.hardware}")
    if track.ranked:
        limits.append(f"{track.seeds} seeds or more")
    return "; ".join(limits)
