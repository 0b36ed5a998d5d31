"""The first tier: what a record's folder holds, what its evidence shows, and that claim and page follow from it.

    record, findings = first_tier(folder, records)      the record is None where its evidence cannot be read

Reads, runs nothing. Evidence that is consistent is still only the author's word: the second tier measures it.
"""

import re
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from base.config import to_dict
from base.errors import BadInput, CheckFailed
from base.files import read_json_object
from base.source import hash_of
from tools.bundle import unbundle
from tools.record.claim import Record, open_record
from tools.record.page import page
from tools.record.runs import differences
from tools.record.schema import CODE, README, REQUIREMENTS, SUBMISSION
from tools.verify.code import code_findings, texts_inside
from tools.verify.evidence_rules import check_metrics, check_seeds
from tools.verify.files import check_files, check_manifest, extra_files, needed_files
from tools.verify.folder import Folder
from tools.verify.track_rules import check_clocks, check_hardware, check_lead, check_size, check_statement
from tools.verify.verdict import Finding, Level, contradiction

HASH_ROW = re.compile(r"""['"]([\w/]+\.py)['"]: *['"]([0-9a-f]{64})['"]""")  # of our first record's single file


def first_tier(folder: Folder, records: Path) -> tuple[Record | None, list[Finding]]:
    """`records`: where the rows to beat are."""
    findings = [*attempt(check_files, folder), *attempt(check_manifest, folder), *attempt(check_code, folder)]
    try:
        record = open_record(folder)
    except (BadInput, CheckFailed, ArithmeticError) as error:
        missing = [name for name in needed_files(folder) if name not in folder]
        level: Level = "unverified" if missing else "invalid"
        message = f"the claim cannot be computed: {error}"
        return None, [*findings, Finding("evidence.read", level, message, {"missing": missing})]
    of_evidence = (check_seeds, check_metrics, check_clocks, check_size, check_statement, check_hardware)
    for rule in (*of_evidence, check_claim, check_page, check_sources):
        findings += attempt(rule, record)
    return record, [*findings, *attempt(check_lead, record, records)]


def attempt(rule: Callable[..., Iterator[Finding]], *subjects: Any) -> Iterator[Finding]:
    """A rule's findings; a file that is too large, refused or gone ends the rule, not the check."""
    try:
        yield from rule(*subjects)
    except BadInput as bad:
        yield Finding("files.readable", "unverified", str(bad))


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


def check_claim(record: Record) -> Iterator[Finding]:
    """submission.json is what the evidence gives, key by key."""
    claim = record.claim
    measured = {"val_bpb": claim.val_bpb, "val_bpb_std": claim.val_bpb_std, "val_loss": claim.val_loss}
    seeds = f"{len(claim.seeds)} seed{'s' * (len(claim.seeds) > 1)}"
    message = f"val_bpb {claim.val_bpb:.8f} over {seeds}, computed from the evidence"
    yield Finding("claim.measured", "note", message, measured)
    if claim.evaluation.adapt is not None:
        yield Finding("claim.adapt", "note", f"the score adapts: {claim.evaluation.adapt}")
    if SUBMISSION not in record.folder:
        return
    try:
        claimed = read_json_object(record.folder.text(SUBMISSION), SUBMISSION)
    except BadInput as bad:
        yield Finding("schema.submission", "invalid", str(bad))
        return
    for key, value, derived in differences(claimed, to_dict(claim)):
        what = f"{SUBMISSION}: {key}"
        yield contradiction(f"claim.{key.partition('.')[0]}", what, value, "the evidence gives", derived)


def check_page(record: Record) -> Iterator[Finding]:
    """README.md is what the claim gives, line by line."""
    if README not in record.folder:
        return
    lines = record.folder.text(README).split("\n")
    for number, (line, other) in enumerate(zip_longest(lines, page(record.claim).split("\n")), 1):
        if line != other:
            message = f"{README}, line {number}: {line!r:.100}; the claim gives {other!r:.100}"
            yield Finding("page.readme", "invalid", message, {"line": number})
            return
