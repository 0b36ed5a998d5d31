"""README.md: the tables of the page for a reader of the repository; nothing in a name becomes markup."""

from collections.abc import Sequence

from tools.board.markup import link
from tools.board.ranking import Group, Row
from tools.board.reading import Board
from tools.board.words import (
    MEANINGS,
    STATES,
    author,
    badge_detail,
    bits,
    corpus,
    count,
    day,
    name,
    percent,
    place,
    rules,
    seconds,
    spread,
    weights,
)

HEAD = """# Records

Made by `python -m tools.leaderboard` from the folders here; do not edit. [index.html](index.html) has the same rows
with charts and a panel per record: open it in a browser, no server is needed. Scores are bits a byte of the validation
text, lower is better; scores on different corpora are listed apart. A verdict is that of `python -m tools.verify`.
"""
SPECIAL = {ord(c): f"\\{c}" for c in "\\`*_[]|~#!"} | {
    ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("@"): "&#64;", ord("$"): "&#36;",
}  # fmt: skip


def escaped(text: str) -> str:
    """Text that GitHub's Markdown shows as it is: no link, no mention, no table cell, no HTML."""
    return text.translate(SPECIAL).replace("://", "&#58;//").replace("www.", "www&#46;").replace("WWW.", "WWW&#46;")


def markdown(board: Board, found: Sequence[Group]) -> str:
    parts = [HEAD]
    if not found:
        parts.append("There is no record yet.\n")
    for group in found:
        parts.append(f"## {escaped(group.track.title)}: {escaped(group.corpus)}\n")
        parts.append(f"Validation text `{_code(corpus(group).split(' · ')[-1])}`. {escaped(rules(group))}.\n")
        parts.append("\n".join(_table(group)) + "\n")
        steps = [f"* {_linked(row)}: {escaped(row.step)}" for row in group.rows]
        parts.append("\n".join(["Steps forward, each against the best before it:\n", *steps]) + "\n")
    if board.broken:
        lines = [f"* {escaped(each.place)}: {escaped(each.reason)}" for each in board.broken]
        parts.append("\n".join(["## Could not be read\n", *lines]) + "\n")
    meanings = [f"* {STATES[state]}: {MEANINGS[state]}" for state in STATES]
    parts.append("\n".join(["## What a verdict means\n", *meanings]) + "\n")
    return "\n".join(parts)


def _table(group: Group) -> list[str]:
    heads = ("#", "Record", "Author", "Date", "Bits a byte", "Seeds", "Bytes (code + artifact)", "Of the cap",
             "Training", "Evaluation", "Params", "Verdict")  # fmt: skip
    right = {0, 4, 5, 6, 7, 8, 9, 10}
    lines = [
        f"| {' | '.join(heads)} |",
        f"|{'|'.join('---:' if i in right else '---' for i in range(len(heads)))}|",
    ]
    for row in group.rows:
        record, submission = row.record, row.record.submission
        detail = badge_detail(record.badge)
        cells = (
            place(row),
            _linked(row),
            escaped(author(record)),
            day(record),
            f"{bits(record.bpb)} {spread(record)}".strip(),
            count(len(submission.seeds)),
            f"{count(submission.bytes_total)} ({count(submission.bytes_code)} + {count(submission.bytes_model)})",
            percent(submission.bytes_total / group.track.cap_bytes),
            seconds(record.train_seconds),
            seconds(record.eval_seconds),
            weights(submission.params),
            STATES[record.badge.state] + (f" ({escaped(detail)})" if detail else ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _linked(row: Row) -> str:
    return f"[{escaped(name(row.record))}]({link(row.record.place)})"


def _code(text: str) -> str:
    return text.replace("`", "'").replace("|", "/")
