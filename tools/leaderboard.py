"""The leaderboard: a folder of records -> README.md (tables) and index.html (the same rows, with a chart) in it.

    python -m tools.leaderboard                   (records/)
    python -m tools.leaderboard runs/demo/records

It shows what tools.record and tools.verify wrote and checks no score itself. The same records give the same bytes.
Text from a record never becomes markup, and index.html needs no server and loads nothing.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from string import Template
from urllib.parse import quote

from markdown_it import MarkdownIt
from matplotlib import rc_context
from matplotlib.figure import Figure

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput
from base.files import atomic_file
from tools.record.ranking import Group, Ranked, rank_all
from tools.record.rows import Row, Unread, printable, read_rows
from tools.record.schema import Track, load_tracks

README, PAGE, TEMPLATE = "README.md", "index.html", Path(__file__).with_suffix(".html")
COLUMNS = ("#", "Record", "Author", "Date", "Verdict", "Bits per byte", "Seeds", "Bytes (code + artifact)",
           "Training", "Scoring", "Parameters")  # fmt: skip
RECORD, NUMBERS = 1, 5  # columns: the one with a link, the first of numbers
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
        calibration = ", calibration included" if track.calibration == "inside" else ""
        limits.append(f"{track.train_seconds:g} s of training{calibration}")
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


# -- README.md ------------------------------------------------------------------------------------------------------

SPECIAL = {ord(c): f"\\{c}" for c in "\\`*_[]|~#!"} | {ord(c): f"&#{ord(c)};" for c in "&<>$"}
ADDRESS = re.compile("(?i)@|:(?=//)|www(?=[.])")  # where Markdown begins to see one; no comment is part of it


def markdown(text: str) -> str:
    """Text that Markdown shows as it is: no link, no mention, no table cell, no HTML."""
    return ADDRESS.sub(r"\g<0><!-- -->", text.translate(SPECIAL))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int) -> str:
    marks = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *rows))


def render_group(group: Group) -> str:
    """A table whose records are links to their folders, and below it the step of each."""
    rows = []
    steps = []
    for ranked in group.rows:
        row = [markdown(cell) for cell in cells(ranked)]
        row[RECORD] = f"[{row[RECORD]}](./{quote(ranked.row.record)}/)"
        rows.append(row)
        steps.append(f"* {row[RECORD]}: {markdown(ranked.step)}")
    parts = [
        f"## {group.track.title}: {markdown(group.corpus)}",
        describe_rules(group.track),
        markdown_table(COLUMNS, rows, NUMBERS),
        "Each record against the best before it:",
        "\n".join(steps),
    ]
    return "\n\n".join(parts)


def render_sections(groups: Sequence[Group], unread: Sequence[Unread]) -> list[str]:
    sections = [render_group(group) for group in groups] or [NO_RECORD]
    if unread:
        found = [(markdown(each.record), markdown(each.reason)) for each in unread]
        sections.append(f"## Not ranked\n\n{markdown_table(UNREAD, found, 2)}")
    return sections


# -- index.html -----------------------------------------------------------------------------------------------------


def find_front(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The Pareto front in the order of sizes: no other point is both smaller and better."""
    return sorted(p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points))


def draw_chart(group: Group) -> str:
    """Bits per byte against bytes, as SVG: a numbered point per place, and the Pareto front as a line."""
    points = [(each.row.claim.bytes_total, each.row.claim.val_bpb) for each in group.rows if each.place is not None]
    if not points:
        return ""
    cap = group.track.cap_bytes
    figure = Figure(figsize=(7.6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=f"bytes, up to the cap of {cap:,}", ylabel="bits per byte")
    axes.step(*zip(*find_front(points), strict=True), where="post")
    for place, (size, bpb) in reversed([*enumerate(points, 1)]):  # the best comes last, on top
        axes.plot(size, bpb, "o", color="tab:blue", markersize=15)
        axes.annotate(str(place), (size, bpb), color="white", ha="center", va="center")
    axes.set_xlim(right=cap)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:.10g}")
    axes.grid(alpha=0.25)
    svg = StringIO()
    with rc_context({"svg.hashsalt": PAGE, "svg.fonttype": "none"}):  # without the salt, names of parts are random
        figure.savefig(svg, format="svg", metadata={"Date": None})
    text = svg.getvalue()
    return text[text.index("<svg") :]  # without the head of a file


def render_page(sections: Sequence[str], charts: Sequence[str]) -> str:
    """README.md's sections, and below each group's its chart. Their Markdown shows a stranger's text as it is."""
    renderer = MarkdownIt("commonmark").enable("table")
    pairs = zip_longest(sections, charts, fillvalue="")
    body = "".join(renderer.render(section) + chart for section, chart in pairs)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(body=body)


# -- command --------------------------------------------------------------------------------------------------------


def act(args: argparse.Namespace) -> Answer:
    root = Path(args.records).resolve()
    if not root.is_dir():
        raise BadInput(f"{args.records}: no such folder; name the one that holds TRACK/FOLDER")
    tracks = load_tracks()
    rows, unread = read_rows(root, tracks)
    groups = rank_all(rows, tracks)
    sections = render_sections(groups, unread)
    atomic_file(root / README, ("\n\n".join([HEAD, *sections]) + "\n").encode("utf-8"))
    atomic_file(root / PAGE, render_page(sections, [draw_chart(group) for group in groups]).encode("utf-8"))
    return {
        "readme": str(root / README),
        "page": str(root / PAGE),
        "ranked": [ranked.row.record for group in groups for ranked in group.rows if ranked.place is not None],
        "unread": [asdict(each) for each in unread],
    }


def show(answer: Answer) -> str:
    counts = f"ranked {len(answer['ranked'])}, unread {len(answer['unread'])}"
    return f"{answer['readme']}, {answer['page']}: {counts}"


def parser() -> OneLineParser:
    flags = command("tools.leaderboard", __doc__ or "")
    flags.add_argument("records", nargs="?", default="records", help="the folder that holds TRACK/FOLDER")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
