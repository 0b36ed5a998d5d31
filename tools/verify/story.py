"""Rules of what is said in more than one place: claim, logs, manifest, code and the track must tell one story."""

from collections.abc import Iterator
from datetime import date

from tools.bundle import unbundle
from tools.verify.agree import disagreement, other_settings
from tools.verify.record import CODE, MANIFEST, SUBMISSION, Record
from tools.verify.verdict import Finding


def dated(record: Record) -> Iterator[Finding]:
    """A record that is older than it is would have no rivals."""
    if record.submission is None:
        return
    said = record.submission.date
    try:
        date.fromisoformat(said[:10])
    except ValueError:
        yield Finding("schema.date", "invalid", f"{SUBMISSION}: date {said!r:.40} does not begin with YYYY-MM-DD")
        return
    name = record.path.name
    if name[:4].isdigit() and name[4:5] == "-" and not name.startswith(said[:10]):
        yield disagreement("schema.date", "date", said[:10], "the folder is named", name, "flag")


def rule_of_the_score(record: Record) -> Iterator[Finding]:
    claim = record.submission
    if claim is None:
        return
    for seed, log in record.logs.items():
        scored, trained = log.config.get("eval"), log.config.get("train")
        if not isinstance(scored, dict) or not isinstance(trained, dict):
            continue
        for key, said, logged in (
            ("stride", claim.evaluation.stride, scored.get("stride")),
            ("context", claim.evaluation.context, scored.get("context") or trained.get("seq_len")),
            ("adapt", claim.evaluation.adapt, scored.get("adapt", "")),  # a run's own score has none
        ):
            if said != logged:
                yield disagreement("number.evaluation", f"evaluation.{key}", said, f"seed {seed}'s log has", logged)


def noted_config(record: Record) -> Iterator[Finding]:
    noted = record.submission.notes.get("config") if record.submission else None
    for seed, log in record.logs.items() if noted else ():
        if log.config and (names := other_settings(log.config, noted)):
            message = f"{SUBMISSION}: notes.config differs from seed {seed}'s log in {names:.200}"
            yield Finding("seed.config", "invalid", message, {"seed": seed})


def kept_rules(record: Record) -> Iterator[Finding]:
    """What the record says of itself that the track's rules do not allow."""
    claim, track = record.submission, record.track
    if claim is None or track is None:
        return
    for name, kept in claim.compliance.items():
        if not kept:
            yield Finding("claim.compliance", "flag", f"it says itself that it is not {name.replace('_', ' '):.80}")
    slowest = max((result.eval_seconds for result in claim.seed_results.values()), default=0.0)
    if track.eval_seconds and slowest > track.eval_seconds:
        message = f"the shipped code scored in {slowest:.1f} s; {track.name} gives {track.eval_seconds:g} s"
        yield Finding("budget.eval", "flag", message, {"eval_seconds": slowest})


def machine(record: Record) -> Iterator[Finding]:
    claim, track = record.submission, record.track
    if claim is None or track is None:
        return
    for seed, log in record.logs.items():
        if log.machine is None:
            message = f"seed {seed}'s log does not say on what it ran, in the words that a run has for it"
            yield Finding("claim.hardware", "unverified", message, {"seed": seed})
            continue
        if claim.hardware != log.machine.described:
            source = f"seed {seed}'s log says"
            yield disagreement("claim.hardware", "hardware", claim.hardware, source, log.machine.described, "flag")
        used = log.machine.ranks * (log.machine.threads if log.machine.kind == "cpu" else 1)
        if track.device not in ("any", log.machine.kind) or (track.devices and used > track.devices):
            message = f"seed {seed} ran on {log.machine.described}; {track.name} is for {track.hardware}"
            yield Finding("claim.hardware", "flag", message, {"seed": seed, "track": track.hardware})


def shipped_code(record: Record) -> Iterator[Finding]:
    """The single file is of the form, the hash and the sources that manifest and claim say."""
    if record.manifest is None or CODE not in record.folder:
        return
    code, data = record.manifest.code, record.folder.read(CODE)
    inside = unbundle(data)
    noted = record.submission.notes.get("code") if record.submission else None
    claimed = noted.get("sha256") if isinstance(noted, dict) else None
    if claimed is not None and claimed != record.folder.sha256(CODE):
        yield disagreement("hash.code", "notes.code.sha256", claimed, f"{CODE} has", record.folder.sha256(CODE))
    if inside is not None and code.packed != inside.packed:
        found = "packed" if inside.packed else "not packed"
        yield Finding("hash.code", "unverified", f"{MANIFEST} says packed: {code.packed}, and {CODE} is {found}")
    elif inside is not None and code.sources_sha256 and code.sources_sha256 != inside.sources_sha256:
        message = f"{CODE} does not hold the hash of its sources that {MANIFEST} has"
        yield Finding("hash.sources", "unverified", message, {"listed": code.sources_sha256})
    elif inside is None and code.sources and not code.packed:
        message = f"{MANIFEST} lists {len(code.sources)} sources, and {CODE} names none that a section was taken from"
        yield Finding("hash.sources", "unverified", message)
