"""First tier: the code that a record ships. It is made of the named sources; all of it is read, and never run."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from base.errors import BadInput
from base.packing import HOOK, strip_source
from base.source import hash_of
from tools.bundle import unbundle
from tools.record.schema import CODE, REQUIREMENTS
from tools.verify.code import code_findings, module_findings
from tools.verify.files import extra_files
from tools.verify.folder import Folder
from tools.verify.record import Record
from tools.verify.unpacking import NOT_PARSED, unpacked
from tools.verify.verdict import Finding, contradiction

ROOT = Path(__file__).parents[2]
HASH_ROW = re.compile(r"""['"]([\w/]+\.py)['"]: *['"]([0-9a-f]{64})['"]""")


def check_code(folder: Folder) -> Iterator[Finding]:
    """What the single file, and every other Python file, imports, opens, starts and hides."""
    requirements = folder.text(REQUIREMENTS) if REQUIREMENTS in folder else None
    for name in [CODE, *extra_files(folder)]:
        if name not in folder or not name.endswith(".py"):
            continue
        try:
            data = folder.read(name)
            inside = unbundle(data)
        except BadInput as bad:
            yield Finding("code.syntax", "invalid", f"{name}: {bad}", {"file": name})
            continue
        if inside is None:
            yield from code_findings(name, data, requirements, "invalid")
            continue
        modules = dict(inside.modules)
        if is_own_hook(modules.get(HOOK, "")):  # it executes the other modules, which are read here
            del modules[HOOK]
        yield from module_findings(modules, requirements)


def is_own_hook(text: str) -> bool:
    """Whether a single file's import hook is this tree's, but for comments and layout."""
    ours = (ROOT / HOOK).read_text(encoding="utf-8")
    try:
        return ast.dump(ast.parse(strip_source(text))) == ast.dump(ast.parse(strip_source(ours)))
    except NOT_PARSED:
        return False


def check_sources(record: Record) -> Iterator[Finding]:
    """The single file is made of the sources that the runs' results name."""
    expected = record.claim.code.sources_sha256
    data = record.folder.read(CODE)
    try:
        inside = unbundle(data)
    except BadInput as bad:
        yield Finding("hash.sources", "invalid", f"{CODE}: {bad}")
        return
    if inside is not None:
        found = inside.sources_sha256 if inside.packed else hash_of(inside.hashes())
        if expected != found:
            yield contradiction("hash.sources", "sources_sha256", expected, f"{CODE} holds", found)
    elif expected != hash_of(dict(HASH_ROW.findall(unpacked_text(data)))):
        message = f"{CODE} is not of the form that tools.bundle writes, and holds no table of its sources' hashes"
        yield Finding("hash.sources", "unverified", message, {"expected": expected})


def unpacked_text(source: bytes) -> str:
    """What is packed in a program of the form that the first record has; "" where it cannot be read."""
    try:
        return "".join(program.text for program in unpacked(ast.parse(source)))
    except NOT_PARSED:
        return ""
