"""The leaderboard: a folder of records -> README.md and index.html in it.

    python -m tools.leaderboard                   (records/)
    python -m tools.leaderboard runs/demo/records

It reads what tools.record and tools.verify wrote and checks nothing itself: a badge is the last verdict kept in
verdicts.json, and falls where the folder has changed since. A record that cannot be read is listed with its reason.
The same records give the same bytes. index.html needs no server and asks nothing of any network.
"""

import argparse
import sys
from pathlib import Path

from base.cli import Answer, OneLineParser, command, run
from base.files import atomic_file
from tools.board.markdown import markdown
from tools.board.page import page
from tools.board.ranking import Row, groups
from tools.board.reading import read_board
from tools.board.words import bits, corpus, name, spread


def act(args: argparse.Namespace) -> Answer:
    root = Path(args.records)
    board = read_board(root)
    found = groups(board)
    readme, html = root / "README.md", root / "index.html"
    atomic_file(readme, markdown(board, found).encode("utf-8"))
    atomic_file(html, page(board, found).encode("utf-8"))
    return {
        "readme": str(readme),
        "page": str(html),
        "page_bytes": html.stat().st_size,
        "groups": [
            {"track": group.track.name, "corpus": corpus(group), "rows": [_said(row) for row in group.rows]}
            for group in found
        ],
        "unread": [each._asdict() for each in board.broken],
    }


def _said(row: Row) -> Answer:
    record = row.record
    return {
        "place": row.place,
        "record": record.place,
        "name": name(record),
        "score": f"{bits(record.bpb)} {spread(record)}".strip(),
        "val_bpb": record.bpb,
        "bytes_total": record.submission.bytes_total,
        "verdict": record.badge.state,
        "step": row.step,
        "proved": row.proved,
    }


def show(answer: Answer) -> str:
    lines = []
    for group in answer["groups"]:
        lines.append(f"{group['track']}, {group['corpus']}")
        for row in group["rows"]:
            rank = "–" if row["place"] is None else row["place"]
            lines.append(f"  {rank!s:>3}  {row['score']:<17} {row['bytes_total']:>12,} bytes  {row['name']}")
            lines.append(f"       {row['verdict']}. {row['step']}")
    lines += [f"could not be read: {each['place']}: {each['reason']}" for each in answer["unread"]]
    return "\n".join([*lines, answer["readme"], f"{answer['page']} ({answer['page_bytes']:,} bytes)"])


def parser() -> OneLineParser:
    flags = command("tools.leaderboard", __doc__ or "")
    flags.add_argument("records", nargs="?", default="records", help="the folder that holds TRACK/FOLDER")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
