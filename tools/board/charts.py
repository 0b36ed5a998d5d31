"""Charts as SVG: drawn here, coloured by the page's style sheet, readable without JavaScript.

A point is a link to its record's panel and says its numbers in a title; the number in it is the row's place.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from tools.board.markup import Html, fragment, join, tag
from tools.board.ranking import Row, pareto
from tools.board.words import bits, name, place, seconds

WIDTH, HEIGHT = 440, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 46
COLOURS = 8  # lines that a chart tells apart
BYTES = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


class Axis(NamedTuple):
    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def shows(self, value: float) -> bool:
        return self.low <= value <= self.high


def axis(values: Sequence[float], count: int = 5, least: float = 0.001) -> Axis:
    """Round ticks around the values, with some room at both ends: `least` of the highest, or near things look far."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.08, abs(high) * least)
    room = room if room > 1e-9 else 1.0
    start, end = low - room, high + room
    if low >= 0 > start:
        start = 0.0
    raw = (end - start) / count
    step = 10.0 ** math.floor(math.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
    first, last = math.ceil(start / step), math.floor(end / step)
    return Axis(start, end, tuple(round(i * step, 12) for i in range(first, last + 1)))


def scatter(rows: Sequence[Row], cap_bytes: int | None) -> Html:
    """Bits a byte against bytes (where there is a cap) or training seconds, with the front that nobody beats.

    The axes are those of the rows that have a place; others are drawn where they fall inside.
    """
    points = [(_across(row, cap_bytes), row.record.bpb) for row in rows]
    placed = [i for i, row in enumerate(rows) if not row.unplaced]
    front = [placed[i] for i in pareto([points[i] for i in placed])]
    measured = [points[i] for i in placed or range(len(rows))]
    near = [cap_bytes] if cap_bytes and max(x for x, _ in measured) > 0.8 * cap_bytes else []
    across, up = axis([*(x for x, _ in measured), *near], 4, 0.02), axis([y for _, y in measured])
    label = "seconds of training, the longest seed" if cap_bytes is None else "bytes of code and artifact"
    drawn = [_grid(across, up, "s" if cap_bytes is None else "B", label, "bits a byte")]
    if cap_bytes and across.shows(cap_bytes):
        x = _x(across, cap_bytes)
        drawn.append(tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="cap"))
        drawn.append(tag("text", "cap", x=x - 5, y=TOP + 10, class_="tick", text_anchor="end"))
    if front:
        drawn.append(tag("path", d=_stairs([points[i] for i in front], across, up), class_="front"))
    # the worst first, so that the best lie on top
    for i in sorted(range(len(rows)), key=lambda i: (not rows[i].unplaced, -points[i][1])):
        if across.shows(points[i][0]) and up.shows(points[i][1]):
            drawn.append(_point(rows[i], _x(across, points[i][0]), _y(up, points[i][1]), i in front))
    return _chart(f"Bits a byte against {'training seconds' if cap_bytes is None else 'bytes'}", drawn)


def losses(rows: Sequence[Row]) -> Html | None:
    """The training loss of each record's first seed; None where no record has a curve."""
    shown = [(row, row.record.curve) for row in rows if row.record.curve is not None][:COLOURS]
    if not shown:
        return None
    values = sorted(loss for _, curve in shown for loss in curve.losses)
    top = values[int(0.98 * (len(values) - 1))]  # the first steps would squeeze the rest together
    across = axis([0.0, *(second for _, curve in shown for second in curve.seconds)], 4)
    up = axis([min(values), top])
    drawn = [_grid(across, up, "s", "seconds of training", "nats a token")]
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


def _across(row: Row, cap_bytes: int | None) -> float:
    return row.record.train_seconds if cap_bytes is None else row.record.submission.bytes_total


def tick_words(ticks: Sequence[float], unit: str) -> list[str]:
    """Ticks with as many decimals as tell them apart; bytes in the unit of the largest."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) if ticks else 1.0
    scale, unit = next(((s, u) for s, u in BYTES if unit == "B" and max(ticks, default=0) >= s), (1, unit))
    decimals = max(0, -math.floor(math.log10(step / scale) + 1e-9)) if step else 0
    if decimals > 6:
        return [f"{tick / scale:.6g} {unit}".strip() for tick in ticks]
    return [f"{tick / scale:,.{decimals}f} {unit}".strip() for tick in ticks]


def _x(across: Axis, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * across.share(value)


def _y(up: Axis, value: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - up.share(value))


def _grid(across: Axis, up: Axis, unit: str, x_label: str, y_label: str) -> Html:
    floor, parts = HEIGHT - BOTTOM, []
    for value, said in zip(up.ticks, tick_words(up.ticks, ""), strict=True):
        y = _y(up, value)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", said, x=LEFT - 8, y=y + 4, class_="tick", text_anchor="end"))
    for value, said in zip(across.ticks, tick_words(across.ticks, unit), strict=True):
        x = _x(across, value)
        parts.append(tag("line", x1=x, x2=x, y1=floor, y2=floor + 5, class_="axis"))
        parts.append(tag("text", said, x=x, y=floor + 19, class_="tick", text_anchor="middle"))
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
