"""Charts as SVG: drawn here, coloured by the page's style sheet, readable without JavaScript.

A point is a link to its record's panel and says its numbers in a title; the number in it is the row's place.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from tools.board.markup import Html, fragment, join, tag
from tools.board.ranking import Row, pareto
from tools.board.words import bits, name, place, seconds, size

WIDTH, HEIGHT = 440, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 46
COLOURS = 8  # lines that a chart tells apart


class Axis(NamedTuple):
    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], count: int = 5) -> Axis:
    """Round ticks around the values, with some room at both ends."""
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    start, end = low - room, high + room
    if low >= 0 > start:
        start = 0.0
    raw = (end - start) / count
    step = 10.0 ** math.floor(math.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
    first, last = math.ceil(start / step), math.floor(end / step)
    return Axis(start, end, tuple(round(i * step, 12) for i in range(first, last + 1)))


def scatter(rows: Sequence[Row], against: str) -> Html:
    """Bits a byte against `bytes` or `seconds`, lower left is better, with the front that nobody beats."""
    by_bytes = against == "bytes"
    points = [(_across(row, by_bytes), row.record.bpb) for row in rows]
    across, up = axis([x for x, _ in points], 4), axis([y for _, y in points])
    placed = [i for i, row in enumerate(rows) if not row.unplaced]
    front = [placed[i] for i in pareto([points[i] for i in placed])]
    spell = size_tick if by_bytes else seconds_tick
    label = "bytes of code and artifact" if by_bytes else "seconds of training, the longest seed"
    drawn = [_grid(across, up, spell, label, "bits a byte")]
    if front:
        drawn.append(tag("path", d=_stairs([points[i] for i in front], across, up), class_="front"))
    # the worst first, so that the best lie on top
    for i in sorted(range(len(rows)), key=lambda i: (not rows[i].unplaced, -points[i][1])):
        drawn.append(_point(rows[i], _x(across, points[i][0]), _y(up, points[i][1]), i in front))
    words = "bytes" if by_bytes else "training seconds"
    return _chart(f"Bits a byte against {words}", drawn)


def losses(rows: Sequence[Row]) -> Html | None:
    """The training loss of each record's first seed; None where no record has a curve."""
    shown = [(row, row.record.curve) for row in rows if row.record.curve is not None][:COLOURS]
    if not shown:
        return None
    values = sorted(loss for _, curve in shown for loss in curve.losses)
    top = values[int(0.98 * (len(values) - 1))]  # the first steps would squeeze the rest together
    across = axis([0.0, *(second for _, curve in shown for second in curve.seconds)], 4)
    up = axis([min(values), top])
    drawn = [_grid(across, up, seconds_tick, "seconds of training", "nats a token")]
    for number, (row, curve) in enumerate(shown):
        ends = zip(curve.seconds, curve.losses, strict=True)
        path = "L".join(f"{_x(across, at):.1f} {_y(up, min(loss, up.high)):.1f}" for at, loss in ends)
        title = tag("title", f"{place(row)} {name(row.record)}: ends at {bits(curve.losses[-1])} nats a token")
        line = tag("g", title, tag("path", d=f"M{path}", class_=f"curve c{number}"))
        drawn.append(tag("a", line, href=f"#{fragment(row.record.place)}", tabindex=-1))
    return _chart("Training loss over time", drawn)


def bar(share: float, css: str = "") -> Html:
    """A filled part of a whole; what is beyond the whole is full and marked."""
    width = 100 * min(max(share, 0.0), 1.0)
    inner = tag("rect", width=width, height=6, class_="fill" + (" over" if share > 1 else ""))
    frame = tag("rect", width=100, height=6, class_="track")
    return tag("svg", frame, inner, class_=f"bar {css}".strip(), viewBox="0 0 100 6", preserveAspectRatio="none",
               aria_hidden="true")  # fmt: skip


def size_tick(value: float) -> str:
    return size(round(value))


def seconds_tick(value: float) -> str:
    return f"{value:,.0f} s" if value >= 1 or value == 0 else seconds(value)


def _across(row: Row, by_bytes: bool) -> float:
    return row.record.submission.bytes_total if by_bytes else row.record.train_seconds


def _x(across: Axis, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * across.share(value)


def _y(up: Axis, value: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - up.share(value))


def _grid(across: Axis, up: Axis, spell: object, x_label: str, y_label: str) -> Html:
    assert callable(spell)
    floor, parts = HEIGHT - BOTTOM, []
    decimals = max(0, -math.floor(math.log10(up.ticks[1] - up.ticks[0]) + 1e-9)) if len(up.ticks) > 1 else 3
    for value in up.ticks:
        y = _y(up, value)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        said = f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.3g}"
        parts.append(tag("text", said, x=LEFT - 8, y=y + 4, class_="tick", text_anchor="end"))
    for value in across.ticks:
        x = _x(across, value)
        parts.append(tag("line", x1=x, x2=x, y1=floor, y2=floor + 5, class_="axis"))
        parts.append(tag("text", spell(value), x=x, y=floor + 19, class_="tick", text_anchor="middle"))
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor, class_="axis"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(tag("text", x_label, x=middle, y=HEIGHT - 8, class_="label", text_anchor="middle"))
    turned = f"translate(13 {(TOP + floor) / 2:.0f}) rotate(-90)"
    parts.append(tag("text", y_label, transform=turned, class_="label", text_anchor="middle"))
    return tag("g", *parts)


def _point(row: Row, x: float, y: float, on_front: bool) -> Html:
    record = row.record
    said = (
        f"{place(row)} {name(record)}: {bits(record.bpb)} bpb, {record.submission.bytes_total:,} bytes, "
        f"{seconds(record.train_seconds)}" + (f"; not ranked: {row.unplaced}" if row.unplaced else "")
    )
    css = "point" + (" best" if on_front else "") + (" out" if row.unplaced else "")
    mark = tag("circle", cx=x, cy=y, r=10)
    number = tag("text", place(row), x=x, y=y + 4, text_anchor="middle")
    return tag("a", tag("title", said), mark, number, href=f"#{fragment(record.place)}", class_=css, aria_label=said)


def _stairs(points: Sequence[tuple[float, float]], across: Axis, up: Axis) -> str:
    """From the top, step by step down the front, to the right end: what lies above it is beaten."""
    x, y = points[0]
    path = [f"M{_x(across, x):.1f} {TOP}", f"V{_y(up, y):.1f}"]
    for x, y in points[1:]:
        path += [f"H{_x(across, x):.1f}", f"V{_y(up, y):.1f}"]
    return "".join([*path, f"H{WIDTH - RIGHT}"])


def _chart(title: str, drawn: Sequence[Html]) -> Html:
    return tag("svg", tag("title", title), join(*drawn), viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="chart", role="group",
               aria_label=title)  # fmt: skip
