"""Rules of the folder itself: what has to be there, what nobody asked for, what the manifest and the hashes say."""

import re
from collections.abc import Iterator

from base.errors import BadInput
from base.files import is_inside
from quant.format import Contents, read_head
from tools.verify.agree import MAY_DIFFER, differing, disagreement
from tools.verify.code import CODE_ENDS
from tools.verify.record import (
    ARTIFACT,
    CODE,
    FIGURES,
    MANIFEST,
    README,
    REQUIREMENTS,
    SUBMISSION,
    TOKENIZER,
    Record,
)
from tools.verify.verdict import Finding

REQUIRED = (SUBMISSION, MANIFEST, CODE, ARTIFACT, TOKENIZER, REQUIREMENTS)
WANTED = (README, *FIGURES)
OF_A_SEED = re.compile(r"(?:train|metrics|model)_seed(0|[1-9]\d{0,17})\.(?:log|jsonl|golf)")
PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
FIGURE_BYTES, ASIDE_BYTES = 1 << 20, 1 << 12  # of a picture, and of what is in it and is no picture


def files(record: Record) -> Iterator[Finding]:
    for name, why in record.folder.refused.items():
        yield Finding(
            "files.plain", "invalid", f"{name!r:.120} is {why}; a record has plain files only", {"file": name}
        )
    for name in REQUIRED:
        if name not in record.folder and name not in record.folder.refused:
            yield Finding("files.required", "unverified", f"{name} is missing", {"file": name})
    for name in WANTED:
        if name not in record.folder:
            yield Finding("files.wanted", "flag", f"{name} is missing, which people would read", {"file": name})
    for name, role in sorted(claimed_files(record).items()):
        if not is_inside(name):
            yield Finding("files.outside", "invalid", f"{role} is named {name!r:.100}: not a file of the folder")
        elif name not in record.folder:
            yield Finding("files.required", "unverified", f"{name} is missing: {role}", {"file": name})


def extra_files(record: Record) -> Iterator[Finding]:
    """What is neither asked for nor claimed: it may hold code or weights, so it is counted (size.strict)."""
    for name in extras(record):
        size = record.folder.files[name]
        if name.endswith(CODE_ENDS):
            yield Finding(
                "files.code", "flag", f"{name} ({size:,} bytes) is code beside {CODE}, which has to hold all of it",
                {"file": name, "bytes": size},
            )  # fmt: skip
        else:
            yield Finding(
                "files.unexpected", "flag", f"{name} ({size:,} bytes) is no file of a record; it is counted as code",
                {"file": name, "bytes": size},
            )  # fmt: skip


def figures(record: Record) -> Iterator[Finding]:
    for name in FIGURES:
        if name in record.folder:
            try:
                data = record.folder.read(name)
            except BadInput as bad:
                yield Finding("files.figure", "flag", str(bad))
                continue
            aside = _aside(data)
            if not (data.startswith(PNG) and data.endswith(PNG_END)):
                yield Finding(
                    "files.figure", "flag", f"{name} is no PNG from its first byte to its last", {"file": name}
                )
            elif len(data) > FIGURE_BYTES or aside > ASIDE_BYTES:
                message = f"{name} ({len(data):,} bytes) is larger than a figure, or holds {aside:,} bytes beside it"
                yield Finding("files.figure", "flag", message, {"file": name, "bytes": len(data)})


def _aside(png: bytes) -> int:
    """Bytes of all chunks that are not the picture's."""
    at, aside = len(PNG), 0
    while at + 12 <= len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        aside += 0 if png[at + 4 : at + 8] in (b"IHDR", b"PLTE", b"IDAT", b"IEND") else size
        at += 12 + size
    return min(len(png), aside + abs(len(png) - at))  # a chunk may claim more than there is


def dropped_seeds(record: Record) -> Iterator[Finding]:
    if record.submission is None:
        return
    known = set(record.submission.seeds)
    for seed in sorted({int(found[1]) for name in record.folder.files if (found := OF_A_SEED.fullmatch(name))} - known):
        names = [name for name in record.folder.files if (f := OF_A_SEED.fullmatch(name)) and int(f[1]) == seed]
        yield Finding(
            "seed.dropped", "invalid", f"seed {seed} is left out of the claim, but here is its {', '.join(names)}",
            {"seed": seed, "files": names},
        )  # fmt: skip


def claimed_files(record: Record) -> dict[str, str]:
    """Name -> what it is, of all that the submission names."""
    found = dict[str, str]()
    for seed, result in (record.submission.seed_results if record.submission else {}).items():
        found |= {result.log: f"the log of seed {seed:.20}", result.metrics: f"the metrics of seed {seed:.20}"}
        found |= {result.artifact: f"the artifact of seed {seed:.20}"}
    return found


def extras(record: Record) -> list[str]:
    known = {*REQUIRED, *WANTED, *claimed_files(record)}
    return [name for name in record.folder.files if name not in known]


def manifest(record: Record) -> Iterator[Finding]:
    if record.manifest is None:
        return
    listed = record.manifest.files
    for name, entry in listed.items():
        if not is_inside(name):
            yield Finding("files.outside", "invalid", f"{MANIFEST} names {name!r:.100}: not a file of the folder")
        elif name not in record.folder:
            yield Finding("hash.manifest", "invalid", f"{MANIFEST} lists {name}, which is not here", {"file": name})
        elif record.folder.files[name] != entry.bytes:
            yield disagreement(
                "hash.manifest", f"{MANIFEST}: bytes of {name}", entry.bytes, "the file has", record.folder.files[name]
            )
        elif (found := record.folder.sha256(name)) != entry.sha256:
            yield disagreement("hash.manifest", f"{MANIFEST}: sha256 of {name}", entry.sha256, "the file's is", found)
    for name in record.folder.files:
        if name not in listed and name != MANIFEST:
            yield Finding("hash.unlisted", "flag", f"{name} is not listed in {MANIFEST}", {"file": name})


def artifacts(record: Record) -> Iterator[Finding]:
    """Each seed's artifact is the one that its log ended with, and holds the run's config and tokenizer."""
    for seed, result in (record.submission.seed_results if record.submission else {}).items():
        if result.artifact not in record.folder:
            continue
        found, log = record.folder.sha256(result.artifact), record.log_of(seed)
        if found != result.artifact_sha256:
            yield disagreement(
                "hash.artifact",
                f"seed {seed}: artifact_sha256",
                result.artifact_sha256,
                f"{result.artifact} has",
                found,
            )
        if log and log.tail and found != log.tail.artifact_sha256:
            yield disagreement(
                "hash.log", f"{result.log}: artifact_sha256", log.tail.artifact_sha256, f"{result.artifact} has", found
            )
        try:
            head = read_head(record.folder.read(result.artifact))
        except BadInput as bad:
            yield Finding("artifact.format", "invalid", f"{result.artifact}: {bad}")
            continue
        yield from _head(record, seed, result.artifact, head)


def _head(record: Record, seed: str, name: str, head: Contents) -> Iterator[Finding]:
    log = record.log_of(seed)
    if log and log.config and set(differing(log.config, head.header.config)) - MAY_DIFFER:
        yield Finding(
            "artifact.config", "invalid", f"{name}: its config is not the one of seed {seed}'s log", {"seed": seed}
        )
    if TOKENIZER in record.folder and record.folder.read(TOKENIZER) != head.tokenizer:
        yield Finding(
            "hash.tokenizer", "invalid", f"{TOKENIZER} is not the tokenizer inside {name}",
            {"shipped": record.folder.sha256(TOKENIZER), "inside_bytes": len(head.tokenizer)},
        )  # fmt: skip
    if log:
        for key, said in (("data_sha256", log.data_sha256), ("tokenizer_sha256", log.tokenizer_sha256)):
            if said and getattr(head.header, key) != said:
                yield disagreement(
                    "data.artifact", f"{name}: {key}", getattr(head.header, key), f"seed {seed}'s log says", said
                )


def sources(record: Record) -> Iterator[Finding]:
    """The shipped tokenizer is the claimed one; data is one thing in submission, manifest and logs."""
    if record.submission is None:
        return
    data = record.submission.data
    if record.manifest and record.manifest.data != data:
        yield Finding("data.manifest", "invalid", f"{MANIFEST} and {SUBMISSION} describe different data")
    if TOKENIZER in record.folder and (found := record.folder.sha256(TOKENIZER)) != data.tokenizer_sha256:
        yield disagreement("data.tokenizer", "data.tokenizer_sha256", data.tokenizer_sha256, f"{TOKENIZER} has", found)
    for seed, log in record.logs.items():
        for key, said, claimed in (
            ("data.sha256", log.data_sha256, data.sha256),
            ("data.tokenizer_sha256", log.tokenizer_sha256, data.tokenizer_sha256),
        ):
            if said and said != claimed:
                yield disagreement("data.log", key, claimed, f"seed {seed}'s log says", said)
    if (
        record.track
        and record.track.data not in ("any", data.name)
        and not data.name.startswith(f"{record.track.data}-")
    ):
        yield disagreement("data.track", "data.name", data.name, f"{record.track.name} is on", record.track.data)
