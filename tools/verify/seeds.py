"""Rules of seeds and of statistics: as many as the track asks, each its own run of one configuration; a proved lead."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from base.config import Layer, build
from base.errors import BadInput
from base.files import read_plain
from base.source import hash_of
from eval.stats import ENFORCED_P, Rule, lead, nats_per_bpb, seeds
from tools.record.schema import Submission
from tools.verify.agree import disagreement, other_settings
from tools.verify.folder import Folder
from tools.verify.record import SUBMISSION, VERDICTS, Options, Record
from tools.verify.strict import read_json
from tools.verify.verdict import Finding, Level

VERDICTS_BYTES = 4 << 20


def numbered(record: Record) -> Iterator[Finding]:
    claim = record.submission
    if claim is None:
        return
    twice = sorted({seed for seed in claim.seeds if claim.seeds.count(seed) > 1})
    if twice:
        yield Finding(
            "seed.twice",
            "invalid",
            f"seed {twice[0]} is claimed {claim.seeds.count(twice[0])} times",
            {"seeds": claim.seeds},
        )
    if missing := {str(seed) for seed in claim.seeds} ^ set(claim.seed_results):
        yield Finding("seed.results", "invalid", f"seeds and seed_results differ in {', '.join(sorted(missing)):.100}")
    if record.track and record.track.ranked and len(set(claim.seeds)) < record.track.seeds:
        yield Finding(
            "seed.few", "unverified", f"{len(set(claim.seeds))} seeds; the track asks for {record.track.seeds}",
            {"seeds": claim.seeds, "asked": record.track.seeds},
        )  # fmt: skip
    if record.tracks.version != claim.track_version:
        newer = claim.track_version > record.tracks.version
        yield disagreement(
            "schema.track_version", "track_version", claim.track_version, "the tracks known here are of version",
            record.tracks.version, "invalid" if newer else "flag",
        )  # fmt: skip


def own_runs(record: Record) -> Iterator[Finding]:
    """No file serves two seeds: not by its name, not by its bytes."""
    for kind in ("log", "metrics", "artifact"):
        of: dict[str, list[str]] = defaultdict(list)
        for seed, result in (record.submission.seed_results if record.submission else {}).items():
            if getattr(result, kind) in record.folder:
                of[record.folder.sha256(getattr(result, kind))].append(seed)
        for shared in of.values():
            if len(shared) > 1:
                yield Finding(
                    "seed.same",
                    "invalid",
                    f"seeds {' and '.join(shared)} have the same {kind}, byte by byte",
                    {"seeds": shared},
                )


def one_configuration(record: Record) -> Iterator[Finding]:
    """A mean is of one configuration and one source: the logs differ in their seed alone."""
    known = [(seed, log) for seed, log in record.logs.items() if log.config]
    for seed, log in known[1:]:
        first, config = known[0][0], known[0][1].config
        if names := other_settings(config, log.config):
            yield Finding(
                "seed.config",
                "invalid",
                f"seeds {first} and {seed} differ in {names:.200}: a mean is of one configuration",
            )
    if record.manifest:
        code = record.manifest.code
        listed = code.sources_sha256 or hash_of(code.sources)
        if code.sources and (found := hash_of(code.sources)) != listed:
            yield disagreement("hash.sources", "manifest.json: sources_sha256", listed, "its sources hash to", found)
        for seed, log in record.logs.items():
            if log.sources_sha256 and log.sources_sha256 != listed:
                yield disagreement(
                    "hash.sources",
                    f"seed {seed}'s log: sources",
                    log.sources_sha256,
                    "manifest.json has",
                    listed,
                )
    elif len({log.sources_sha256 for log in record.logs.values()}) > 1:
        yield Finding("hash.sources", "invalid", "the seeds' logs name different sources: a mean is of one program")


def proved_lead(record: Record, options: Options) -> Iterator[Finding]:
    """Does it lead the best row on the same data, and is that proved? Under the written rule and the enforced one."""
    claim, track = record.submission, record.track
    if claim is None or track is None or not track.ranked:
        return
    scores = [log.tail.bpb for log in record.logs.values() if log.tail]
    rival = best_rival(claim, options.records, record.path)
    if not scores or rival is None:
        yield Finding("stats.lead", "note", f"no other row of {track.name} is on this data: there is no lead to prove")
        return
    margin_nats = track.margin_nats if options.margin_nats is None else options.margin_nats
    written = Rule(
        "written",
        margin_nats / nats_per_bpb(claim.evaluation.val_tokens, claim.evaluation.val_bytes),
        options.p or track.p,
    )
    ours, his = seeds(scores), seeds([result.val_bpb for result in rival.seed_results.values()])
    if ours.mean >= his.mean:
        yield Finding("stats.lead", "note", f"val_bpb {ours.mean:.5f} does not lead {rival.name}'s {his.mean:.5f}")
        return
    if ours.n < 2:
        yield Finding(
            "stats.lead",
            "flag",
            f"leads {rival.name} by {his.mean - ours.mean:.5f} bpb with one seed, which proves nothing",
        )
        return
    for rule in (written, Rule("enforced", 0.0, ENFORCED_P)):
        found = lead(ours, his, rule)
        evidence = {**asdict(found), "rival": rival.name, "rival_bpb": his.mean}
        message = f"{rule.name} rule: leads {rival.name} by {found.gap:.5f} bpb, margin {found.margin:.5f}, "
        message += found.reason or f"p = {found.p:.3g}, {'holds' if found.holds else 'not proved'} (below {rule.p:g})"
        level: Level = "note" if found.holds or rule.name != "written" else "flag"
        yield Finding("stats.lead", level, message, evidence)


def _refused(records: Path) -> set[str]:
    """Rows that were found invalid, by the verdicts that were kept: nobody has to lead them."""
    try:
        kept = read_json(read_plain(records / VERDICTS, VERDICTS_BYTES).decode(), VERDICTS)
    except (BadInput, UnicodeDecodeError):
        return set()
    said = kept.items() if isinstance(kept, dict) else ()
    return {place for place, told in said if isinstance(told, dict) and told.get("verdict") == "invalid"}


def best_rival(claim: Submission, records: Path, own: Path) -> Submission | None:
    """The best row on the same data that was there before; what cannot be read is no row."""
    rows, refused = [], _refused(records)
    for path in sorted((records / claim.track).glob("*")):
        if not path.is_dir() or path.resolve() == own or f"{claim.track}/{path.name}" in refused:
            continue
        try:
            row = build(Submission, [Layer(SUBMISSION, read_json(Folder(path).text(SUBMISSION), SUBMISSION))])
        except (BadInput, ValueError, AttributeError):
            continue
        same = row.data.val_sha256 == claim.data.val_sha256 and row.data.tokenizer_sha256 == claim.data.tokenizer_sha256
        if same and row.date[:10] <= claim.date[:10]:
            rows.append(row)
    return min(rows, key=lambda row: row.val_bpb, default=None)
