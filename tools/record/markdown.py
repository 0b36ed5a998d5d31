"""Numbers and tables as the record's pages spell them."""

from collections.abc import Iterable, Sequence


def bpb(value: float) -> str:
    return f"{value:.5f}"


def spread(value: float | None, digits: int = 5) -> str:
    """A standard deviation; one seed has none."""
    return "one seed" if value is None else f"± {value:.{digits}f}"


def size(count: int) -> str:
    return f"{count:,}"


def seconds(value: float) -> str:
    return f"{value:,.1f}"


def value(given: object) -> str:
    """A configuration's value, as its YAML has it."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, float):
        return f"{given:g}"
    return "null" if given is None else str(given) or '""'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """The first `left` columns are words, the others numbers."""
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows))
