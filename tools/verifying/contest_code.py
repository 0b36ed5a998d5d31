"""The contest's scripts by reading alone: the families of bugs that spread from one record to the next, as flags.

Patterns are of how the public scripts are spelled; another spelling is not seen, and one that is seen may be innocent.
"""

import re
from collections.abc import Iterator

from base.errors import BadInput
from tools.claims.verdict import Finding
from tools.verifying.code import code_findings
from tools.verifying.files import CODE_ENDS
from tools.verifying.folder import Folder
from tools.verifying.unpacking import sources_inside

ADDS_SPACE = re.compile(r"has_leading_space\w*\s*\[|has_leading_space\w*\s*&|leading_space_lut|has_space\w*\[")
COUNTS_SPACE = re.compile(
    r"len\(\s*\w+\.replace\(\s*['\"](?:▁|\\u2581)['\"]\s*,\s*['\"] ['\"]\s*\)\.encode"
    r"|base_bytes\w*\[[^\]]+\]\s*=\s*[^\n]*len\([^\n]*encode[^\n]*\)\s*\+\s*1\b"
)
DECODED_ONE = re.compile(r"len\(\s*\w+\.decode(?:_ids)?\(\s*\[[^\]\n,]+\]\s*\)\s*\.encode")
TARGET_IN_KEY = re.compile(
    r"\b\w*(?:key|hash|idx|bucket)\w*\s*=\s*[^\n]*(?:ctx|context)\w*[^\n]*(?:\^|\+)[^\n]*\b(?:tgt|target)\w*"
)
TABLE = re.compile(r"np\.add\.at|np\.bincount|scatter_add_|index_add_|index_put_|\w+_tables?\[")
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
    for name, source in programs.items():
        yield from _patterns(name, "\n".join([source.decode("utf-8", "replace"), *sources_inside(source)]))
        quiet: dict[str, int] = {}
        for finding in code_findings(name, source, None):
            if finding.rule in NOISY:
                quiet[finding.rule] = quiet.get(finding.rule, 0) + 1
            else:
                yield finding
        for rule, count in quiet.items():
            yield Finding(rule, "note", f"{name}: {count} such place(s)", {"file": name, "count": count})
    for name, text in logs.items():
        if "\nimport torch" in text and "\ndef main(" in text and programs:
            matching = [
                script for script, source in programs.items() if source.decode("utf-8", "replace").strip() in text
            ]
            if matching:
                yield Finding("hash.sources", "note", f"{name} holds the very source of {matching[0]}", {"file": name})
            else:
                yield Finding(
                    "hash.sources", "flag", f"{name} holds a source that is none of the shipped scripts", {"file": name}
                )


def _patterns(name: str, source: str) -> Iterator[Finding]:
    for rule, what, found in (
        (
            "code.bytes", "counts a leading space in its table of bytes and again where it adds them up",
            COUNTS_SPACE.search(source) if ADDS_SPACE.search(source) else None,
        ),
        (
            "code.bytes", "counts bytes by decoding single tokens, which makes three of each byte token",
            None if "is_byte" in source else DECODED_ONE.search(source),
        ),
        (
            "code.target", "keys a cache by the token that is to be predicted, so that its shares sum to anything",
            TARGET_IN_KEY.search(source) if TABLE.search(source) else None,
        ),
    ):  # fmt: skip
        if found:
            line = source.count("\n", 0, found.start()) + 1
            yield Finding(rule, "flag", f"{name}:{line} {what}: {found[0].strip():.100}", {"file": name, "line": line})
