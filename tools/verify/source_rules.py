"""First tier: the code that a record ships. It is made of the named sources; all of it is read, and never run."""

import re
from collections.abc import Iterator

from base.errors import BadInput
from base.source import hash_of
from tools.bundle import unbundle
from tools.record.claim import Record
from tools.record.schema import CODE, REQUIREMENTS
from tools.verify.code import code_findings, texts_inside
from tools.verify.files import extra_files
from tools.verify.folder import Folder
from tools.verify.verdict import Finding, contradiction

HASH_ROW = re.compile(r"""['"]([\w/]+\.py)['"]: *['"]([0-9a-f]{64})['"]""")


def check_code(folder: Folder) -> Iterator[Finding]:
    """What the single file, and every other Python file, imports, opens, starts and hides."""
    requirements = folder.text(REQUIREMENTS) if REQUIREMENTS in folder else None
    for name in [CODE, *extra_files(folder)]:
        if name not in folder or not name.endswith(".py"):
            continue
        try:
            data = folder.read(name)
        except BadInput as bad:
            yield Finding("code.syntax", "invalid", f"{name}: {bad}", {"file": name})
            continue
        yield from code_findings(name, data, requirements, "invalid")


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
        return
    texts = "".join(texts_inside(data))  # the first record has another form
    if expected != hash_of(dict(HASH_ROW.findall(texts))):
        message = f"{CODE} is not of the form that tools.bundle writes, and holds no table of its sources' hashes"
        yield Finding("hash.sources", "unverified", message, {"expected": expected})
