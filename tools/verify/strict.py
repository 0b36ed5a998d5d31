"""JSON and words from strangers: bounded, without NaN, without a key twice, without numbers that nobody measured.

Not a schema: it says whether a text is honest JSON at all.
"""

import json
import math
from typing import Any

from base.errors import BadInput

LONGEST_NUMBER = 40  # characters; nothing that is measured has more


def read_json(text: str, name: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_short,
        )
    except (ValueError, RecursionError) as error:
        why = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise BadInput(f"{name}: not JSON that can be read: {why:.200}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r:.60} is given twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"it holds {name}")


def _finite(text: str) -> float:
    if len(text) > LONGEST_NUMBER or not math.isfinite(number := float(text)):
        raise ValueError(f"it holds the number {text:.20}")
    return number


def _short(text: str) -> int:
    if len(text) > LONGEST_NUMBER // 2:
        raise ValueError(f"it holds an integer of {len(text)} digits")
    return int(text)
