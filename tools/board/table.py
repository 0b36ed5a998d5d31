"""The table of a group: a row a record, sortable by what each cell says it is worth, cards on a phone."""

from typing import NamedTuple

from tools.board.charts import bar
from tools.board.markup import Html, fragment, join, tag
from tools.board.panel import badge
from tools.board.ranking import Group, Row
from tools.board.words import (
    STATES,
    author,
    bits,
    count,
    day,
    name,
    percent,
    place,
    seconds,
    size,
    spread,
    weights,
)

NOWHERE = 10**9  # sorts rows without a place behind the others


class Cell(NamedTuple):
    column: str
    worth: str | int | float  # what the column is sorted by
    content: Html
    number: bool = True


def board_table(group: Group) -> Html:
    rows = [_cells(row, group) for row in group.rows]
    heads = [
        tag("th", cell.column, scope="col", role="columnheader", class_="n" if cell.number else None)
        for cell in rows[0]
    ]
    body = [
        tag("tr", *map(_drawn, cells), role="row", class_="out" if row.unplaced else None)
        for row, cells in zip(group.rows, rows, strict=True)
    ]
    head = tag("thead", tag("tr", *heads, role="row"), role="rowgroup")
    made = tag("table", head, tag("tbody", *body, role="rowgroup"), role="table", class_="board")
    return tag("div", made, class_="scroll", tabindex=0, role="region", aria_label=f"Records: {group.corpus}")


def _drawn(cell: Cell) -> Html:
    worth = repr(cell.worth) if isinstance(cell.worth, float) else cell.worth
    number = "n" if cell.number else None
    return tag("td", tag("div", cell.content), data_label=cell.column, data_value=worth, role="cell", class_=number)


def _cells(row: Row, group: Group) -> list[Cell]:
    record, submission, cap = row.record, row.record.submission, group.track.cap_bytes
    step = tag("span", "step proved", class_="badge valid", title=row.step) if row.proved else ""
    return [
        Cell("#", row.place or NOWHERE, join(place(row))),
        Cell("Record", name(record).casefold(), _title(row), number=False),
        Cell("Date", submission.date, join(day(record)), number=False),
        Cell("Bits a byte", record.bpb, join(tag("strong", bits(record.bpb)), _small(spread(record)), step)),
        Cell("Seeds", len(submission.seeds), join(count(len(submission.seeds)))),
        Cell("Code + artifact, bytes", submission.bytes_total, _bytes(row, cap)),
        Cell("Training", record.train_seconds,
             join(seconds(record.train_seconds), _small(f"calibration {seconds(record.calibration_seconds)}"))),
        Cell("Evaluation", record.eval_seconds, join(seconds(record.eval_seconds))),
        Cell("Params", submission.params, join(weights(submission.params))),
        Cell("Verdict", list(STATES).index(record.badge.state), badge(record), number=False),
    ]  # fmt: skip


def _title(row: Row) -> Html:
    link = tag("a", name(row.record), href=f"#{fragment(row.record.place)}", class_="name")
    why = _small(f"not ranked: {row.unplaced}", warn=True) if row.unplaced else ""
    return join(link, _small(author(row.record)), why)


def _bytes(row: Row, cap: int) -> Html:
    submission = row.record.submission
    share = submission.bytes_total / cap
    over = "over the cap: " if share > 1 else ""
    return join(
        count(submission.bytes_total),
        bar(share),
        _small(f"{over}{percent(share)} of {size(cap)}", warn=share > 1),
        _small(f"{count(submission.bytes_code)} + {count(submission.bytes_model)}"),
    )


def _small(words: str, warn: bool = False) -> Html:
    return tag("span", words, class_="small warn" if warn else "small")
