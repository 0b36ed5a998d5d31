"""index.html: one file, no request to anywhere, readable without JavaScript.

The style sheet and the script stand in the page, and a content policy names their hashes: nothing else may run, load
or be sent, whatever a record's text holds.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from tools.board.charts import COLOURS, losses, scatter
from tools.board.markup import Html, fragment, join, tag
from tools.board.panel import panel
from tools.board.ranking import Group
from tools.board.reading import FIGURES, Board
from tools.board.table import board_table
from tools.board.words import MEANINGS, STATES, corpus, name, place, rules

HERE = Path(__file__).parent
FIGURE_BYTES = 250_000  # a figure above it is linked
FIGURES_BYTES = 12_000_000  # of a whole page, the best rows first


def page(board: Board, found: Sequence[Group]) -> str:
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    parts = {
        "policy": f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "summary": _summary(board, found),
        "contents": _contents(board, found),
        "groups": join(*(_group(group) for group in found)) or tag("p", "There is no record yet.", class_="lead"),
        "broken": _broken(board),
        "legend": _legend(),
        "panels": _panels(found),
    }
    template = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda slot: parts[slot[1]], template)  # in one pass: no text is a slot


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _summary(board: Board, found: Sequence[Group]) -> Html:
    records, tracks = len(board.records), len({group.track.name for group in found})
    states = [record.badge.state for record in board.records]
    verified = sum(state in ("valid", "flagged") for state in states)
    words = f"{records} record{'s' * (records != 1)} on {tracks} track{'s' * (tracks != 1)}, {verified} verified."
    return tag("p", words, class_="lead")


def _contents(board: Board, found: Sequence[Group]) -> Html:
    items = [tag("li", tag("a", group.track.title, " · ", group.corpus, href=f"#{_anchor(group)}")) for group in found]
    if board.broken:
        items.append(tag("li", tag("a", "Could not be read", href="#unread")))
    return tag("nav", tag("ul", *items), aria_label="Tracks") if len(items) > 1 else Html("")


def _anchor(group: Group) -> str:
    digest = hashlib.sha256(group.val_sha256.encode()).hexdigest()
    return f"group-{fragment(group.track.name)}-{digest[:8]}"


def _group(group: Group) -> Html:
    anchor = _anchor(group)
    head = [
        tag("h2", group.track.title, id=f"title-{anchor}"),
        tag("p", "Corpus ", tag("strong", corpus(group)), ". ", rules(group), ".", class_="rules"),
    ]
    if not group.track.ranked:
        head.append(tag("p", "Any time and any machine: the order is one of scores, not a ranking.", class_="small"))
    several = len(group.rows) > 1  # one point is no chart
    drawn = (
        scatter(group.rows, group.track.cap_bytes) if several else None,
        scatter(group.rows, None) if several else None,
        losses(group.rows),
    )
    titles = ("Bits a byte against bytes", "Bits a byte against training time", "Training loss over time")
    notes = (
        "Lower left is better; the line is the Pareto front. The numbers are those of the table.",
        "The longest seed of each record.",
        "The first seed of each record, smoothed; nats a token compare only where the tokenizer is the same.",
    )
    charts = [
        tag("figure", tag("figcaption", tag("strong", title), " ", note), chart, _key(group) if at == 2 else "")
        for at, (title, note, chart) in enumerate(zip(titles, notes, drawn, strict=True))
        if chart is not None
    ]
    return tag("section", *head, board_table(group), tag("div", *charts, class_="charts"), id=anchor, class_="group",
               aria_labelledby=f"title-{anchor}")  # fmt: skip


def _key(group: Group) -> Html:
    """Whose line has which colour; in the order in which charts.losses draws them."""
    rows = [row for row in group.rows if row.record.curve is not None][:COLOURS]
    items = [
        tag("li", tag("span", class_=f"swatch c{at}"), f" {place(row)} {name(row.record)}")
        for at, row in enumerate(rows)
    ]
    return tag("ul", *items, class_="key")


def _panels(found: Sequence[Group]) -> Html:
    left, made = FIGURES_BYTES, []
    for group in found:
        for row in group.rows:
            held = set()
            for path in FIGURES:
                taken = len(row.record.figures.get(path, b""))
                if 0 < taken <= min(FIGURE_BYTES, left):
                    held.add(path)
                    left -= taken
            made.append(panel(row, group, frozenset(held)))
    return join(*made)


def _broken(board: Board) -> Html:
    if not board.broken:
        return Html("")
    items = [tag("li", tag("code", each.place), " ", each.reason) for each in board.broken]
    return tag("section", tag("h2", "Could not be read"), tag("ul", *items, class_="broken"), id="unread")


def _legend() -> Html:
    items = [tag("li", tag("span", STATES[state], class_=f"badge {state}"), f" {MEANINGS[state]}") for state in STATES]
    return tag("ul", *items, class_="legend")
