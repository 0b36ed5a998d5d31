"""The first tier on a record of ours: every rule that only reads, in the order in which a person would ask."""

import platform
from collections.abc import Iterator
from functools import partial

from base.errors import BadInput
from base.source import hash_of
from tools.bundling.join import BANNER
from tools.verify.agree import disagreement
from tools.verify.code import code_findings
from tools.verify.files import artifacts, dropped_seeds, extra_files, extras, figures, files, manifest, sources
from tools.verify.logs import budgets, logs, metrics
from tools.verify.numbers import means, readme, seed_numbers
from tools.verify.record import CODE, REQUIREMENTS, Options, Record
from tools.verify.seeds import numbered, one_configuration, own_runs, proved_lead
from tools.verify.sizes import cap, sizes
from tools.verify.story import dated, kept_rules, machine, noted_config, rule_of_the_score, shipped_code
from tools.verify.verdict import Finding, Level

RULES = (
    files, extra_files, figures, dropped_seeds, manifest, artifacts, sources, sizes, cap, logs, metrics, budgets,
    numbered, own_runs, one_configuration, seed_numbers, means, readme, dated, rule_of_the_score, noted_config,
    kept_rules, machine, shipped_code,
)  # fmt: skip


def static_findings(record: Record, options: Options) -> Iterator[Finding]:
    yield from record.troubles
    for rule in (*RULES, partial(proved_lead, options=options), code):
        try:
            yield from rule(record)
        except BadInput as bad:  # of a file that is too large, refused, or gone
            yield Finding("files.readable", "unverified", str(bad))


def code(record: Record) -> Iterator[Finding]:
    """The single file, and every other that could be run."""
    claim = record.submission
    same = claim is not None and claim.python_version.split(".")[:2] == platform.python_version().split(".")[:2]
    unreadable: Level = "invalid" if same else "unverified"
    for name in [CODE, *(name for name in extras(record) if name.endswith(".py"))]:
        if name not in record.folder:
            continue
        try:
            yield from _banners(record, name)
            listed = record.folder.text(REQUIREMENTS) if REQUIREMENTS in record.folder else None
            yield from code_findings(name, record.folder.read(name), listed, unreadable)
        except BadInput as bad:
            yield Finding("code.syntax", unreadable, str(bad), {"file": name})


def _banners(record: Record, name: str) -> Iterator[Finding]:
    """A readable single file says above each section which source it was taken from: one of the manifest's."""
    if record.manifest is None:
        return
    code = record.manifest.code
    said = [(path.decode(), sha256.decode()) for path, sha256 in BANNER.findall(record.folder.read(name))]
    for path, sha256 in said if code.sources else ():
        if code.sources.get(path) != sha256:
            known = code.sources.get(path)
            yield disagreement("hash.sources", f"{name}: sha256 of {path}", sha256, "manifest.json has", known)
    found, listed = hash_of(dict(said)), code.sources_sha256
    if said and not code.sources and found != listed:
        yield disagreement("hash.sources", f"{name}: its sections' sources", found, "manifest.json has", listed)
