"""First tier: a record against the rules of its track: seconds, bytes, hardware, data, the lead over the best row."""

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from tools.record.claim import Record, budgeted_seconds, last_step_seconds
from tools.record.evidence import SeedEvidence
from tools.record.ranking import compare
from tools.record.rows import best_rival
from tools.record.schema import EVIDENCE, Track, load_tracks
from tools.verify.evidence_rules import CLOCK_S
from tools.verify.files import extra_files
from tools.verify.verdict import Finding, Level, contradiction

INSIDE_SLACK_S = 5.0  # by which calibration exceeded the budget in merged rows of the contest: for people to judge
STALLED = 10  # times the average: a last step as slow as that is for people to judge
DEVICE = re.compile(r"([0-9]{1,4}) x (?:(cuda) \(.*\)|(cpu) \(([0-9]{1,4}) threads\))")


def check_clocks(record: Record) -> Iterator[Finding]:
    limit_s = record.track.eval_seconds
    for seed in record.evidence.seeds:
        yield from check_budget(seed, record.track)
        eval_s = max(record.claim.seed_results[str(seed.seed)].eval_seconds, seed.result.eval_seconds)
        if limit_s and eval_s > limit_s:
            message = f"seed {seed.seed} was scored in {eval_s:.1f} s; {record.track.name} allows {limit_s:g} s"
            yield Finding("budget.eval", "invalid", message, {"seed": seed.seed, "eval_s": eval_s})


def check_budget(seed: SeedEvidence, track: Track) -> Iterator[Finding]:
    """A run may exceed its seconds by the step that it was in."""
    if not track.train_seconds:
        return
    train_s, calibration_s = seed.result.train_seconds, seed.result.calibration_seconds
    step_s = last_step_seconds(seed)
    over_s = train_s - track.train_seconds
    budgeted_over_s = budgeted_seconds(seed, track) - track.train_seconds
    rule = "budget.calibration"
    level: Level = "flag"
    if over_s > step_s + CLOCK_S:
        rule = "budget.train"
        level = "invalid"
        what = f"trained {train_s:.3f} s, {over_s:.3f} s too long, and a step took {step_s:.3f} s"
    elif over_s > STALLED * train_s / max(seed.result.steps, 1):
        rule = "budget.train"
        what = f"trained {over_s:.3f} s too long, in a last step of {step_s:.3f} s"
    elif budgeted_over_s > step_s + CLOCK_S:
        level = "invalid" if budgeted_over_s > INSIDE_SLACK_S + step_s else "flag"
        what = f"trained and calibrated {budgeted_over_s:.3f} s too long"
    elif calibration_s > track.train_seconds:
        what = f"calibrated {calibration_s:.0f} s, longer than it may train"
    else:
        return
    message = f"seed {seed.seed} {what}; {track.name} allows {track.train_seconds:g} s"
    evidence = {"seed": seed.seed, "train_s": train_s, "calibration_s": calibration_s, "step_s": step_s}
    yield Finding(rule, level, message, evidence)


def check_size(record: Record) -> Iterator[Finding]:
    """Code and the largest artifact under the cap; the strict total adds whatever else could be run or read."""
    total = record.claim.bytes_total
    cap = record.track.cap_bytes
    strict = total + sum(record.folder.files[name] for name in extra_files(record.folder))
    if total > cap:
        yield Finding("size.cap", "invalid", f"code and artifact are {total:,} bytes; the cap is {cap:,}")
    elif strict > cap:
        yield Finding("size.strict", "flag", f"with the other files it is {strict:,} bytes; the cap is {cap:,}")
    inside = max(seed.head.stream_bytes.get("tokenizer", 0) for seed in record.evidence.seeds)
    numbers = {"bytes_total": total, "bytes_strict": strict, "bytes_contest": total - inside, "cap_bytes": cap}
    message = f"{total:,} bytes of {cap:,}; strict {strict:,}; without the tokenizer {total - inside:,}"
    yield Finding("size.measured", "note", message, numbers)


def check_statement(record: Record) -> Iterator[Finding]:
    statement = record.evidence.file.statement
    track = record.track
    version = load_tracks().version
    data = record.evidence.file.data.name
    try:
        date.fromisoformat(statement.date)
    except ValueError:
        yield Finding("schema.date", "invalid", f"{EVIDENCE}: date {statement.date!r:.40} is not YYYY-MM-DD")
    if statement.track_version != version:
        message = f"track_version is {statement.track_version}; the tracks here are of version {version}"
        yield Finding("schema.track_version", "flag", message)
    if track.data not in ("any", data) and not data.startswith(f"{track.data}-"):
        yield contradiction("data.track", "data.name", data, f"{track.name} is on", track.data)
    for condition, is_kept in record.claim.compliance.items():
        if not is_kept and condition != "enough_seeds":  # which is a rule of its own
            message = f"by its own evidence not {condition.replace('_', ' ')}"
            yield Finding("claim.compliance", "flag", message)


def check_hardware(record: Record) -> Iterator[Finding]:
    track = record.track
    for seed in record.evidence.seeds:
        device = seed.result.device
        kind, used = parse_device(device)
        if not used:
            message = f"seed {seed.seed}: device {device!r:.60} is not in the words that a run writes"
            yield Finding("claim.hardware", "unverified", message)
        elif track.device not in ("any", kind) or (track.devices and used > track.devices):
            message = f"seed {seed.seed} ran on {device:.60}; {track.name} is for {track.hardware}"
            yield Finding("claim.hardware", "flag", message)


def parse_device(device: str) -> tuple[str, int]:
    """`8 x cuda (NVIDIA H100)` -> cuda, 8; `2 x cpu (4 threads)` -> cpu, 8 cores; anything else -> "", 0."""
    match = DEVICE.fullmatch(device)
    if match is None:
        return "", 0
    ranks, cuda, cpu, threads = match.groups()
    return cuda or cpu, int(ranks) * int(threads or 1)


def check_lead(record: Record, records: Path) -> Iterator[Finding]:
    """Does it lead the best row on the same data, and is that proved?"""
    if not record.track.ranked:
        return
    rival = best_rival(record.claim, records, record.folder.path)
    step, is_proved = compare(record.claim, rival, record.track)
    is_ahead = rival is not None and record.claim.val_bpb < rival.val_bpb
    yield Finding("stats.lead", "flag" if is_ahead and not is_proved else "note", step)
