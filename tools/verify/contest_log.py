"""A log of the contest in any of its dialects: what it says of scores, sizes, clocks, seeds and data. It judges none.

Dialects have grown over the baseline's: `step:S/N … train_time:…ms`, `final_int8_zlib_roundtrip val_loss:… val_bpb:…`,
`quantized_ttt_phased val_loss:… val_bpb:… eval_time:…ms`, `Total submission size …: N bytes`, `total_eval_time:…s`.
"""

import re
from dataclasses import dataclass

SCORE = re.compile(
    r"^(?P<label>.{0,80}?)\bval_loss[:=]\s*(?P<loss>\d{1,3}\.\d{2,12})\W{1,4}val_bpb[:=]\s*(?P<bpb>\d{1,2}\.\d{2,12})"
)
BPB = re.compile(r"(?:val_)?bpb[\"']?\s*[:=]?\s*(\d{1,2}\.\d{2,12})", re.I)
STEP = re.compile(r"^step:(\d{1,9})/\d{1,9}\b.*?\btrain_time:(\d{1,10})ms(?:.*?step_avg:(\d{1,7}\.?\d{0,6})ms)?")
STOPPED = re.compile(r"^stopping_early:.*?\btrain_time:(\d{1,10})ms")
# Of the packed model: a total without a word for how it was packed is of the raw weights.
TOTAL = re.compile(r"^Total submission size\b[^:\n]{1,60}:\s*(?:([\d,]{1,15}) bytes|(\d{1,4}\.\d{1,6}) ?MB)", re.I)
MODEL = re.compile(r"^Serialized model\b[^:\n]{1,60}:\s*([\d,]{1,15}) bytes", re.I)
CODE = re.compile(r"^Code size\b[^:\n]{0,40}:\s*([\d,]{1,15}) bytes", re.I)
EVAL_TOTAL = re.compile(r"total_eval_time[:=]\s*(\d{1,7}\.?\d{0,6})\s*s\b")
EVAL = re.compile(r"\beval_time[:=]\s*(\d{1,10})ms")
SEED = re.compile(r"^(?:\s*seed[:=]\s*|.*\bseed:)(\d{1,10})\b", re.I)
VAL_TOKENS = re.compile(
    r"\bval(?:_loader|idation)?\b.{0,200}?\btokens[:=]\s*([\d,]{1,14})|\bval_tokens[:=]\s*([\d,]{1,14})"
)
TRAIN_SHARDS = re.compile(r"\btrain_shards[:=]\s*(\d{1,6})")
CALIBRATION = re.compile(
    r"(?:gptq|hessian)[^\n]{0,60}?(?:in|time[:=]|took|collected in)\s*(\d{1,4}\.\d{1,4})\s*s\b", re.I
)
LONGEST_LINE = 2_000  # characters; what is longer is code or data, not a line of a log


@dataclass(frozen=True)
class Scored:
    label: str
    loss: float
    bpb: float
    eval_s: float  # 0: its line does not say


@dataclass(frozen=True)
class ContestLog:
    name: str
    scores: tuple[Scored, ...]  # in order
    bpbs: tuple[float, ...]  # every bits-per-byte in it, whatever its line
    steps: int
    train_ms: int  # the largest of the training clock's
    step_ms: float
    calibration_s: float
    whole_eval_s: float  # of the whole evaluation, where it says so
    totals: tuple[int, ...]
    models: tuple[int, ...]
    codes: tuple[int, ...]
    seeds: tuple[int, ...]
    val_tokens: int
    train_shards: int


def read_contest_log(name: str, text: str) -> ContestLog:
    scores: list[Scored] = []
    bpbs: list[float] = []
    steps, train_ms, step_ms, calibration_s, whole_s = 0, 0, 0.0, 0.0, 0.0
    totals: list[int] = []
    models: list[int] = []
    codes: list[int] = []
    seeds: list[int] = []
    val_tokens = train_shards = 0
    for line in text.splitlines():
        if len(line) > LONGEST_LINE:
            continue
        if scored := SCORE.match(line):
            step = STEP.match(line)
            label = "step" if step else scored["label"].strip(" :|-[]")
            took = EVAL.search(line)
            eval_s = int(took[1]) / 1000 if took and not step else 0.0
            scores.append(Scored(label, float(scored["loss"]), float(scored["bpb"]), eval_s))
        bpbs += map(float, BPB.findall(line))
        if seen := STEP.match(line):
            steps, train_ms = max(steps, int(seen[1])), max(train_ms, int(seen[2]))
            step_ms = float(seen[3]) if seen[3] else step_ms
        for pattern, into in ((TOTAL, totals), (MODEL, models), (CODE, codes)):
            if found := pattern.match(line):
                into.append(round(1e6 * float(found[2])) if found.lastindex == 2 else _whole(found[1]))
        if found := STOPPED.match(line):
            train_ms = max(train_ms, int(found[1]))
        if found := EVAL_TOTAL.search(line):
            whole_s = float(found[1])
        if (found := SEED.match(line)) and "_seed" not in line[: found.start(1)]:
            seeds.append(int(found[1]))
        if found := VAL_TOKENS.search(line):
            val_tokens = _whole(found[1] or found[2])
        if found := TRAIN_SHARDS.search(line):
            train_shards = int(found[1])
        calibration_s += sum(map(float, CALIBRATION.findall(line)))
    return ContestLog(
        name, tuple(scores), tuple(bpbs), steps, train_ms, step_ms, calibration_s, whole_s, tuple(totals),
        tuple(models), tuple(codes), tuple(dict.fromkeys(seeds)), val_tokens, train_shards,
    )  # fmt: skip


def _whole(digits: str) -> int:
    return int(digits.replace(",", "") or 0)


def final_scores(logs: list[ContestLog]) -> dict[str, list[Scored]]:
    """Label -> its last score in each log, of labels that every log has, as they last stand in the first one."""
    last = [{scored.label: scored for scored in log.scores} for log in logs]
    if not last:
        return {}
    order = [scored.label for scored in logs[0].scores]
    common = [label for label in dict.fromkeys(reversed(order)) if all(label in found for found in last)]
    return {label: [found[label] for found in last] for label in reversed(common)}
