"""The panel of one record: everything that its folder says, what was found about it, and links to its files."""

import base64
import re
from collections.abc import Sequence
from typing import Any

from tools.board.charts import bar
from tools.board.markup import Html, fragment, join, link, tag, text
from tools.board.ranking import Group, Row
from tools.board.reading import FIGURES, Record
from tools.board.words import MEANINGS, STATES, author, bits, count, day, name, percent, seconds, spread

CAPTIONS = ("The loss of the run", "What the artifact's bytes are", "The loss by position in the window")
MOST_FINDINGS, MOST_KINDS, MOST_FILES, MOST_SEEDS = 60, 40, 80, 40  # rows that a panel shows
GITHUB = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}")


def badge(record: Record) -> Html:
    said = record.badge
    title = f"{MEANINGS[said.state]}" + (f": {said.reason}" if said.reason else "")
    word = tag("span", STATES[said.state], class_=f"badge {said.state}", title=title)
    if said.state == "none":
        return word
    return join(word, " ", tag("span", said.tier, ", ", tag("span", said.day, class_="whole"), class_="small"))


def panel(row: Row, group: Group, embedded: frozenset[str]) -> Html:
    """`embedded`: which of the record's figures may stand in the page; the others are linked."""
    record = row.record
    submission = record.submission
    who = text(submission.github_id, 60)
    by = tag("a", author(record), href=f"https://github.com/{who}", rel="noreferrer") if GITHUB.fullmatch(who) else ""
    head = tag("p", by or author(record), " · ", day(record), " · ", group.track.title, class_="byline")
    parts = [
        tag("h3", name(record), id=f"title-{fragment(record.place)}", tabindex=-1),
        head,
        tag("p", text(submission.blurb, 600), class_="blurb") if submission.blurb.strip() else "",
        _tiles(row, group),
        _section("Step over the best before it", tag("p", row.step, class_="proved" if row.proved else None)),
        _section("Verdict", _verdict(record)),
        _section("Bytes", _bytes(record, group)),
        _section("Seeds", _seeds(record)),
        _section("Figures", _figures(record, embedded)),
        _section("Claimed by its author", _compliance(record)),
        _section("How it was made and scored", _facts(record, group)),
        _section("Files", _files(record)),
    ]
    place = fragment(record.place)
    return tag("article", *parts, id=place, class_="panel", aria_labelledby=f"title-{place}")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> Html:
    """A plain table in a box that scrolls by itself; all but the first `words` columns are numbers."""

    def row(kind: str, cells: Sequence[str]) -> Html:
        return tag("tr", *(tag(kind, cell, class_="n" if i >= words else None) for i, cell in enumerate(cells)))

    body = tag("tbody", *(row("td", cells) for cells in rows))
    made = tag("table", tag("thead", row("th", heads)), body)
    return tag("div", made, class_="scroll", tabindex=0, role="region", aria_label=", ".join(heads))


def _section(title: str, content: Html) -> Html:
    return tag("section", tag("h4", title), content)


def _tiles(row: Row, group: Group) -> Html:
    submission, record = row.record.submission, row.record
    share = submission.bytes_total / group.track.cap_bytes
    tiles = [
        (f"{bits(record.bpb)}", f"bits a byte {spread(record)}".strip()),
        (count(submission.bytes_total), f"bytes, {percent(share)} of the cap"),
        (seconds(record.train_seconds), "training, longest seed"),
        (seconds(record.eval_seconds), "evaluation, longest seed"),
        (count(submission.params), "parameters"),
    ]
    return tag("dl", *(tag("div", tag("dd", value), tag("dt", label)) for value, label in tiles), class_="tiles")


def _verdict(record: Record) -> Html:
    said = record.badge
    words = f"{STATES[said.state]}: {MEANINGS[said.state]}."
    lines = [tag("p", badge(record)), tag("p", words[0].upper() + words[1:])]
    if said.reason:
        was = f" It was {said.verdict} then." if said.verdict else ""
        lines.append(tag("p", f"{said.reason}.{was}"))
    if said.findings:
        shown = [
            tag("li", tag("span", each.level, class_=f"badge {_shade(each.level)}"), " ",
                tag("code", text(each.rule, 60)), " ", text(each.message, 400))
            for each in said.findings[:MOST_FINDINGS]
        ]  # fmt: skip
        more = len(said.findings) - MOST_FINDINGS
        lines.append(tag("ul", *shown, tag("li", f"and {more} more") if more > 0 else "", class_="findings"))
    return join(*lines)


def _shade(level: str) -> str:
    return {"flag": "flagged", "note": "none"}.get(level, level)


def _bytes(record: Record, group: Group) -> Html:
    submission, cap = record.submission, group.track.cap_bytes
    parts = [("code", submission.bytes_code), ("largest artifact", submission.bytes_model)]
    rows = [(label, count(size), percent(size / cap), bar(size / cap)) for label, size in parts]
    total = submission.bytes_total
    rows.append(("code and artifact", count(total), percent(total / cap), bar(total / cap)))
    heads = ("part", "bytes", "of the cap", "")
    tokenizer = f"The tokenizer's {count(submission.bytes_tokenizer)} bytes are inside the artifact."
    return join(table(heads, rows), tag("p", tokenizer, class_="small"), _kinds(record))


def _kinds(record: Record) -> Html:
    """`notes.kinds` as tools.record writes it: what each kind of weight takes in the artifact."""
    rows = [row for row in _list(record.submission.notes.get("kinds")) if _sized(row)][:MOST_KINDS]
    if not rows:
        return tag("p", "Its notes say nothing of bytes by kind.", class_="small")
    most = max(row["bytes"] for row in rows)
    cells = [
        (text(row["kind"], 40), count(row["bytes"]), _amount(row.get("weights")), _rate(row), bar(row["bytes"] / most))
        for row in rows
    ]
    return table(("kind", "bytes", "weights", "bits a weight", ""), cells)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _sized(row: Any) -> bool:
    if not (isinstance(row, dict) and isinstance(row.get("kind"), str)):
        return False
    size = row.get("bytes")
    return isinstance(size, int) and 0 < size < 10**15


def _amount(value: Any) -> str:
    return count(value) if isinstance(value, int) and 0 < value < 10**15 else ""


def _rate(row: dict[str, Any]) -> str:
    held = row.get("weights")
    return f"{8 * row['bytes'] / held:.2f}" if isinstance(held, int) and 0 < held < 10**15 else ""


def _seeds(record: Record) -> Html:
    heads = ("seed", "bpb", "nats a token", "before packing", "steps", "training", "calibration", "evaluation", "bytes")
    rows = []
    for number in record.submission.seeds[:MOST_SEEDS]:
        result = record.submission.seed_results[str(number)]
        times = (result.train_seconds, result.calibration_seconds, result.eval_seconds)
        rows.append(
            (text(number, 24), bits(result.val_bpb, 5), bits(result.val_loss, 5), bits(result.pre_quant_val_bpb, 5),
             count(result.steps), *map(seconds, times), count(result.bytes_model))
        )  # fmt: skip
    return table(heads, rows)


def _figures(record: Record, embedded: frozenset[str]) -> Html:
    shown = []
    for path, caption in zip(FIGURES, CAPTIONS, strict=True):
        if path in embedded:
            data = "data:image/png;base64," + base64.b64encode(record.figures[path]).decode("ascii")
            image = tag("img", src=data, alt=f"{caption}: {name(record)}", loading="lazy", decoding="async")
            shown.append(tag("figure", image, tag("figcaption", caption)))
        elif path in record.figures:
            large = f"{caption} ({count(len(record.figures[path]))} bytes: too large to stand here)"
            shown.append(tag("p", tag("a", large, href=link(record.place, path))))
        else:
            shown.append(tag("p", f"{caption}: {record.missing[path]}", class_="small"))
    others = [f"No curve in the chart: {why}." for path, why in record.missing.items() if path not in FIGURES]
    return tag("div", *shown, *(tag("p", why, class_="small") for why in others), class_="figures")


def _compliance(record: Record) -> Html:
    said = sorted(record.submission.compliance.items())
    if not said:
        return tag("p", "Nothing is claimed.", class_="small")
    items = [
        tag("li", tag("span", "yes" if held else "no", class_=f"badge {'valid' if held else 'invalid'}"), " ",
            text(rule, 120).replace("_", " "))
        for rule, held in said
    ]  # fmt: skip
    return tag("ul", *items, class_="claims")


def _facts(record: Record, group: Group) -> Html:
    submission, evaluation = record.submission, record.submission.evaluation
    notes = submission.notes
    rows = [
        ("technique", text(submission.technique_summary, 600)),
        ("builds on", text(submission.base_record)),
        ("configuration", text(notes.get("parent", ""))),
        ("changed from it", text(_changes(notes.get("changes")), 600)),
        ("attribution", text(submission.attribution, 400)),
        ("corpus", text(submission.data.name)),
        ("prepared by", text(notes.get("prep", submission.data.source), 300)),
        ("validation sha256", text(submission.data.val_sha256, 64)),
        ("tokenizer sha256", text(submission.data.tokenizer_sha256, 64)),
        ("scored", f"stride {count(evaluation.stride)}, context {count(evaluation.context)}"
         + (f", adaptation {text(evaluation.adapt, 60)}" if evaluation.adapt else "")),
        ("tokens and bytes", f"{count(evaluation.val_tokens)} tokens, {count(evaluation.val_bytes)} bytes"
         f" ({count(evaluation.contest_bytes)} as the contest counts)"),
        ("hardware", text(submission.hardware)),
        ("rules", f"{group.track.name}, version {submission.track_version}"),
        *(record.environment or {"python": text(submission.python_version, 60),
                                 "torch": text(submission.pytorch_version, 60)}).items(),
    ]  # fmt: skip
    return tag("dl", *(tag("div", tag("dt", key), tag("dd", value)) for key, value in rows if value), class_="facts")


def _changes(values: Any) -> str:
    """`notes.changes` as tools.record writes it: each key with its value there and here."""
    pairs = values.items() if isinstance(values, dict) else ()
    return ", ".join(f"{key} {pair[0]} → {pair[1]}" for key, pair in pairs if isinstance(pair, list) and len(pair) == 2)


def _files(record: Record) -> Html:
    rows = []
    for file in record.files[:MOST_FILES]:
        if file.size_bytes is None:
            rows.append((text(file.name, 100), "not in the folder", text(file.sha256, 12)))
        else:
            where = tag("a", text(file.name, 100), href=link(record.place, file.name))
            rows.append((where, count(file.size_bytes), text(file.sha256, 12)))
    more = len(record.files) - MOST_FILES
    tail = tag("p", f"and {more} more", class_="small") if more > 0 else ""
    return join(table(("file", "bytes", "sha256"), rows), tail)
