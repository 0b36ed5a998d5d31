"""The leaderboard: a folder of records -> README.md (tables) and index.html (the same rows, with a chart) in it.

    python -m tools.leaderboard                   (records/)
    python -m tools.leaderboard runs/demo/records

It shows what tools.record and tools.verify wrote and checks no score itself. The same records give the same bytes.
Text from a record never becomes markup, and index.html needs no server and loads nothing.
"""

import argparse
import html
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from urllib.parse import quote

import numpy as np
from matplotlib.ticker import MaxNLocator

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput
from base.files import atomic_file
from tools.record.ranking import Group, Ranked, rank_all
from tools.record.rows import Row, Unread, printable, read_rows
from tools.record.schema import Track, load_tracks

README, PAGE, TEMPLATE = "README.md", "index.html", Path(__file__).with_suffix(".html")
COLUMNS = ("#", "Record", "Author", "Date", "Verdict", "Bits per byte", "Seeds", "Bytes (code + artifact)",
           "Training", "Scoring", "Parameters")  # fmt: skip
RECORD, VERDICT, NUMBERS = 1, 4, 5  # columns: the one with a link, the one with a badge, the first of numbers
LEFT, RIGHT, TOP, BOTTOM = 80, 680, 30, 300  # of the chart's area
NO_RECORD = "There is no ranked record yet."
UNREAD = ("Folder", "Why it is not ranked")
TIERS = {"fast": "files and numbers", "sample": "a sample scored again", "whole": "the complete score"}
HEAD = f"""# Records

Made by `python -m tools.leaderboard` from the folders here; do not edit. [{PAGE}]({PAGE}) has the same rows and a
chart. Scores are bits per byte of the validation text, lower is better; scores on different corpora are listed apart.
A verdict is that of `python -m tools.verify`; docs/verify.md explains it."""


def describe_rules(track: Track) -> str:
    limits = [f"{track.cap_bytes:,} bytes of code and artifact"]
    if track.train_seconds:
        packing = ", packing included" if track.calibration == "inside" else ""
        limits.append(f"{track.train_seconds:g} s of training{packing}")
    if track.eval_seconds:
        limits.append(f"{track.eval_seconds:g} s of scoring")
    return "; ".join([*limits, f"hardware: {track.hardware}", f"seeds: {track.seeds} or more"]) + "."


def describe_verdict(row: Row) -> str:
    if row.kept is None:
        return row.verdict
    change = f"; was {row.kept.verdict}: {row.change}" if row.change else ""
    return f"{row.verdict} ({TIERS[row.kept.tier]}, {printable(row.kept.date, 10)}{printable(change, 140)})"


def cells(ranked: Ranked) -> list[str]:
    """In the order of COLUMNS, not escaped."""
    claim = ranked.row.claim
    results = claim.seed_results.values()
    spread = "" if claim.val_bpb_std is None else f" ± {claim.val_bpb_std:.4f}"
    return [
        "–" if ranked.place is None else str(ranked.place),
        printable(claim.name, 80) or "(no name)",
        printable(claim.author, 60),
        claim.date,
        describe_verdict(ranked.row),
        f"{claim.val_bpb:.4f}{spread}",
        str(len(claim.seeds)),
        f"{claim.bytes_total:,} ({claim.bytes_code:,} + {claim.bytes_model:,})",
        f"{max(result.train_seconds for result in results):,.1f} s",
        f"{max(result.eval_seconds for result in results):,.1f} s",
        f"{claim.params:,}",
    ]


def render_rows(group: Group, escape: Callable[[str], str], link: str) -> tuple[list[list[str]], list[str]]:
    """The table's rows and the steps in one markup; a record's name is a link to its folder."""
    rows = []
    steps = []
    for ranked in group.rows:
        row = [escape(cell) for cell in cells(ranked)]
        row[RECORD] = link.format(row[RECORD], f"./{quote(ranked.row.record)}/")
        rows.append(row)
        steps.append(f"{row[RECORD]}: {escape(ranked.step)}")
    return rows, steps


# -- README.md ------------------------------------------------------------------------------------------------------

SPECIAL = {ord(c): f"\\{c}" for c in "\\`*_[]|~#!"} | {ord(c): f"&#{ord(c)};" for c in "&<>$"}
ADDRESS = re.compile("(?i)@|:(?=//)|www(?=[.])")  # where Markdown begins to see one; no comment is part of it


def markdown(text: str) -> str:
    """Text that Markdown shows as it is: no link, no mention, no table cell, no HTML."""
    return ADDRESS.sub(r"\g<0><!-- -->", text.translate(SPECIAL))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int) -> str:
    marks = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *rows))


def render_readme(groups: Sequence[Group], unread: Sequence[Unread]) -> str:
    parts = [HEAD] if groups else [HEAD, NO_RECORD]
    for group in groups:
        rows, steps = render_rows(group, markdown, "[{0}]({1})")
        parts.append(f"## {group.track.title}: {markdown(group.corpus)}\n\n{describe_rules(group.track)}")
        parts.append(markdown_table(COLUMNS, rows, NUMBERS))
        parts.append("Each record against the best before it:\n\n* " + "\n* ".join(steps))
    if unread:
        found = [(markdown(each.record), markdown(each.reason)) for each in unread]
        parts.append(f"## Not ranked\n\n{markdown_table(UNREAD, found, 2)}")
    return "\n\n".join(parts) + "\n"


# -- index.html -----------------------------------------------------------------------------------------------------


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers."""
    found = MaxNLocator(5).tick_values(low, high)
    return [float(value) for value in found if low <= value <= high]


def draw_chart(group: Group) -> str:
    """Bits per byte against bytes: a numbered point per place, and the Pareto front as a line."""
    points = [(each.row.claim.bytes_total, each.row.claim.val_bpb) for each in group.rows if each.place is not None]
    if not points:
        return ""
    sizes, scores = zip(*points, strict=True)
    cap = group.track.cap_bytes
    smallest = min(0.98 * cap, *sizes)
    sizes_shown = (smallest - 0.1 * (cap - smallest), cap)
    room = 0.1 * (max(scores) - min(scores)) + 0.005 * max(scores)
    scores_shown = (min(scores) - room, max(scores) + room)

    def across(size: float) -> float:
        return round(float(np.interp(size, sizes_shown, (LEFT, RIGHT))), 1)

    def up(bpb: float) -> float:
        return round(float(np.interp(bpb, scores_shown, (BOTTOM, TOP))), 1)

    drawn = [
        f'<text x="{LEFT}" y="{TOP - 12}">bits per byte</text>',
        f'<text class="up" x="{RIGHT}" y="{BOTTOM + 42}">bytes, up to the cap of {cap:,}</text>',
    ]
    for bpb in ticks(*scores_shown):
        drawn.append(f'<path class="grid" d="M{LEFT} {up(bpb)}H{RIGHT}"/>')
        drawn.append(f'<text class="up" x="{LEFT - 8}" y="{up(bpb)}">{bpb:,.10g}</text>')
    for size in ticks(*sizes_shown):
        drawn.append(f'<path class="grid" d="M{across(size)} {BOTTOM}v6"/>')
        drawn.append(f'<text x="{across(size)}" y="{BOTTOM + 18}">{size:,.10g}</text>')
    front = sorted(p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points))
    corners = "".join(f"H{across(size)}V{up(bpb)}" for size, bpb in front)
    drawn.append(f'<path class="front" d="M{across(front[0][0])} {TOP}{corners}H{RIGHT}"/>')
    for place in range(len(points), 0, -1):  # the best comes last, on top
        x, y = across(points[place - 1][0]), up(points[place - 1][1])
        drawn.append(f'<circle cx="{x}" cy="{y}" r="11"/><text class="place" x="{x}" y="{y}">{place}</text>')
    lines = "\n".join(drawn)
    return f'<svg viewBox="0 0 720 360" role="img" aria-label="Bits per byte against bytes">\n{lines}\n</svg>\n'


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"<tr><th>{'</th><th>'.join(head)}</th></tr>"]
    lines += [f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows]
    return "<div><table>\n" + "\n".join(lines) + "\n</table></div>\n"


def render_page(groups: Sequence[Group], unread: Sequence[Unread]) -> str:
    text = "" if groups else f"<p>{NO_RECORD}</p>\n"
    for group in groups:
        rows, steps = render_rows(group, html.escape, '<a href="{1}">{0}</a>')
        for row, ranked in zip(rows, group.rows, strict=True):
            row[VERDICT] = f'<span class="{ranked.row.verdict.split()[0]}">{row[VERDICT]}</span>'
        text += f"<h2>{group.track.title}: {html.escape(group.corpus)}</h2>\n<p>{describe_rules(group.track)}</p>\n"
        text += html_table(COLUMNS, rows) + draw_chart(group)
        items = "\n".join(f"<li>{step}</li>" for step in steps)
        text += f"<p>Each record against the best before it:</p>\n<ul>\n{items}\n</ul>\n"
    if unread:
        found = [(html.escape(each.record), html.escape(each.reason)) for each in unread]
        text += "<h2>Not ranked</h2>\n" + html_table(UNREAD, found)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(body=text)


# -- command --------------------------------------------------------------------------------------------------------


def act(args: argparse.Namespace) -> Answer:
    root = Path(args.records).resolve()
    if not root.is_dir():
        raise BadInput(f"{args.records}: no such folder; name the one that holds TRACK/FOLDER")
    tracks = load_tracks()
    rows, unread = read_rows(root, tracks)
    groups = rank_all(rows, tracks)
    atomic_file(root / README, render_readme(groups, unread).encode("utf-8"))
    atomic_file(root / PAGE, render_page(groups, unread).encode("utf-8"))
    return {
        "readme": str(root / README),
        "page": str(root / PAGE),
        "groups": [
            {"track": group.track.name, "corpus": group.corpus, "rows": [row_answer(ranked) for ranked in group.rows]}
            for group in groups
        ],
        "unread": [asdict(each) for each in unread],
    }


def row_answer(ranked: Ranked) -> Answer:
    claim = ranked.row.claim
    return {
        "place": ranked.place,
        "record": ranked.row.record,
        "name": printable(claim.name, 80),
        "val_bpb": claim.val_bpb,
        "val_bpb_std": claim.val_bpb_std,
        "bytes_total": claim.bytes_total,
        "verdict": ranked.row.verdict,
        "step": ranked.step,
        "proved": ranked.proved,
    }


def show(answer: Answer) -> str:
    lines = []
    for group in answer["groups"]:
        lines.append(f"{group['track']}, {group['corpus']}")
        for row in group["rows"]:
            score = f"{row['val_bpb']:.4f} bits per byte  {row['bytes_total']:>12,} bytes"
            lines.append(f"  {row['place'] or '–':>3}  {score}  {row['name']} ({row['verdict']})")
            lines.append(f"       {row['step']}")
    lines += [f"not ranked: {each['record']}: {each['reason']}" for each in answer["unread"]]
    return "\n".join([*lines, answer["readme"], answer["page"]])


def parser() -> OneLineParser:
    flags = command("tools.leaderboard", __doc__ or "")
    flags.add_argument("records", nargs="?", default="records", help="the folder that holds TRACK/FOLDER")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
