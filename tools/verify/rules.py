"""The first tier: what a record's folder holds, what its evidence shows, and that claim and page follow from it.

    for finding in first_tier(folder, options): ...

Reads, runs nothing. Order: the folder's files, the evidence (typed, or the reason why not), evidence against itself and
against the track's rules, then the claim: computed again and compared key by key. Evidence that is consistent is still
only the author's word: the second tier measures it.
"""

import ast
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

from base.config import to_dict
from base.errors import BadInput
from base.files import read_json_object
from base.run_folder import ARTIFACT
from base.source import hash_of
from data.manifest import TOKENIZER
from eval.metric import BLOCK_TOKENS
from eval.stats import ENFORCED_P, Rule, lead, nats_per_bpb, seeds
from tools.bundle import unbundle
from tools.record.claim import claim as compute_claim
from tools.record.claim import last_step_seconds, median_seed
from tools.record.evidence import Evidence, SeedEvidence, read_evidence, seed_files
from tools.record.page import page
from tools.record.rows import best_rival
from tools.record.runs import differing_keys
from tools.record.schema import (
    CODE,
    EVIDENCE,
    README,
    REQUIREMENTS,
    SUBMISSION,
    TRACKS,
    Submission,
    Track,
    load_tracks,
)
from tools.verify.code import code_findings
from tools.verify.files import check_files, check_manifest, extra_files, needed_files
from tools.verify.folder import Folder
from tools.verify.unpacking import NOT_PARSED, unpacked
from tools.verify.verdict import Finding, Level, contradiction

DERIVED = 1e-11  # relative: the same float sums on another machine
RESCORED = 2e-6  # relative: the same artifact scored on another number of threads
CLOCK_S = 0.002  # what two readings of one clock may differ by
INSIDE_SLACK_S = 5.0  # by which calibration exceeded the budget in merged rows of the contest: for people to judge
HASH = re.compile(r"\b[0-9a-f]{64}\b")
HASH_ROW = re.compile(r"""['"]([\w/]+\.py)['"]: *['"]([0-9a-f]{64})['"]""")
STALLED = 10  # times the average: a last step as slow as that is for people to judge


@dataclass(frozen=True, kw_only=True)
class Options:
    sample: bool = False  # the second tier on a sample of blocks
    rerun: bool = False  # train again
    data: Path | None = None  # the prepared dataset; None: found or made from the record's description
    margin_nats: float | None = None  # the lead to prove, instead of the track's own
    p: float | None = None
    records: Path = TRACKS.parent  # where the rows to beat are


@dataclass(frozen=True)
class Record:
    """A folder whose evidence could be read, with the claim that follows from it."""

    folder: Folder
    evidence: Evidence
    claim: Submission
    track: Track


def open_record(folder: Folder) -> Record:
    evidence = read_evidence(folder)
    track = load_tracks().named(evidence.file.statement.track)
    return Record(folder, evidence, compute_claim(evidence, track), track)


def first_tier(folder: Folder, options: Options) -> tuple[Record | None, list[Finding]]:
    findings = [*attempt(check_files, folder), *attempt(check_manifest, folder)]
    record = None
    try:
        record = open_record(folder)
    except BadInput as bad:
        missing = [name for name in needed_files(folder) if name not in folder]
        level: Level = "unverified" if missing else "invalid"
        findings.append(Finding("evidence.read", level, f"the claim cannot be computed: {bad}", {"missing": missing}))
    if record is not None:
        rules = (check_seeds, check_metrics, check_clocks, check_size, check_statement, check_claim, check_sources)
        for rule in rules:
            findings += attempt(rule, record)
        findings += attempt(check_lead, record, options)
    return record, [*findings, *attempt(check_code, folder)]


def attempt(rule: Callable[..., Iterator[Finding]], *subjects: Any) -> Iterator[Finding]:
    """A rule's findings; a file that is too large, refused or gone ends the rule, not the check."""
    try:
        yield from rule(*subjects)
    except BadInput as bad:
        yield Finding("files.readable", "unverified", str(bad))


# -- the evidence against itself ------------------------------------------------------------------------------------


def check_seeds(record: Record) -> Iterator[Finding]:
    evidence = record.evidence
    for seed in evidence.seeds:
        yield from _check_seed(seed, evidence)
    for one, other in pairwise(evidence.seeds):
        both = f"seeds {one.seed} and {other.seed}"
        if keys := differing_keys(one.head.header.config, other.head.header.config):
            message = f"{both} differ in {', '.join(keys):.200}: a mean is of one configuration"
            yield Finding("seed.config", "invalid", message, {"keys": keys})
        for key in ("sources_sha256", "params", "val_tokens", "val_bytes", "contest_bytes", "stride", "context"):
            ours, theirs = getattr(one.result, key), getattr(other.result, key)
            if ours != theirs:
                yield contradiction("seed.config", f"seed {one.seed}: {key}", ours, f"seed {other.seed} has", theirs)
    for kind in ("artifact", "metrics", "result", "log"):
        yield from _check_copies(record, kind)
    if record.track.ranked and len(evidence.seeds) < record.track.seeds:
        message = f"{len(evidence.seeds)} seeds; the track needs {record.track.seeds}"
        yield Finding("seed.few", "unverified", message)
    own_files = [seed.seed for seed in evidence.seeds if seed.artifact == ARTIFACT]
    if own_files != [median_seed(evidence.seeds).seed]:
        message = (
            f"{ARTIFACT} is that of {own_files}; it has to be the median seed's, {median_seed(evidence.seeds).seed}"
        )
        yield Finding("seed.median", "invalid", message)


def _check_seed(seed: SeedEvidence, evidence: Evidence) -> Iterator[Finding]:
    run, header, name = seed.result, seed.head.header, seed_files(seed.seed)["result"]
    pairs = [
        ("seed.number", "seed", run.seed, "its file is named for", seed.seed),
        ("seed.number", "seed", run.seed, f"{seed.artifact} has", header.config.get("seed")),
        ("hash.artifact", "artifact_sha256", run.artifact_sha256, f"{seed.artifact} has", seed.artifact_sha256),
        ("size.model", "artifact_bytes", run.artifact_bytes, f"{seed.artifact} has", seed.artifact_bytes),
        ("size.total", "total_bytes", run.total_bytes, "its parts add up to", run.artifact_bytes + run.code_bytes),
        ("evidence.rule", "stride", run.stride, f"{seed.artifact} has", header.stride),
        ("evidence.rule", "context", run.context, f"{seed.artifact} has", header.context),
        ("data.sha256", "data_sha256", run.data_sha256, f"{EVIDENCE} has", evidence.file.data.sha256),
        ("data.sha256", "data_sha256", run.data_sha256, f"{seed.artifact} has", header.data_sha256),
        ("data.val", "val_sha256", run.val_sha256, f"{EVIDENCE} has", evidence.file.data.val_sha256),
        ("data.tokenizer", "tokenizer_sha256", run.tokenizer_sha256, f"{TOKENIZER} has", evidence.tokenizer_sha256),
        ("data.tokenizer", "tokenizer_sha256", run.tokenizer_sha256, f"{seed.artifact} has", header.tokenizer_sha256),
        ("data.tokenizer", "tokenizer_sha256", run.tokenizer_sha256, f"{EVIDENCE} has",
         evidence.file.data.tokenizer_sha256),
    ]  # fmt: skip
    for rule, what, value, source, other in pairs:
        if value != other:
            yield contradiction(rule, f"{name}: {what}", value, source, other)
    blocks = -(-run.val_tokens // BLOCK_TOKENS)
    if len(seed.block_nats) != blocks:
        source = f"{run.val_tokens:,} targets make"
        yield contradiction("number.nats", f"seed {seed.seed}: blocks of nats", len(seed.block_nats), source, blocks)
    nats_per_token = seed.nats / max(run.val_tokens, 1)
    bpb = seed.nats / math.log(2) / max(run.val_bytes, 1)
    for key, value, derived in (
        ("val_nats_per_token", run.val_nats_per_token, nats_per_token),
        ("val_bpb", run.val_bpb, bpb),
        ("float_bpb", run.float_bpb, run.float_nats_per_token * run.val_tokens / math.log(2) / max(run.val_bytes, 1)),
    ):
        if not math.isclose(value, derived, rel_tol=RESCORED):
            yield contradiction("number.seed", f"{name}: {key}", value, "nats, tokens and bytes give", derived)


def _check_copies(record: Record, kind: str) -> Iterator[Finding]:
    """No file serves two seeds."""
    owners: dict[str, int] = {}
    for seed in record.evidence.seeds:
        name = seed.artifact if kind == "artifact" else seed_files(seed.seed)[kind]
        if name not in record.folder:
            continue
        first = owners.setdefault(record.folder.sha256(name), seed.seed)
        if first != seed.seed:
            message = f"seeds {first} and {seed.seed} have the same {kind}, byte for byte"
            yield Finding("seed.same", "invalid", message, {"seeds": [first, seed.seed]})


def check_metrics(record: Record) -> Iterator[Finding]:
    """A clock that runs forward, one step after another, to the result's own steps and seconds."""
    for seed in record.evidence.seeds:
        name = seed_files(seed.seed)["metrics"]
        start = {"step": 0, "elapsed_s": 0.0}
        for before, after in pairwise([start, *seed.steps]):
            where = f"{name}, step {after['step']:g}"
            took = after["elapsed_s"] - before["elapsed_s"]
            if after["step"] != before["step"] + 1:
                yield Finding("log.metrics", "invalid", f"{where} follows step {before['step']:g}")
                break
            if took < 0 or abs(took - after["step_s"]) > CLOCK_S:
                yield contradiction("log.metrics", f"{where}: step_s", after["step_s"], "the clock moved by", took)
                break
        last = seed.steps[-1] if seed.steps else start
        if last["step"] != seed.result.steps:
            yield contradiction("number.metrics", f"{name}: last step", last["step"], "the run has", seed.result.steps)
        if abs(last["elapsed_s"] - seed.result.train_seconds) > CLOCK_S:
            source = "the run has train_seconds"
            yield contradiction(
                "number.metrics", f"{name}: seconds", last["elapsed_s"], source, seed.result.train_seconds
            )


# -- the evidence against the track ---------------------------------------------------------------------------------


def check_clocks(record: Record) -> Iterator[Finding]:
    """A run may exceed its seconds by the step that it was in."""
    track = record.track
    for seed in record.evidence.seeds:
        yield from check_budget(seed, track)
        eval_s = record.claim.seed_results[str(seed.seed)].eval_seconds
        if track.eval_seconds and max(eval_s, seed.result.eval_seconds) > track.eval_seconds + CLOCK_S:
            message = f"seed {seed.seed} was scored in {max(eval_s, seed.result.eval_seconds):.1f} s; "
            message += f"{track.name} allows {track.eval_seconds:g} s"
            yield Finding("budget.eval", "invalid", message, {"seed": seed.seed, "eval_s": eval_s})


def check_budget(seed: SeedEvidence, track: Track) -> Iterator[Finding]:
    if not track.train_seconds:
        return
    train_s, calibration_s = seed.result.train_seconds, seed.result.calibration_seconds
    step_s = last_step_seconds(seed)
    average_s = train_s / max(seed.result.steps, 1)
    evidence = {"seed": seed.seed, "train_s": train_s, "calibration_s": calibration_s, "step_s": step_s}
    over_s = train_s - track.train_seconds
    both_over_s = over_s + calibration_s
    rule = f"the {track.train_seconds:g} s of {track.name}"
    if over_s > step_s + CLOCK_S:
        message = (
            f"seed {seed.seed} trained {train_s:.3f} s: {over_s:.3f} s over {rule}, and a step took {step_s:.3f} s"
        )
        yield Finding("budget.train", "invalid", message, evidence)
    elif over_s > STALLED * average_s + CLOCK_S:
        message = f"seed {seed.seed} trained {over_s:.3f} s over {rule}, in a last step of {step_s:.3f} s"
        yield Finding("budget.train", "flag", message, evidence)
    elif track.calibration == "inside" and both_over_s > step_s + CLOCK_S:
        level: Level = "invalid" if both_over_s > INSIDE_SLACK_S + step_s else "flag"
        message = f"seed {seed.seed} trained and calibrated {both_over_s:.3f} s over {rule}, which hold both"
        yield Finding("budget.calibration", level, message, evidence)
    elif calibration_s > track.train_seconds:
        message = f"seed {seed.seed} calibrated {calibration_s:.0f} s, longer than {rule}"
        yield Finding("budget.calibration", "flag", message, evidence)


def check_size(record: Record) -> Iterator[Finding]:
    """Code and the largest artifact under the cap; the strict total adds whatever else could be run or read."""
    total, cap = record.claim.bytes_total, record.track.cap_bytes
    strict = total + sum(record.folder.files[name] for name in extra_files(record.folder))
    if total > cap:
        yield Finding("size.cap", "invalid", f"code and artifact come to {total:,} bytes; the cap is {cap:,}")
    elif strict > cap:
        yield Finding("size.strict", "flag", f"with the other files it is {strict:,} bytes; the cap is {cap:,}")
    inside = max(seed.head.stream_bytes.get("tokenizer", 0) for seed in record.evidence.seeds)
    numbers = {"bytes_total": total, "bytes_strict": strict, "bytes_contest": total - inside, "cap_bytes": cap}
    message = f"{total:,} bytes of {cap:,}; strict {strict:,}; without the tokenizer {total - inside:,}"
    yield Finding("size.measured", "note", message, numbers)


def check_statement(record: Record) -> Iterator[Finding]:
    """The author's statements against the folder, the track and the machine of the runs."""
    statement, track, tracks = record.evidence.file.statement, record.track, load_tracks()
    try:
        date.fromisoformat(statement.date)
        name = record.folder.path.name
        if name[:4].isdigit() and name[4:5] == "-" and not name.startswith(statement.date):
            yield contradiction("schema.date", "date", statement.date, "the folder is named", name, "flag")
    except ValueError:
        yield Finding("schema.date", "invalid", f"{EVIDENCE}: date {statement.date!r:.40} is not YYYY-MM-DD")
    if statement.track_version != tracks.version:
        level: Level = "invalid" if statement.track_version > tracks.version else "flag"
        source = "the tracks here are of version"
        yield contradiction(
            "schema.track_version", "track_version", statement.track_version, source, tracks.version, level
        )
    data = record.evidence.file.data
    if track.data not in ("any", data.name) and not data.name.startswith(f"{track.data}-"):
        yield contradiction("data.track", "data.name", data.name, f"{track.name} is on", track.data)
    for name, kept in record.claim.compliance.items():
        if not kept and name != "enough_seeds":
            yield Finding("claim.compliance", "flag", f"by its own evidence not {name.replace('_', ' ')}")
    for seed in record.evidence.seeds:
        kind, used = parse_device(seed.result.device)
        if not used:
            message = f"seed {seed.seed}: device {seed.result.device!r:.60} is not in the words that a run writes"
            yield Finding("claim.hardware", "unverified", message)
        elif track.device not in ("any", kind) or (track.devices and used > track.devices):
            message = f"seed {seed.seed} ran on {seed.result.device:.60}; {track.name} is for {track.hardware}"
            yield Finding("claim.hardware", "flag", message, {"seed": seed.seed})


def parse_device(device: str) -> tuple[str, int]:
    """`8 x cuda (NVIDIA H100)` -> cuda, 8; `2 x cpu (4 threads)` -> cpu, 8 cores; anything else -> "", 0."""
    ranks, _, rest = device.partition(" x ")
    kind, _, detail = rest.partition(" (")
    if not ranks.isdecimal() or len(ranks) > 4 or kind not in ("cpu", "cuda") or not detail.endswith(")"):
        return "", 0
    if kind == "cuda":
        return kind, int(ranks)
    threads = detail.removesuffix(" threads)")
    return (kind, int(ranks) * int(threads)) if threads.isdecimal() and len(threads) <= 4 else ("", 0)


def check_lead(record: Record, options: Options) -> Iterator[Finding]:
    """Does it lead the best row on the same data, and is that proved? Under the written rule and the enforced one."""
    track, ours = record.track, record.claim
    if not track.ranked:
        return
    rival = best_rival(ours, options.records, record.folder.path)
    if rival is None:
        yield Finding("stats.lead", "note", f"no other row of {track.name} is on this data: there is no lead to prove")
        return
    if ours.val_bpb >= rival.val_bpb:
        message = f"val_bpb {ours.val_bpb:.5f} does not lead {rival.name}'s {rival.val_bpb:.5f}"
        yield Finding("stats.lead", "note", message)
        return
    margin_nats = track.margin_nats if options.margin_nats is None else options.margin_nats
    margin = margin_nats / nats_per_bpb(ours.evaluation.val_tokens, ours.evaluation.val_bytes)
    ours_seeds, rival_seeds = (seeds([result.val_bpb for result in row.seed_results.values()]) for row in (ours, rival))
    for rule in (Rule("written", margin, options.p or track.p), Rule("enforced", 0.0, ENFORCED_P)):
        found = lead(ours_seeds, rival_seeds, rule)
        p = found.reason if found.p is None else f"p = {found.p:.3g}"
        state = "holds" if found.holds else "not proved"
        message = (
            f"{rule.name} rule: leads {rival.name} by {found.gap:.5f} bpb, margin {found.margin:.5f}, {p}: {state}"
        )
        level: Level = "note" if found.holds or rule.name != "written" else "flag"
        yield Finding("stats.lead", level, f"{message} (below {rule.p:g})", {"rival": rival.name, **asdict(found)})


# -- the code -------------------------------------------------------------------------------------------------------


def check_code(folder: Folder) -> Iterator[Finding]:
    """The single file, and every other Python file: read, never run."""
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
    try:
        inside = unbundle(record.folder.read(CODE))
    except BadInput as bad:
        yield Finding("hash.sources", "invalid", f"{CODE}: {bad}")
        return
    if inside is None:  # an earlier form: its text has the sources' hash, or a table of each file's
        text = unpacked_text(record.folder.read(CODE))
        if expected not in (*HASH.findall(text), hash_of(dict(HASH_ROW.findall(text)))):
            message = f"{CODE} is not of the form that tools.bundle writes, and does not hold its sources' hash"
            yield Finding("hash.sources", "unverified", message, {"expected": expected})
        return
    found = inside.sources_sha256 if inside.packed else hash_of(inside.hashes())
    if expected != found:
        yield contradiction("hash.sources", "sources_sha256", expected, f"{CODE} holds", found)


def unpacked_text(source: bytes) -> str:
    """What is packed in a program of another form; "" where it cannot be read."""
    try:
        return "".join(program.text for program in unpacked(ast.parse(source)))
    except NOT_PARSED:
        return ""


# -- the claim ------------------------------------------------------------------------------------------------------


def check_claim(record: Record) -> Iterator[Finding]:
    """submission.json and README.md are what the evidence gives, key by key and line by line."""
    folder = record.folder
    if SUBMISSION in folder:
        try:
            claimed = read_json_object(folder.text(SUBMISSION), SUBMISSION)
        except BadInput as bad:
            yield Finding("schema.submission", "invalid", str(bad))
            return
        source = "result_seed*.json, nats_seed*.npy and evidence.json give"
        for key, value, derived in differences(claimed, to_dict(record.claim)):
            yield contradiction(f"claim.{key.partition('.')[0]}", f"{SUBMISSION}: {key}", value, source, derived)
    if README in folder:
        lines, derived_lines = folder.text(README).split("\n"), page(record.claim).split("\n")
        if lines != derived_lines:
            at = next((i for i, (a, b) in enumerate(zip(lines, derived_lines, strict=False)) if a != b), None)
            at = min(len(lines), len(derived_lines)) - 1 if at is None else at
            message = f"{README}, line {at + 1}: {lines[at]!r:.100}; the claim gives {derived_lines[at]!r:.100}"
            yield Finding("page.readme", "invalid", message, {"line": at + 1})
    measured = {
        "val_bpb": record.claim.val_bpb,
        "val_bpb_std": record.claim.val_bpb_std,
        "val_loss": record.claim.val_loss,
    }
    message = f"val_bpb {record.claim.val_bpb:.8f} over {len(record.claim.seeds)} seeds, computed from the evidence"
    yield Finding("claim.measured", "note", message, measured)


ABSENT = "(absent)"


def differences(claimed: Any, derived: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, claimed value, derived value; floats may differ by the rounding of another machine."""
    if isinstance(claimed, dict) and isinstance(derived, dict):
        for key in {**derived, **claimed}:
            name = f"{at}.{key}" if at else str(key)
            yield from differences(claimed.get(key, ABSENT), derived.get(key, ABSENT), name)
    elif isinstance(claimed, list) and isinstance(derived, list) and len(claimed) == len(derived):
        for number, (one, other) in enumerate(zip(claimed, derived, strict=True)):
            yield from differences(one, other, f"{at}.{number}")
    elif isinstance(claimed, float) and isinstance(derived, float):
        if not math.isclose(claimed, derived, rel_tol=DERIVED, abs_tol=DERIVED):
            yield at, claimed, derived
    elif claimed != derived or type(claimed) is not type(derived):
        yield at, claimed, derived
