"""The contest's own record folders: keys and log dialects of anybody's making, and as a rule no model.

    for finding in contest_findings(Folder(path)): ...

What can be checked is checked; the rest is unverified, with what is missing. It was tried on every merged record of the
contest. A false accusation is worse than silence: logs of ablations, earlier tries and other tools lie beside those of
the claim, and only a log that is sure to be the claim's own can make it invalid.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import fmean

from base.errors import BadInput
from base.packing import read_sources, strip
from base.run_folder import ARTIFACT
from data.dataset import describe_dataset
from eval.config import read_adapt
from quant.format import read_head
from tools.bundle import unbundle
from tools.record.schema import CODE, MANIFEST, README, SUBMISSION
from tools.verify.code import CODE_ENDS, code_findings, texts_inside
from tools.verify.contest_entry import AGREES, LONGEST_LINE, NEAR, Entry, Log, Scored, agrees, as_number, open_entry
from tools.verify.datasets import DATASETS, datasets_with
from tools.verify.folder import Folder
from tools.verify.sandbox import open_doors, score_boxed, scoring_ranks
from tools.verify.verdict import Finding, Level, contradiction

CAP_BYTES = 16_000_000
TOTALS = ("bytes_total", "artifact_bytes", "artifact_bytes_max", "total_bytes")  # as claims call it
BUDGET_S = 600.0  # for training, and again for evaluation
GRACE_S = 1.0  # merged records stop up to five steps late: the flag to stop goes round all ranks first
VAL_TOKENS = {  # a validation text's bytes -> its tokens in the published exports
    151_080_891: (62_021_632, 62_021_846, 45_508_608, 40_540_160, 47_851_520, 47_853_343),
    155_800_000: (63_779_840,),  # of an early export
}
TAIL_TOKENS = 16_384  # a script may drop a window's remainder
FEWEST_TOKENS = 30_000_000  # no published tokenizer makes fewer of the 50,000 documents
LEAKED_SHARDS = 1499  # an export that kept 10,000 validation documents and trains on the other 40,000

# Families of bugs that spread from one script to the next, as those are spelled in public: another spelling is not
# seen, and one that is seen may be innocent. Rule, what it does, its line, what else the script has.
SPACE_COUNTED = (
    r"len\(\s*\w+\.replace\(\s*['\"](?:▁|\\u2581)['\"]\s*,\s*['\"] ['\"]\s*\)\.encode"
    r"|^(?=.*base_bytes)(?=.*len\()(?=.*encode).*\)\s*\+\s*1\b"
)
SPACE_ADDED = r"has_leading_space\w*\s*[\[&]|leading_space_lut|has_space\w*\["
TOKEN_DECODED = r"len\(\s*\w+\.decode(?:_ids)?\(\s*\[[^\],]+\]\s*\)\s*\.encode"
NO_BYTE_TOKENS = r"\A(?![\s\S]*is_byte)"
TARGET_KEYED = r"^[^=\n]*(?:key|hash|idx|bucket)\w*\s*=(?=.*(?:ctx|context))(?=.*\b(?:tgt|target))(?=.*[\^+])"
TABLE_FILLED = r"np\.add\.at|np\.bincount|scatter_add_|index_add_|index_put_|\w_tables?\["
BUGS = (
    ("code.bytes", "counts a leading space twice: in its table of bytes and in the sum", SPACE_COUNTED, SPACE_ADDED),
    ("code.bytes", "decodes single tokens, which makes three bytes of each byte token", TOKEN_DECODED, NO_BYTE_TOKENS),
    ("code.target", "keys a cache by the token to predict: its shares sum to anything", TARGET_KEYED, TABLE_FILLED),
)
LEARNS = re.compile(r"adapt|test.?time|\bttt\b", re.I)  # while it scores
OTHER_KIND = 1e-3  # bits per byte by which another kind of device may be off
READABLE_ENDS = (".py", ".sh", ".gz", ".xz", ".zst")
USUAL = {"code.environment", "code.path"}  # in public scripts


def is_contest(folder: Folder) -> bool:
    """A folder of ours has our schema in its manifest, or in its claim where the manifest is gone."""
    for name, mark in ((MANIFEST, b'"bitgolf-manifest-'), (SUBMISSION, b'"bitgolf-record-')):
        with suppress(BadInput):
            if name in folder and mark in folder.read(name):
                return False
    return SUBMISSION in folder or ARTIFACT not in folder


def contest_findings(folder: Folder, fast: bool = True, data: Path | None = None) -> Iterator[Finding]:
    """Not `fast`: the shipped single file scores the shipped artifact, on `data` or what it was trained on, if here."""
    for name, why in folder.refused.items():
        yield Finding("files.plain", "unverified", f"{name!r:.120} is {why}, and was not looked at", {"file": name})
    entry = open_entry(folder)
    own = find_own_logs(entry)
    yield from entry.troubles
    yield from _missing_files(entry)
    if entry.bpb is not None and entry.logs:
        yield _judge_score(entry, entry.bpb, own)
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
    else:
        if data is not None:
            describe_dataset(data, val_only=True)  # a folder that is no dataset is bad usage, not the entry's fault
        try:
            yield from _score_artifact(entry, data)
        except BadInput as reason:
            yield Finding("score.begun", "unverified", f"{ARTIFACT} was not scored: {reason}")


def _score_artifact(entry: Entry, data: Path | None) -> Iterator[Finding]:
    """One artifact is one seed's: it can contradict the claim of one seed, and of a mean over several it can only show
    that none of those listed has its score."""
    code = entry.folder.read(CODE)
    artifact = entry.folder.read(ARTIFACT)
    header = read_head(artifact).header
    trained_on = header.data_sha256
    inside = unbundle(code)
    if inside is None:
        raise BadInput(f"{CODE} is no single file of tools.bundle, and no other program is run")
    if doors := open_doors():
        raise BadInput(f"on this machine {CODE} could not be kept from {' and '.join(doors)}")
    path = data or next(datasets_with(trained_on, val_only=False), None)
    if path is None:
        raise BadInput(f"no dataset in {DATASETS} is {trained_on[:12]}…, which it was trained on; name it with --data")
    answer, seconds = score_boxed(code, artifact, path, BUDGET_S, scoring_ranks(read_adapt(header.config).kind))
    bpb = answer["bpb"]
    what = f"{ARTIFACT} ({len(artifact):,} bytes) scores {bpb:.8f} bits per byte by its {CODE}"
    evidence = {"bpb": bpb, "bytes": len(artifact), "tokens": as_number(answer.get("tokens")), "seconds": seconds}
    yield Finding("score.measured", "note", f"{what} on {path}", evidence)
    sources = read_sources()
    if inside.modules != (strip(sources) if inside.packed else sources):
        yield Finding("score.code", "unverified", f"{CODE} is not of this tree: no other code has measured the score")
    counted, contest = (as_number(answer.get(key)) or 1.0 for key in ("bytes", "contest_bytes"))
    claims = list(entry.per_seed.values()) or ([] if entry.bpb is None else [entry.bpb])
    pairs = [(claimed, found) for claimed in claims for found in (bpb, bpb * counted / contest)]
    if not pairs or any(agrees(claimed, found) for claimed, found in pairs):
        return
    nearest, found = min(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    is_one_seed = max(entry.seeds, len(entry.per_seed)) < 2
    is_plain = not LEARNS.search(f"{entry.claim} {entry.readme}")
    is_sure = is_one_seed and is_plain and abs(nearest - found) > OTHER_KIND
    if is_sure and data is not None:
        is_sure = describe_dataset(data).data_sha256() == trained_on
    level: Level = "invalid" if is_sure else "flag"
    yield Finding("score.val_bpb", level, f"{what}; the nearest that is claimed is {nearest:.8f}", evidence)


def find_own_logs(entry: Entry) -> dict[str, Scored]:
    """Log -> the score by which it is one of the claim's runs; {}: nobody can tell.

    The claim may be the mean of all logs, or of those named after seeds; else a log's own score may be the claim's or a
    seed's.
    """
    if entry.bpb is None:
        return {}
    own: dict[str, Scored] = {}
    named = [log for log in entry.logs if "/" not in log.name and log.seed is not None]
    for logs in (entry.logs, named):
        for scores in _last_scores(logs).values():
            if scores[0].is_final and agrees(entry.bpb, fmean(scored.bpb for scored in scores)):
                own |= {log.name: scored for log, scored in zip(logs, scores, strict=True)}
        if own:
            return own
    claimed = [entry.bpb, *entry.per_seed.values()]
    for log in entry.logs:
        for scored in log.scores:
            if scored.is_final and any(agrees(bpb, scored.bpb) for bpb in claimed):
                own[log.name] = scored
    return own


def _last_scores(logs: list[Log]) -> dict[str, list[Scored]]:
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
    means = {label: fmean(scored.bpb for scored in scores) for label, scores in _last_scores(entry.logs).items()}
    evidence = {"claimed": claimed, "means": means}
    if len(own) == 1 and entry.seeds > 1 and len(entry.logs) > 1:
        message = f"{what} is that of {next(iter(own))} alone; the claim is of {entry.seeds} seeds"
        return Finding("number.val_bpb", "flag", message, evidence)
    if own:
        message = f"{what} is what the logs have ({next(iter(own.values())).label:.80})"
        return Finding("number.measured", "note", message, {"val_bpb": claimed})
    logged = [(f"the mean of {label}", mean) for label, mean in means.items()]
    logged += [(f"{log.name} {scored.label}", scored.bpb) for log in entry.logs for scored in log.scores]
    near = next((where for where, bpb in logged if agrees(claimed, bpb, NEAR)), None)
    if near is not None:
        message = f"{what} is no final score of the shipped model, only near another ({near:.80})"
        return Finding("number.val_bpb", "flag", message, evidence)
    lowest = min(log.lowest_bpb for log in entry.logs)
    if entry.has_all_logs and entry.is_refuted(claimed, lowest):
        source = f"the lowest val_bpb in its {len(entry.logs)} log(s) is"
        return contradiction("number.val_bpb", "val_bpb", claimed, source, lowest)
    message = f"{what} cannot be derived from the {len(entry.logs)} log(s) that are here"
    return Finding("number.val_bpb", "unverified", message, evidence)


def _check_seeds(entry: Entry) -> Iterator[Finding]:
    for original, copy in entry.copies:
        level: Level = "note" if original.seed == copy.seed or None in (original.seed, copy.seed) else "invalid"
        yield Finding("seed.same", level, f"{original.name} and {copy.name} are the same, byte by byte")
    wanted = max(3, entry.seeds)
    if entry.is_ten_minutes and len(entry.logs) < wanted:
        yield Finding("seed.few", "unverified", f"{len(entry.logs)} logs; a claim is the mean of {wanted} seeds")
    claims = entry.per_seed
    counts = Counter(log.seed for log in entry.logs)
    for log in entry.logs:
        logged = log.numbers["seeds"]
        if log.seed is not None and logged and log.seed not in logged:
            yield Finding("seed.log", "flag", f"{log.name} is of seed {logged[0]}, by its own words")
        if log.seed in claims and counts[log.seed] == 1 and entry.is_refuted(claims[log.seed], log.lowest_bpb):
            what = f"seed {log.seed}: val_bpb"
            yield contradiction("number.seed", what, claims[log.seed], f"the lowest in {log.name} is", log.lowest_bpb)


def _check_sizes(entry: Entry, own: dict[str, Scored]) -> Iterator[Finding]:
    claimed = max(as_number(entry.claim.get(key)) or 0 for key in TOTALS)
    if claimed > CAP_BYTES:
        yield Finding("size.cap", "invalid", f"{claimed:,.0f} bytes are claimed; the cap is {CAP_BYTES:,}")
    script = max((size for name, size in entry.folder.files.items() if name.endswith(".py")), default=0)
    for log in entry.logs:
        total = min(log.numbers["totals"], default=0)  # several coders may have been tried
        if total > CAP_BYTES >= claimed:
            level: Level = "invalid" if not claimed and log.name in own else "unverified"
            message = f"{log.name}: {total:,} bytes; the cap is {CAP_BYTES:,}, and the claim has {claimed or 'none'}"
            yield Finding("size.cap", level, message, {"logged": total, "claimed": claimed})
        strict = script + min(log.numbers["models"], default=0)
        if script and strict > CAP_BYTES >= total > 0:
            message = f"{log.name}: with the script as it is shipped it is {strict:,} bytes; a smaller one was counted"
            yield Finding("size.strict", "flag", message, {"strict": strict, "logged": total})


def _check_clocks(log: Log, own: Scored | None) -> Iterator[Finding]:
    """Invalid only where the log is the claim's own: an ablation may have run for as long as it liked."""
    level: Level = "invalid" if own else "flag"
    train_s = max(log.numbers["train_ms"], default=0) / 1000
    step_s = train_s / max([1, *log.numbers["steps"]])
    calibration_s = sum(log.numbers["calibration_s"])
    allowed_s = BUDGET_S + max(GRACE_S, 2 * step_s)
    # One score may be on several lines, of which one has its seconds.
    claimed = [scored for scored in log.scores if own is None or abs(scored.bpb - own.bpb) <= AGREES]
    eval_s = log.last("eval_s") or max((scored.eval_s for scored in claimed), default=0.0)
    evidence = {"train_s": train_s, "step_s": step_s, "calibration_s": calibration_s, "eval_s": eval_s}
    if train_s > allowed_s:
        message = f"{log.name}: trained {train_s:.3f} s of {BUDGET_S:g}; a step took {step_s:.3f} s"
        yield Finding("budget.train", level, message, evidence)
    elif calibration_s and train_s + calibration_s > allowed_s:
        message = f"{log.name}: trained {train_s:.3f} s of {BUDGET_S:g}, then calibrated {calibration_s:.1f} s"
        yield Finding("budget.calibration", "flag", message, evidence)
    if eval_s > BUDGET_S + GRACE_S:
        yield Finding("budget.eval", level, f"{log.name}: evaluated in {eval_s:.1f} s of {BUDGET_S:g}", evidence)


def _check_data(log: Log) -> Iterator[Finding]:
    if log.last("train_shards") == LEAKED_SHARDS:
        message = f"{log.name}: {LEAKED_SHARDS} training shards: such an export trains on 40,000 validation documents"
        yield Finding("data.overlap", "flag", message)
    tokens = log.last("val_tokens")
    if 0 < tokens < FEWEST_TOKENS:
        message = f"{log.name}: {tokens:,} validation tokens; the 50,000 documents have more than {FEWEST_TOKENS:,}"
        yield Finding("data.coverage", "flag", message, {"val_tokens": tokens})
    last = log.scores[-1]
    for size, exports in VAL_TOKENS.items():
        if last.bpb > 0 and any(0 <= known - tokens < TAIL_TOKENS for known in exports):
            counted = last.loss * tokens / (last.bpb * math.log(2))  # the bytes that its last score was divided by
            if not 0.98 < counted / size < 1.02:
                message = f"{log.name}: its score divides by {counted:,.0f} bytes; the text has {size:,}"
                yield Finding("number.bytes", "flag", message, {"counted": counted, "expected": size})


def _check_scripts(entry: Entry) -> Iterator[Finding]:
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
        yield from _find_bugs(name, "\n".join(texts_inside(source)))
        yield from (finding for finding in code_findings(name, source, None) if finding.rule not in USUAL)


def _find_bugs(name: str, text: str) -> Iterator[Finding]:
    text = "\n".join(line if len(line) <= LONGEST_LINE else "" for line in text.splitlines())
    for rule, what, pattern, needed in BUGS:
        found = re.search(pattern, text, re.M)
        if found and re.search(needed, text):
            number = text.count("\n", 0, found.start()) + 1
            line = text.splitlines()[number - 1].strip()
            yield Finding(rule, "flag", f"{name}:{number} {what}: {line:.100}", {"file": name, "line": number})
