"""The contest's own record folders: no artifact, a JSON of anybody's keys, logs of many dialects.

Whatever can be checked is; the rest is unverified, with what is missing. A false accusation is worse than silence: only
the log's own numbers against the claim, against the cap or against the clock make it invalid.
"""

from collections.abc import Iterator

from base.errors import BadInput
from tools.verify.contest_code import contest_code
from tools.verify.contest_entry import Entry, number, open_entry, seed_of
from tools.verify.contest_log import ContestLog, Scored
from tools.verify.contest_numbers import AGREES, own_logs, scores, seed_scores
from tools.verify.folder import Folder
from tools.verify.record import ARTIFACT, MANIFEST, README, SUBMISSION
from tools.verify.verdict import Finding, Level

CAP_BYTES = 16_000_000
TOTALS = ("bytes_total", "artifact_bytes", "artifact_bytes_max", "total_bytes")  # as claims call it
TRAIN_S = EVAL_S = 600.0
GRACE_S = 1.0  # rows that were merged stop up to five steps late: the flag to stop goes round all ranks first
VAL_TOKENS = (62_021_632, 62_021_846, 45_508_608, 40_540_160, 47_851_520, 47_853_343, 63_779_840)
TAIL_TOKENS = 16_384  # a window's remainder, which scripts drop
FEWEST_TOKENS = 30_000_000  # no published tokenizer makes fewer of the 50,000 documents
VAL_BYTES = 151_080_891
LEAKED_SHARDS = 1499  # of an export that kept 10,000 validation documents and trained on the other 40,000


def is_contest(folder: Folder) -> bool:
    """A folder of ours says so in its manifest, or in its claim where the manifest is gone."""
    if _says(folder, MANIFEST, b'"bitgolf-manifest-') or _says(folder, SUBMISSION, b'"bitgolf-record-'):
        return False
    return SUBMISSION in folder or ARTIFACT not in folder


def _says(folder: Folder, name: str, mark: bytes) -> bool:
    try:
        return name in folder and mark in folder.read(name)
    except BadInput:
        return False


def contest_findings(folder: Folder) -> Iterator[Finding]:
    for name, why in folder.refused.items():
        yield Finding("files.plain", "unverified", f"{name!r:.120} is {why}, and was not looked at", {"file": name})
    found: list[Finding] = []
    entry = open_entry(folder, found)
    yield from found
    own = own_logs(entry)
    yield from _evidence(entry)
    yield from scores(entry, own)
    yield from seed_scores(entry)
    yield from _seeds(entry)
    yield from _sizes(entry, own)
    yield from _clocks(entry, own)
    yield from _data(entry)
    yield from contest_code(folder, {log.name: entry.texts[log.name] for log in entry.logs})


def _evidence(entry: Entry) -> Iterator[Finding]:
    missing = {
        "a submission.json that can be read": bool(entry.claim),
        "a log with a final val_bpb": bool(entry.logs),
        "a script": any(name.endswith(".py") for name in entry.folder.files),
    }
    for what, there in missing.items():
        if not there:
            yield Finding("files.required", "unverified", f"{what} is missing")
    if README not in entry.folder:
        yield Finding("files.wanted", "flag", f"{README} is missing")
    if ARTIFACT in entry.folder:
        message = f"a {ARTIFACT} of {entry.folder.files[ARTIFACT]:,} bytes is here; score it: python -m eval.bpb"
        yield Finding("artifact.unscored", "unverified", message)
    else:
        message = "no model is shipped: its score and its size cannot be measured, only read"
        yield Finding("artifact.missing", "unverified", message)


def _seeds(entry: Entry) -> Iterator[Finding]:
    for name, original in entry.copies.items():
        twice = None not in (seeds := (seed_of(original), seed_of(name))) and seeds[0] != seeds[1]
        message = f"{original} and {name} are the same, byte by byte"
        yield Finding("seed.same", "invalid" if twice else "note", message, {"files": [original, name]})
    for log in entry.logs:
        named = seed_of(log.name)
        if named is not None and log.seeds and named not in log.seeds:
            message = f"{log.name} is of seed {log.seeds[0]}, as it says itself"
            yield Finding("seed.log", "flag", message, {"named": named, "seeds": list(log.seeds)})
    if entry.ten_minutes and len(entry.logs) < max(3, entry.seeds):
        message = f"{len(entry.logs)} logs; a claim is the mean of {max(3, entry.seeds)} seeds of one configuration"
        yield Finding("seed.few", "unverified", message, {"logs": [log.name for log in entry.logs]})


def _sizes(entry: Entry, own: dict[str, Scored]) -> Iterator[Finding]:
    claimed = max((size for key in TOTALS if (size := number(entry.claim.get(key))) is not None), default=None)
    if claimed is not None and claimed > CAP_BYTES:
        message = f"{claimed:,.0f} bytes are claimed; the cap is {CAP_BYTES:,}"
        yield Finding("size.cap", "invalid", message, {"claimed": claimed})
    scripts = [size for name, size in entry.folder.files.items() if name.endswith(".py")]
    for log in entry.logs:
        least = min(log.totals, default=0)  # several coders may have been tried
        if least > CAP_BYTES and (claimed is None or claimed <= CAP_BYTES):
            message = f"{log.name}: {least:,} bytes; the cap is {CAP_BYTES:,}"
            message += "" if claimed is None else f", and the {claimed:,.0f} that is claimed is not in it"
            level: Level = "invalid" if claimed is None and log.name in own else "unverified"
            yield Finding("size.cap", level, message, {"logged": least, "claimed": claimed})
        if log.models and scripts and max(scripts) + min(log.models) > CAP_BYTES >= least > 0:
            strict = max(scripts) + min(log.models)
            message = f"{log.name}: with the script as it is shipped it is {strict:,} bytes; a smaller one was counted"
            yield Finding("size.strict", "flag", message, {"strict": strict, "logged": least})
        if log.codes and scripts and not set(log.codes) & set(scripts):
            message = f"{log.name}: code of {log.codes[-1]:,} bytes was counted; no shipped script has that size"
            yield Finding("size.code_log", "note", message, {"logged": list(log.codes), "shipped": scripts})


def _clocks(entry: Entry, own: dict[str, Scored]) -> Iterator[Finding]:
    """Invalid where the log is sure to be one of the claim's: an ablation may have run for as long as it liked."""
    for log in entry.logs if entry.ten_minutes else ():
        level: Level = "invalid" if log.name in own else "flag"
        train_s, step_s = log.train_ms / 1000, (log.step_ms or log.train_ms / max(1, log.steps)) / 1000
        eval_s = log.whole_eval_s or max((s.eval_s for s in log.scores if _same(s, own.get(log.name))), default=0.0)
        evidence = {"train_s": train_s, "step_s": step_s, "calibration_s": log.calibration_s, "eval_s": eval_s}
        allowed_s = TRAIN_S + max(GRACE_S, 2 * step_s)
        if train_s > allowed_s:
            message = f"{log.name}: trained {train_s:.3f} s of {TRAIN_S:g}; a step took {step_s:.3f} s"
            yield Finding("budget.train", level, message, evidence)
        elif log.calibration_s and train_s + log.calibration_s > allowed_s:
            message = f"{log.name}: training and calibration come to {train_s + log.calibration_s:.1f} s of {TRAIN_S:g}"
            yield Finding("budget.calibration", "flag", message, evidence)
        if eval_s > EVAL_S + GRACE_S:
            message = f"{log.name}: evaluated in {eval_s:.1f} s of {EVAL_S:g}"
            yield Finding("budget.eval", level, message, evidence)


def _same(scored: Scored, claimed: Scored | None) -> bool:
    """One score may stand on several lines, of which one has its seconds."""
    return claimed is None or abs(scored.bpb - claimed.bpb) <= AGREES


def _data(entry: Entry) -> Iterator[Finding]:
    for log in entry.logs:
        tokens = log.val_tokens
        if tokens and tokens < FEWEST_TOKENS:
            message = f"{log.name}: {tokens:,} validation tokens; the 50,000 documents have about {VAL_TOKENS[0]:,}"
            yield Finding("data.coverage", "flag", message, {"val_tokens": tokens})
        elif any(0 <= known - tokens < TAIL_TOKENS for known in VAL_TOKENS):
            yield Finding(
                "data.coverage",
                "note",
                f"{log.name}: {tokens:,} validation tokens, as a published export has",
                {"val_tokens": tokens},
            )
            yield from _denominator(log)
        if log.train_shards == LEAKED_SHARDS:
            message = (
                f"{log.name}: {LEAKED_SHARDS} training shards: such an export trains on 40,000 validation documents"
            )
            yield Finding("data.overlap", "flag", message, {"train_shards": log.train_shards})


def _denominator(log: ContestLog) -> Iterator[Finding]:
    """loss and bpb on one line say how many bytes were counted; the text has a known number of them."""
    last = log.scores[-1]
    if last.bpb <= 0:
        return
    counted = last.loss * log.val_tokens / (last.bpb * 0.6931471805599453)
    expected = VAL_BYTES * (155.8 / 151.08 if log.val_tokens > 63_000_000 else 1)
    if not 0.98 < counted / expected < 1.02:
        message = f"{log.name}: its score divides by {counted:,.0f} bytes; the text has {expected:,.0f}"
        yield Finding(
            "number.bytes", "flag", message, {"counted": counted, "expected": expected, "ratio": counted / expected}
        )
