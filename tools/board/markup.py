"""HTML that cannot be broken out of: text is escaped by being text, and only `Html` is taken as markup.

tag("a", name, href=link, class_="name")      None or False leaves an attribute out, True writes it bare
"""

import html
import re
import zlib
from urllib.parse import quote

from tools.board.files import plain

VOID = {"img", "rect", "line", "path", "circle"}  # closed in their tag, as SVG asks and HTML allows


class Html(str):
    """Markup that this package made."""

    __slots__ = ()


Attribute = str | int | float | bool | None


def tag(kind: str, *children: str, **attributes: Attribute) -> Html:
    said = []
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if value is True:
            said.append(f" {name}")
        elif value is not None and value is not False:
            said.append(f' {name}="{html.escape(_number(value))}"')
    opened = f"<{kind}{''.join(said)}"
    return Html(f"{opened}/>") if kind in VOID else Html(f"{opened}>{join(*children)}</{kind}>")


def join(*parts: str) -> Html:
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def fragment(place: str) -> str:
    """The id of a record's panel: readable, the same every time, and its own even for odd names."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", place.replace("/", "."))
    return safe if safe.replace(".", "/", 1) == place else f"{safe[:60]}-{zlib.crc32(place.encode()):08x}"


def link(place: str, name: str = "") -> str:
    """A file of a record, as seen from the page: always relative, whatever it is called."""
    return "./" + quote(f"{place}/{name}", safe="/")


def text(value: object, most: int = 200) -> str:
    return plain(value, most)


def _number(value: str | int | float | bool) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
