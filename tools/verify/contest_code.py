"""The contest's scripts by reading alone: the families of bugs that spread from one record to the next, as flags.

Patterns are of how the public scripts are spelled; another spelling is not seen, and one that is seen may be innocent.
"""

import re
from collections.abc import Callable, Iterator

from base.errors import BadInput
from tools.verify.code import code_findings
from tools.verify.files import CODE_ENDS
from tools.verify.folder import Folder
from tools.verify.unpacking import sources_inside
from tools.verify.verdict import Finding

ADDS_SPACE = re.compile(r"has_leading_space\w*\s*[\[&]|leading_space_lut|has_space\w*\[")
SPACED_PIECE = re.compile(r"len\(\s*\w+\.replace\(\s*['\"](?:▁|\\u2581)['\"]\s*,\s*['\"] ['\"]\s*\)\.encode")
AND_ONE = re.compile(r"\)\s*\+\s*1\b")
DECODED_ONE = re.compile(r"len\(\s*\w+\.decode(?:_ids)?\(\s*\[[^\],]+\]\s*\)\s*\.encode")
KEY = re.compile(r"(?:key|hash|idx|bucket)\w*\s*$")
CONTEXT, TARGET = re.compile(r"ctx|context"), re.compile(r"\b(?:tgt|target)")
TABLE = re.compile(r"np\.add\.at|np\.bincount|scatter_add_|index_add_|index_put_|\w_tables?\[")
LONGEST_LINE = 2_000  # characters; what is longer is data
NOISY = {"code.environment", "code.requirements", "code.download", "code.packed", "code.path"}


def contest_code(folder: Folder, logs: dict[str, str]) -> Iterator[Finding]:
    programs: dict[str, bytes] = {}
    for name in sorted(folder.files):
        if name.endswith(".py"):
            try:
                programs[name] = folder.read(name)
            except BadInput as bad:
                yield Finding("code.syntax", "unverified", str(bad), {"file": name})
        elif name.endswith(CODE_ENDS) and not name.endswith((".gz", ".xz", ".zst", ".sh")):
            message = f"{name} ({folder.files[name]:,} bytes) is code that a reader of Python does not see into"
            yield Finding("files.code", "flag", message, {"file": name, "bytes": folder.files[name]})
    texts = {name: [data.decode("utf-8", "replace"), *sources_inside(data)] for name, data in programs.items()}
    for name, source in programs.items():
        yield from _patterns(name, "\n".join(texts[name]))
        quiet: dict[str, int] = {}
        for finding in code_findings(name, source, None):
            if finding.rule in NOISY:
                quiet[finding.rule] = quiet.get(finding.rule, 0) + 1
            else:
                yield finding
        for rule, count in quiet.items():
            yield Finding(rule, "note", f"{name}: {count} such place(s)", {"file": name, "count": count})
    yield from _in_logs(texts, logs)


def _in_logs(programs: dict[str, list[str]], logs: dict[str, str]) -> Iterator[Finding]:
    """The source that a log begins with must be a shipped one, plain or packed; a stub that is part of it is not."""
    scripts = [(name, text) for name, texts in programs.items() for text in map(_lines, texts) if _trains(text)]
    for name, log in [(name, _lines(log)) for name, log in logs.items()]:
        if programs and _trains(log):
            same = next((script for script, text in scripts if text in log), None)
            message = f"{name} holds {f'the very source of {same}' if same else 'a source that no shipped script is'}"
            yield Finding("hash.sources", "note" if same else "flag", message, {"file": name})


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").strip()


def _trains(text: str) -> bool:
    return "import torch" in text and "\ndef main(" in text


def _patterns(name: str, source: str) -> Iterator[Finding]:
    lines = [line if len(line) <= LONGEST_LINE else "" for line in source.splitlines()]
    adds, fills = any(map(ADDS_SPACE.search, lines)), any(map(TABLE.search, lines))
    for rule, what, seen in (
        (
            "code.bytes", "counts a leading space in its table of bytes and again where it adds them up",
            _first(lines, _counts_space) if adds else 0,
        ),
        (
            "code.bytes", "counts bytes by decoding single tokens, which makes three of each byte token",
            0 if "is_byte" in source else _first(lines, lambda line: bool(DECODED_ONE.search(line))),
        ),
        (
            "code.target", "keys a cache by the token that is to be predicted, so that its shares sum to anything",
            _first(lines, _keyed_by_target) if fills else 0,
        ),
    ):  # fmt: skip
        if seen:
            message = f"{name}:{seen} {what}: {lines[seen - 1].strip():.100}"
            yield Finding(rule, "flag", message, {"file": name, "line": seen})


def _first(lines: list[str], wanted: Callable[[str], bool]) -> int:
    """The number of the first such line; 0: none is."""
    return next((number for number, line in enumerate(lines, 1) if wanted(line)), 0)


def _counts_space(line: str) -> bool:
    added = "base_bytes" in line and "len(" in line and "encode" in line and AND_ONE.search(line)
    return bool(SPACED_PIECE.search(line) or added)


def _keyed_by_target(line: str) -> bool:
    left, _, right = line.partition("=")
    mixed = "^" in right or "+" in right
    return bool(mixed and KEY.search(left) and CONTEXT.search(right) and TARGET.search(right))
