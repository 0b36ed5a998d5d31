"""What a stranger's files hold, made fit for a page: objects of sane numbers, text of one line, names that stay inside.

How they are read: base.files.
"""

import json
import unicodedata
from pathlib import PurePosixPath
from typing import Any

from base.errors import BadInput

JSON_BYTES = 4_000_000
DEEPEST = 20  # levels of an object; json itself gives up at a thousand, and a reader of pages long before
LARGEST = 1e15  # no byte, second, bit or weight of a record is counted beyond


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object of finite numbers, not nested without end."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
        json.dumps(value, allow_nan=False)  # 1e999 reads as infinity
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name} is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{name} holds no JSON object")
    if _depth(value) > DEEPEST:
        raise BadInput(f"{name} is nested more than {DEEPEST} levels deep")
    return value


def require_sane(values: Any, at: str = "", apart: tuple[str, ...] = ()) -> None:
    """Numbers that a table and an axis can hold; the keys in `apart` may hold anything."""
    if isinstance(values, dict):
        for key, value in values.items():
            if key not in apart:
                require_sane(value, f"{at}.{key}" if at else key)
    elif isinstance(values, list):
        for number, value in enumerate(values):
            require_sane(value, f"{at}.{number}")
    elif isinstance(values, int | float) and not abs(values) <= LARGEST:
        raise BadInput(f"{at} is beyond {LARGEST:g}: no record counts that far")


def plain(value: Any, most: int = 200) -> str:
    """One line of printable text: no control, direction or half characters, cut where it is too long."""
    kept = "".join(" " if c.isspace() else c for c in str(value)[: 8 * most] if c.isspace() or c.isprintable())
    line = " ".join(unicodedata.normalize("NFC", kept).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def inside(name: str) -> bool:
    """Whether a name from a manifest stays in its folder, on any system."""
    path = PurePosixPath(name)
    odd = any(not c.isprintable() or c in '\\:*?"<>|' for c in name)
    return bool(name) and not odd and not path.is_absolute() and ".." not in path.parts and str(path) == name


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _depth(value: Any) -> int:
    """Of the deepest object or list, found without recursion: the input may be deep."""
    level, waiting = 0, [value]
    while waiting:
        inner = [held for one in waiting for held in (one.values() if isinstance(one, dict) else one)]
        waiting = [one for one in inner if isinstance(one, dict | list)]
        level += 1
    return level
