"""The contest's own record folders: no artifact, a JSON of anybody's keys, logs of many dialects.

Whatever can be checked is; the rest is unverified, with what is missing. A false accusation is worse than silence: only
the log's own numbers against the claim, against the cap or against the clock make it invalid.
"""

import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from base.errors import BadInput
from tools.claims.verdict import Finding
from tools.verifying.agree import disagreement
from tools.verifying.contest_code import contest_code
from tools.verifying.contest_log import ContestLog, final_scores, read_contest_log
from tools.verifying.folder import OPENERS, Folder
from tools.verifying.record import ARTIFACT, MANIFEST, README, SUBMISSION
from tools.verifying.strict import read_json

CAP_BYTES = 16_000_000
TRAIN_S = EVAL_S = 600.0
GRACE_S = 1.0  # rows that were merged stop up to five steps late: the flag to stop goes round all ranks first
AGREES, NEAR = 1e-4, 1e-3  # bpb: of a claim that is rounded, and of one that is about right
VAL_TOKENS = (62_021_632, 62_021_846, 45_508_608, 40_540_160, 47_851_520, 47_853_343, 63_779_840)
TAIL_TOKENS = 16_384  # a window's remainder, which scripts drop
FEWEST_TOKENS = 30_000_000  # no published tokenizer makes fewer of the 50,000 documents
VAL_BYTES = 151_080_891
LEAKED_SHARDS = 1499  # of an export that kept 10,000 validation documents and trained on the other 40,000
LOG_NAME = re.compile(r"(log|train|seed|run|eval)", re.I)
LOG_ENDS = (".log", ".txt", ".out")


@dataclass(frozen=True)
class Entry:
    folder: Folder
    claim: dict[str, Any]  # as it is written; {}: none that can be read
    logs: list[ContestLog]
    texts: dict[str, str]  # of the logs

    @property
    def ten_minutes(self) -> bool:
        said = f"{self.claim.get('track', '')} {self.folder.path.parent.name}".lower()
        return "10min" in said and not re.search("non.?record|unlimited", said)

    @property
    def seeds(self) -> int:
        """How many the claim says that it is the mean of; 0: it does not say."""
        listed = [self.claim.get(key) for key in ("seeds", "seed_results", "seed_scores")]
        counts = [len(value) for value in listed if isinstance(value, list | dict)]
        said = self.claim.get("n_seeds")
        return max([*counts, said if isinstance(said, int) else 0])


def is_contest(folder: Folder) -> bool:
    if MANIFEST in folder:
        return False
    try:
        if SUBMISSION not in folder:
            return ARTIFACT not in folder
        return b'"bitgolf-record-' not in folder.read(SUBMISSION)
    except BadInput:
        return False  # of a size that no record of either kind has: the stricter reader says so


def contest_findings(folder: Folder) -> Iterator[Finding]:
    for name, why in folder.refused.items():
        yield Finding("files.plain", "unverified", f"{name!r:.120} is {why}, and was not looked at", {"file": name})
    found: list[Finding] = []
    entry = _open(folder, found)
    yield from found
    yield from _evidence(entry)
    for rule in (_scores, _seeds, _sizes, _clocks, _data):
        yield from rule(entry)
    yield from contest_code(folder, entry.texts)


def _open(folder: Folder, found: list[Finding]) -> Entry:
    claim: Any = {}
    name = next((n for n in sorted(folder.files) if re.fullmatch(r"submission\w*\.json", n)), None)
    if name is not None:
        try:
            claim = read_json(folder.text(name), name)
        except BadInput as bad:
            found.append(Finding("schema.submission", "unverified", str(bad)))
    texts = {}
    for name in sorted(folder.files):
        plain = name.removesuffix(PurePosixPath(name).suffix) if PurePosixPath(name).suffix in OPENERS else name
        if not plain.endswith(LOG_ENDS) or not LOG_NAME.search(plain) or plain.endswith("requirements.txt"):
            continue
        try:
            texts[name] = folder.text(name)
        except BadInput as bad:
            found.append(Finding("log.readable", "unverified", str(bad), {"file": name}))
    logs = [log for name, text in texts.items() if (log := read_contest_log(name, text)).scores]
    return Entry(folder, claim if isinstance(claim, dict) else {}, logs, {log.name: texts[log.name] for log in logs})


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


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _scores(entry: Entry) -> Iterator[Finding]:
    claimed = _number(entry.claim.get("val_bpb", entry.claim.get("mean_val_bpb", entry.claim.get("mean_bpb"))))
    if claimed is None or not entry.logs:
        return
    means = {label: statistics.fmean(s.bpb for s in found) for label, found in final_scores(entry.logs).items()}
    singles = {f"{log.name} {s.label}": s.bpb for log in entry.logs for s in log.scores if s.label != "step"}
    matching = [label for label, bpb in {**singles, **means}.items() if abs(bpb - claimed) <= AGREES]
    near = [label for label, bpb in {**singles, **means}.items() if abs(bpb - claimed) <= NEAR]
    lowest = min(bpb for log in entry.logs for bpb in (*log.bpbs, *(s.bpb for s in log.scores)))
    if matching:
        yield Finding(
            "number.measured",
            "note",
            f"val_bpb {claimed:.5f} is what the logs say ({matching[-1]:.80})",
            {"val_bpb": claimed},
        )
    elif near:
        yield Finding(
            "number.val_bpb",
            "flag",
            f"val_bpb {claimed:.5f} is only near the logs' ({near[-1]:.80})",
            {"claimed": claimed},
        )
    elif lowest > claimed + NEAR and _all_logs(entry):
        source = f"the lowest val_bpb in its {len(entry.logs)} log(s) is"
        yield disagreement("number.val_bpb", "val_bpb", claimed, source, lowest, last=entry.logs[-1].scores[-1].bpb)
    else:
        message = f"val_bpb {claimed:.5f} cannot be derived from the {len(entry.logs)} log(s) that are here"
        yield Finding("number.val_bpb", "unverified", message, {"claimed": claimed, "means": means})
    spread, listed = _number(entry.claim.get("val_bpb_std")), _per_seed(entry.claim)
    if spread is not None and len(listed) > 1:
        sample, population = statistics.stdev(listed.values()), statistics.pstdev(listed.values())
        if min(abs(spread - sample), abs(spread - population)) > AGREES:
            yield disagreement("number.val_bpb_std", "val_bpb_std", spread, "its seeds' spread is", sample, "flag")
    for seed, bpb in listed.items():
        own = [log for log in entry.logs if re.search(rf"(?<!\d){re.escape(seed)}(?!\d)", log.name)]
        if len(own) == 1 and min(own[0].bpbs) > bpb + NEAR:
            yield disagreement(
                "number.seed", f"seed {seed}: val_bpb", bpb, f"the lowest in {own[0].name} is", min(own[0].bpbs)
            )


def _all_logs(entry: Entry) -> bool:
    """Whether every run behind the claim has its log here, as far as anybody can see."""
    if entry.seeds:
        return len(entry.logs) >= entry.seeds
    readme = entry.folder.text(README) if README in entry.folder else ""
    return not re.search(r"seeds|mean|±|std", f"{readme} {' '.join(map(str, entry.claim))}", re.I)


def _per_seed(claim: dict[str, Any]) -> dict[str, float]:
    listed: dict[Any, Any] = next(
        (claim[key] for key in ("seed_results", "seed_scores", "seeds") if isinstance(claim.get(key), dict)), {}
    )
    found = {}
    for seed, value in listed.items():
        bpb = _number(value.get("val_bpb")) if isinstance(value, dict) else _number(value)
        if bpb is not None:
            found[str(seed)] = bpb
    return found


def _seeds(entry: Entry) -> Iterator[Finding]:
    by_bytes: dict[str, str] = {}
    for log in entry.logs:
        text = entry.texts[log.name]
        if text in by_bytes:
            yield Finding(
                "seed.same",
                "invalid",
                f"{by_bytes[text]} and {log.name} are the same, byte by byte",
                {"files": [by_bytes[text], log.name]},
            )
        by_bytes[text] = log.name
        named = re.search(r"seed[_-]?(\d+)", log.name)
        if named and log.seeds and int(named[1]) not in log.seeds:
            message = f"{log.name} is of seed {log.seeds[0]}, as it says itself"
            yield Finding("seed.log", "flag", message, {"named": int(named[1]), "seeds": list(log.seeds)})
    if entry.ten_minutes and len(entry.logs) < max(3, entry.seeds):
        message = f"{len(entry.logs)} logs; a claim is the mean of {max(3, entry.seeds)} seeds of one configuration"
        yield Finding("seed.few", "unverified", message, {"logs": [log.name for log in entry.logs]})


def _sizes(entry: Entry) -> Iterator[Finding]:
    claimed = _number(entry.claim.get("bytes_total", entry.claim.get("artifact_bytes")))
    if claimed is not None and claimed > CAP_BYTES:
        yield Finding(
            "size.cap", "invalid", f"bytes_total {claimed:,.0f}; the cap is {CAP_BYTES:,}", {"claimed": claimed}
        )
    scripts = [size for name, size in entry.folder.files.items() if name.endswith(".py")]
    for log in entry.logs:
        least = min(log.totals, default=0)  # several coders may have been tried
        if least > CAP_BYTES:
            level = "invalid" if claimed is None or claimed > CAP_BYTES else "unverified"
            message = f"{log.name}: {least:,} bytes; the cap is {CAP_BYTES:,}"
            message += "" if level == "invalid" else f", and the {claimed:,.0f} that is claimed is not in it"
            yield Finding("size.cap", level, message, {"logged": least, "claimed": claimed})  # type: ignore[arg-type]
        if log.models and scripts and max(scripts) + min(log.models) > CAP_BYTES >= least > 0:
            strict = max(scripts) + min(log.models)
            message = f"{log.name}: with the script as it is shipped it is {strict:,} bytes; a smaller one was counted"
            yield Finding("size.strict", "flag", message, {"strict": strict, "logged": least})
        if log.codes and scripts and not set(log.codes) & set(scripts):
            message = f"{log.name}: code of {log.codes[-1]:,} bytes was counted; no shipped script has that size"
            yield Finding("size.code_log", "note", message, {"logged": list(log.codes), "shipped": scripts})


def _clocks(entry: Entry) -> Iterator[Finding]:
    if not entry.ten_minutes:
        return
    for log in entry.logs:
        train_s, step_s = log.train_ms / 1000, (log.step_ms or log.train_ms / max(1, log.steps)) / 1000
        evidence = {"train_s": train_s, "step_s": step_s, "calibration_s": log.calibration_s, "eval_s": log.eval_s}
        allowed_s = TRAIN_S + max(GRACE_S, 2 * step_s)
        if train_s > allowed_s:
            message = f"{log.name}: trained {train_s:.3f} s of {TRAIN_S:g}; a step took {step_s:.3f} s"
            yield Finding("budget.train", "invalid", message, evidence)
        elif log.calibration_s and train_s + log.calibration_s > allowed_s:
            message = f"{log.name}: training and calibration come to {train_s + log.calibration_s:.1f} s of {TRAIN_S:g}"
            yield Finding("budget.calibration", "flag", message, evidence)
        if log.eval_s > EVAL_S:
            message = f"{log.name}: evaluated in {log.eval_s:.1f} s of {EVAL_S:g}"
            yield Finding("budget.eval", "invalid", message, evidence)


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
    counted = last.loss * log.val_tokens / (last.bpb * 0.6931471805599453)
    expected = VAL_BYTES * (155.8 / 151.08 if log.val_tokens > 63_000_000 else 1)
    if not 0.98 < counted / expected < 1.02:
        message = f"{log.name}: its score divides by {counted:,.0f} bytes; the text has {expected:,.0f}"
        yield Finding(
            "number.bytes", "flag", message, {"counted": counted, "expected": expected, "ratio": counted / expected}
        )
