"""The contest's own record folders: keys and log dialects of anybody's making, and as a rule no model.

    for finding in contest_findings(Folder(path)): ...

What can be checked is checked; the rest is unverified, with what is missing. It was tried on every merged record of the
contest. A false accusation is worse than silence: logs of ablations, earlier tries and other tools lie beside those of
the claim, and only a log that is sure to be the claim's own can make it invalid.
"""

import ast
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from statistics import fmean, pstdev, stdev

from base.errors import BadInput
from base.run_folder import ARTIFACT
from tools.record.schema import MANIFEST, README, SUBMISSION
from tools.verify.code import CODE_ENDS, code_findings
from tools.verify.contest_entry import (
    AGREES,
    LONGEST_LINE,
    NEAR,
    Entry,
    Log,
    Scored,
    agrees,
    as_number,
    open_entry,
    seed_in,
    tolerance,
)
from tools.verify.folder import Folder
from tools.verify.unpacking import NOT_PARSED, unpacked
from tools.verify.verdict import Finding, Level, contradiction

CAP_BYTES = 16_000_000
TOTALS = ("bytes_total", "artifact_bytes", "artifact_bytes_max", "total_bytes")  # as claims call it
BUDGET_S = 600.0  # for training, and again for evaluation
GRACE_S = 1.0  # merged records stop up to five steps late: the flag to stop goes round all ranks first
# Validation tokens of the published exports; a script may drop a window's remainder.
VAL_TOKENS = (62_021_632, 62_021_846, 45_508_608, 40_540_160, 47_851_520, 47_853_343, 63_779_840)
TAIL_TOKENS = 16_384
FEWEST_TOKENS = 30_000_000  # no published tokenizer makes fewer of the 50,000 documents
VAL_BYTES = 151_080_891
EARLY_TOKENS, EARLY_VAL_BYTES = 63_000_000, 155_800_000  # an earlier export has more tokens than this
LEAKED_SHARDS = 1499  # an export that kept 10,000 validation documents and trains on the other 40,000
UNFINAL = re.compile(r"^step$|diagnostic|pre.?quant", re.I)  # labels of scores of what is not shipped

# Families of bugs that spread from one script to the next, as those are spelled in public: another spelling is not
# seen, and one that is seen may be innocent. Rule, what it does, its line, what else the script has.
BUGS = (
    (
        "code.bytes",
        "counts a leading space in its table of bytes and again where it adds them up",
        re.compile(
            r"len\(\s*\w+\.replace\(\s*['\"](?:▁|\\u2581)['\"]\s*,\s*['\"] ['\"]\s*\)\.encode"
            r"|^(?=.*base_bytes)(?=.*len\()(?=.*encode).*\)\s*\+\s*1\b",
            re.M,
        ),
        re.compile(r"has_leading_space\w*\s*[\[&]|leading_space_lut|has_space\w*\["),
    ),
    (
        "code.bytes",
        "counts bytes by decoding single tokens, which makes three of each byte token",
        re.compile(r"len\(\s*\w+\.decode(?:_ids)?\(\s*\[[^\],]+\]\s*\)\s*\.encode"),
        re.compile(r"\A(?!.*is_byte)", re.S),
    ),
    (
        "code.target",
        "keys a cache by the token that is to be predicted, so that its shares sum to anything",
        re.compile(
            r"^[^=\n]*(?:key|hash|idx|bucket)\w*\s*=(?=.*(?:ctx|context))(?=.*\b(?:tgt|target))(?=.*[\^+])", re.M
        ),
        re.compile(r"np\.add\.at|np\.bincount|scatter_add_|index_add_|index_put_|\w_tables?\["),
    ),
)
READABLE_ENDS = (".py", ".sh", ".gz", ".xz", ".zst")
USUAL = {"code.environment", "code.download", "code.path"}  # in public scripts


def is_contest(folder: Folder) -> bool:
    """A folder of ours says so in its manifest, or in its claim where the manifest is gone."""
    for name, mark in ((MANIFEST, b'"bitgolf-manifest-'), (SUBMISSION, b'"bitgolf-record-')):
        with suppress(BadInput):
            if name in folder and mark in folder.read(name):
                return False
    return SUBMISSION in folder or ARTIFACT not in folder


def contest_findings(folder: Folder, fast: bool = True, data: Path | None = None) -> Iterator[Finding]:
    """Not `fast`: a shipped artifact is scored, on the dataset `data` or on the one here that it was trained on."""
    for name, why in folder.refused.items():
        yield Finding("files.plain", "unverified", f"{name!r:.120} is {why}, and was not looked at", {"file": name})
    entry = open_entry(folder)
    own = find_own_logs(entry)
    yield from entry.troubles
    yield from _missing_files(entry)
    if entry.bpb is not None and entry.logs:
        yield _judge_score(entry, entry.bpb, own)
    yield from _check_seed_scores(entry)
    yield from _check_seeds(entry)
    yield from _check_sizes(entry, own)
    for log in entry.logs:
        if entry.is_ten_minutes:
            yield from _check_clocks(log, own.get(log.name))
        yield from _check_data(log)
    yield from _check_scripts(entry)
    if ARTIFACT not in folder:
        message = "no model is shipped: its score and its size cannot be measured, only read"
        yield Finding("artifact.missing", "unverified", message)
    elif fast:
        message = f"{ARTIFACT} ({folder.files[ARTIFACT]:,} bytes) was not scored; check without --fast"
        yield Finding("artifact.unscored", "unverified", message)
    else:  # by its name: it imports torch, which takes longer than all of the above
        yield from import_module("tools.verify.contest_score").score_shipped_artifact(folder, data, entry)


def find_own_logs(entry: Entry) -> dict[str, Scored]:
    """Log -> the score by which it is one of the claim's runs; {}: nobody can tell.

    The claim may be the mean of all logs, of those at the top, or of those named after seeds; else a log's own score
    may be the claim's or a seed's.
    """
    if entry.bpb is None:
        return {}
    own: dict[str, Scored] = {}
    top = [log for log in entry.logs if "/" not in log.name]
    for logs in (entry.logs, top, [log for log in top if seed_in(log.name) is not None]):
        for label, scores in _final_scores(logs).items():
            if not UNFINAL.search(label) and agrees(entry.bpb, fmean(scored.bpb for scored in scores)):
                own |= {log.name: scored for log, scored in zip(logs, scores, strict=True)}
        if own:
            return own
    claimed = [entry.bpb, *entry.per_seed.values()]
    for log in entry.logs:
        for scored in log.scores:
            if not UNFINAL.search(scored.label) and any(agrees(bpb, scored.bpb) for bpb in claimed):
                own[log.name] = scored
    return own


def _final_scores(logs: list[Log]) -> dict[str, list[Scored]]:
    """Label -> its last score in each log, of the labels that all of them have."""
    last = [{scored.label: scored for scored in log.scores} for log in logs]
    shared = [label for label in last[0] if all(label in scores for scores in last)] if last else []
    return {label: [scores[label] for scores in last] for label in shared}


def _missing_files(entry: Entry) -> Iterator[Finding]:
    if not entry.claim:
        yield Finding("files.required", "unverified", "a submission.json that can be read is missing")
    if not entry.logs:
        yield Finding("files.required", "unverified", "a log with a final val_bpb is missing")
    if not any(name.endswith(".py") for name in entry.folder.files):
        yield Finding("files.required", "unverified", "a script is missing")
    if README not in entry.folder:
        yield Finding("files.wanted", "flag", f"{README} is missing")


def _judge_score(entry: Entry, claimed: float, own: dict[str, Scored]) -> Finding:
    what = f"val_bpb {claimed:.5f}"
    means = {label: fmean(scored.bpb for scored in scores) for label, scores in _final_scores(entry.logs).items()}
    mean = next((means[scored.label] for scored in own.values() if scored.label in means), 0.0)
    evidence = {"claimed": claimed, "means": means}
    if own and (len(own) > 1 or entry.seeds < 2 or agrees(claimed, mean)):
        message = f"{what} is what the logs say ({next(iter(own.values())).label:.80})"
        return Finding("number.measured", "note", message, {"val_bpb": claimed})
    logged = [(label, label, bpb) for label, bpb in means.items()]
    logged += [(f"{log.name} {scored.label}", scored.label, scored.bpb) for log in entry.logs for scored in log.scores]
    unfinal = [where for where, label, bpb in logged if UNFINAL.search(label) and agrees(claimed, bpb)]
    near = [where for where, _, bpb in logged if abs(bpb - claimed) <= NEAR]
    why = ""
    if own:
        why = f"is that of {next(iter(own))} alone; the mean of all logs is {mean:.5f}"
    elif unfinal:
        why = f"is a score of what is not shipped ({unfinal[0]:.80})"
    elif near:
        why = f"is only near the logs' ({near[0]:.80})"
    if why:
        return Finding("number.val_bpb", "flag", f"{what} {why}", evidence)
    lowest = min(bpb for log in entry.logs for bpb in (*log.numbers["bpbs"], *(scored.bpb for scored in log.scores)))
    if lowest > claimed + tolerance(claimed, NEAR) and entry.has_all_logs and entry.lacks(claimed):
        source = f"the lowest val_bpb in its {len(entry.logs)} log(s) is"
        return contradiction("number.val_bpb", "val_bpb", claimed, source, lowest)
    message = f"{what} cannot be derived from the {len(entry.logs)} log(s) that are here"
    return Finding("number.val_bpb", "unverified", message, evidence)


def _check_seed_scores(entry: Entry) -> Iterator[Finding]:
    scores = entry.per_seed
    spread = as_number(entry.claim.get("val_bpb_std"))
    if spread is not None and len(scores) > 1:
        sample, population = stdev(scores.values()), pstdev(scores.values())
        if min(abs(spread - sample), abs(spread - population)) > AGREES:
            yield contradiction("number.val_bpb_std", "val_bpb_std", spread, "its seeds' spread is", sample, "flag")
    logs = [log for log in entry.logs if log.numbers["bpbs"]]
    counts = Counter(seed_in(log.name) for log in logs)
    for log in logs:
        seed = seed_in(log.name)
        if seed is None or seed not in scores or counts[seed] > 1:
            continue
        claimed, lowest = scores[seed], min(log.numbers["bpbs"])
        if lowest > claimed + tolerance(claimed, NEAR) and entry.lacks(claimed):
            yield contradiction("number.seed", f"seed {seed}: val_bpb", claimed, f"the lowest in {log.name} is", lowest)


def _check_seeds(entry: Entry) -> Iterator[Finding]:
    for name, original in entry.copies.items():
        seeds = {seed_in(name), seed_in(original)} - {None}
        level: Level = "invalid" if len(seeds) == 2 else "note"
        yield Finding("seed.same", level, f"{original} and {name} are the same, byte by byte")
    for log in entry.logs:
        named, logged = seed_in(log.name), log.numbers["seeds"]
        if named is not None and logged and named not in logged:
            yield Finding("seed.log", "flag", f"{log.name} is of seed {logged[0]}, as it says itself")
    wanted = max(3, entry.seeds)
    if entry.is_ten_minutes and len(entry.logs) < wanted:
        yield Finding("seed.few", "unverified", f"{len(entry.logs)} logs; a claim is the mean of {wanted} seeds")


def _check_sizes(entry: Entry, own: dict[str, Scored]) -> Iterator[Finding]:
    claims = [as_number(entry.claim.get(key)) for key in TOTALS]
    claimed = max((size for size in claims if size is not None), default=None)
    if claimed is not None and claimed > CAP_BYTES:
        yield Finding("size.cap", "invalid", f"{claimed:,.0f} bytes are claimed; the cap is {CAP_BYTES:,}")
    scripts = [size for name, size in entry.folder.files.items() if name.endswith(".py")]
    for log in entry.logs:
        total = min(log.numbers["totals"], default=0)  # several coders may have been tried
        if total > CAP_BYTES and (claimed is None or claimed <= CAP_BYTES):
            level: Level = "invalid" if claimed is None and log.name in own else "unverified"
            message = f"{log.name}: {total:,} bytes; the cap is {CAP_BYTES:,}, and the claim has {claimed or 'none'}"
            yield Finding("size.cap", level, message, {"logged": total, "claimed": claimed})
        strict = max(scripts, default=0) + min(log.numbers["models"], default=CAP_BYTES + 1)
        if log.numbers["models"] and scripts and strict > CAP_BYTES >= total > 0:
            message = f"{log.name}: with the script as it is shipped it is {strict:,} bytes; a smaller one was counted"
            yield Finding("size.strict", "flag", message, {"strict": strict, "logged": total})
        codes = log.numbers["codes"]
        if codes and scripts and not set(codes) & set(scripts):
            message = f"{log.name}: code of {codes[-1]:,} bytes was counted; no shipped script has that size"
            yield Finding("size.code_log", "note", message)


def _check_clocks(log: Log, own: Scored | None) -> Iterator[Finding]:
    """Invalid only where the log is the claim's own: an ablation may have run for as long as it liked."""
    level: Level = "invalid" if own else "flag"
    train_ms = max(log.numbers["train_ms"], default=0)
    step_ms = log.last("step_ms") or train_ms / max(1, *log.numbers["steps"])
    calibration_s = sum(log.numbers["calibration_s"])
    allowed_s = BUDGET_S + max(GRACE_S, 2 * step_ms / 1000)
    # One score may be on several lines, of which one has its seconds.
    claimed = [scored for scored in log.scores if own is None or abs(scored.bpb - own.bpb) <= AGREES]
    eval_s = log.last("eval_s") or max((scored.eval_s for scored in claimed), default=0.0)
    evidence = {"train_s": train_ms / 1000, "step_s": step_ms / 1000, "calibration_s": calibration_s, "eval_s": eval_s}
    if train_ms / 1000 > allowed_s:
        message = f"{log.name}: trained {train_ms / 1000:.3f} s of {BUDGET_S:g}; a step took {step_ms / 1000:.3f} s"
        yield Finding("budget.train", level, message, evidence)
    elif calibration_s and train_ms / 1000 + calibration_s > allowed_s:
        message = f"{log.name}: trained {train_ms / 1000:.3f} s of {BUDGET_S:g}, then calibrated {calibration_s:.1f} s"
        yield Finding("budget.calibration", "flag", message, evidence)
    if eval_s > BUDGET_S + GRACE_S:
        yield Finding("budget.eval", level, f"{log.name}: evaluated in {eval_s:.1f} s of {BUDGET_S:g}", evidence)


def _check_data(log: Log) -> Iterator[Finding]:
    if log.last("train_shards") == LEAKED_SHARDS:
        message = f"{log.name}: {LEAKED_SHARDS} training shards: such an export trains on 40,000 validation documents"
        yield Finding("data.overlap", "flag", message)
    tokens = log.last("val_tokens")
    if 0 < tokens < FEWEST_TOKENS:
        message = f"{log.name}: {tokens:,} validation tokens; the 50,000 documents have about {VAL_TOKENS[0]:,}"
        yield Finding("data.coverage", "flag", message, {"val_tokens": tokens})
    last = log.scores[-1]
    if last.bpb <= 0 or not any(0 <= known - tokens < TAIL_TOKENS for known in VAL_TOKENS):
        return
    # loss and bpb on one line show how many bytes were counted; the text has a known number of them.
    counted = last.loss * tokens / (last.bpb * math.log(2))
    expected = EARLY_VAL_BYTES if tokens > EARLY_TOKENS else VAL_BYTES
    if not 0.98 < counted / expected < 1.02:
        message = f"{log.name}: its score divides by {counted:,.0f} bytes; the text has {expected:,}"
        yield Finding("number.bytes", "flag", message, {"counted": counted, "expected": expected})


def _check_scripts(entry: Entry) -> Iterator[Finding]:
    programs: dict[str, list[str]] = {}
    for name, size in sorted(entry.folder.files.items()):
        if name.endswith(CODE_ENDS) and not name.endswith(READABLE_ENDS):
            message = f"{name} ({size:,} bytes) is code that a reader of Python does not see into"
            yield Finding("files.code", "flag", message, {"file": name, "bytes": size})
        if not name.endswith(".py"):
            continue
        try:
            source = entry.folder.read(name)
        except BadInput as bad:
            yield Finding("code.syntax", "unverified", str(bad), {"file": name})
            continue
        programs[name] = _texts(source)
        yield from _find_bugs(name, "\n".join(programs[name]))
        yield from (finding for finding in code_findings(name, source, None) if finding.rule not in USUAL)
    # A source that a log begins with must be a shipped one, plain or packed; a stub that is part of it is not.
    scripts = [(name, text) for name, texts in programs.items() for text in texts if _is_training(text)]
    for log in entry.logs:
        text = "\n".join(entry.texts[log.name].splitlines())
        if not programs or not _is_training(text):
            continue
        same = next((name for name, script in scripts if script in text), None)
        what = f"the source of {same}" if same else "a source that no shipped script is"
        yield Finding("hash.sources", "note" if same else "flag", f"{log.name} holds {what}")


def _texts(source: bytes) -> list[str]:
    """The script and whatever is packed in it."""
    texts = [source.decode("utf-8", "replace")]
    with suppress(*NOT_PARSED):
        texts += [program.text for program in unpacked(ast.parse(source))]
    return ["\n".join(text.splitlines()).strip() for text in texts]


def _is_training(text: str) -> bool:
    return "import torch" in text and "\ndef main(" in text


def _find_bugs(name: str, text: str) -> Iterator[Finding]:
    text = "\n".join(line if len(line) <= LONGEST_LINE else "" for line in text.splitlines())
    for rule, what, pattern, needed in BUGS:
        found = pattern.search(text)
        if found and needed.search(text):
            number = text.count("\n", 0, found.start()) + 1
            line = text.splitlines()[number - 1].strip()
            yield Finding(rule, "flag", f"{name}:{number} {what}: {line:.100}", {"file": name, "line": number})
