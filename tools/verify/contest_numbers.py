"""A contest claim against its logs: is its score the mean of what they end with, and which of them are its runs?

Logs of ablations, of earlier tries and of other tools lie beside those of the claim; only what is sure to be the
claim's own can speak against it.
"""

import re
import statistics
from collections.abc import Iterator

from tools.verify.agree import disagreement
from tools.verify.contest_entry import NEAR, Entry, number, rough, rounding, seed_of
from tools.verify.contest_log import ContestLog, Scored, final_scores
from tools.verify.verdict import Finding

AGREES = 1e-4  # bpb: of a claim that is rounded
UNFINAL = re.compile(r"^step$|diagnostic|pre.?quant", re.I)  # scores of what is not shipped


def own_logs(entry: Entry) -> dict[str, Scored]:
    """Log -> the score by which it is one of the claim's runs; {}: nobody can tell."""
    claimed, found = entry.bpb, dict[str, Scored]()
    if claimed is None:
        return {}
    for logs in _groups(entry):
        for label, scores in final_scores(logs).items():
            if not UNFINAL.search(label) and _is(claimed, statistics.fmean(s.bpb for s in scores)):
                found |= {log.name: scored for log, scored in zip(logs, scores, strict=True)}
        if found:
            return found
    said = [claimed, *entry.per_seed.values()]
    for log in entry.logs:
        for scored in log.scores:
            if not UNFINAL.search(scored.label) and any(_is(bpb, scored.bpb) for bpb in said):
                found[log.name] = scored
    return found


def _groups(entry: Entry) -> list[list[ContestLog]]:
    """All logs, those at the top, those named after seeds: of which the claim may be the mean."""
    top = [log for log in entry.logs if "/" not in log.name]
    return [logs for logs in (entry.logs, top, [log for log in top if seed_of(log.name) is not None]) if logs]


def _is(claimed: float, bpb: float) -> bool:
    return abs(claimed - bpb) <= max(AGREES, rounding(claimed))


def scores(entry: Entry, own: dict[str, Scored]) -> Iterator[Finding]:
    """`own` as own_logs gives it."""
    claimed = entry.bpb
    if claimed is None or not entry.logs:
        return
    means = {label: statistics.fmean(s.bpb for s in found) for label, found in final_scores(entry.logs).items()}
    mean = next((means[scored.label] for scored in own.values() if scored.label in means), 0.0)
    logged = [(label, label, bpb) for label, bpb in means.items()]
    logged += [(f"{log.name} {s.label}", s.label, s.bpb) for log in entry.logs for s in log.scores]
    other = next((where for where, label, bpb in logged if UNFINAL.search(label) and _is(claimed, bpb)), "")
    near = next((where for where, _, bpb in logged if abs(bpb - claimed) <= NEAR), "")
    lowest = min(bpb for log in entry.logs for bpb in (*log.bpbs, *(s.bpb for s in log.scores)))
    evidence = {"claimed": claimed, "means": means}
    if own and (len(own) > 1 or entry.seeds < 2 or _is(claimed, mean)):
        message = f"val_bpb {claimed:.5f} is what the logs say ({next(iter(own.values())).label:.80})"
        yield Finding("number.measured", "note", message, {"val_bpb": claimed})
    elif own:
        message = f"val_bpb {claimed:.5f} is that of {next(iter(own))} alone; the mean of all logs is {mean:.5f}"
        yield Finding("number.val_bpb", "flag", message, evidence)
    elif other:
        message = f"val_bpb {claimed:.5f} is a score of what is not shipped ({other:.80})"
        yield Finding("number.val_bpb", "flag", message, evidence)
    elif near:
        message = f"val_bpb {claimed:.5f} is only near the logs' ({near:.80})"
        yield Finding("number.val_bpb", "flag", message, evidence)
    elif lowest > claimed + rough(claimed) and entry.all_logs and not entry.says(claimed):
        source = f"the lowest val_bpb in its {len(entry.logs)} log(s) is"
        yield disagreement("number.val_bpb", "val_bpb", claimed, source, lowest, last=entry.logs[-1].scores[-1].bpb)
    else:
        message = f"val_bpb {claimed:.5f} cannot be derived from the {len(entry.logs)} log(s) that are here"
        yield Finding("number.val_bpb", "unverified", message, evidence)


def seed_scores(entry: Entry) -> Iterator[Finding]:
    listed, spread = entry.per_seed, number(entry.claim.get("val_bpb_std"))
    if spread is not None and len(listed) > 1:
        sample, population = statistics.stdev(listed.values()), statistics.pstdev(listed.values())
        if min(abs(spread - sample), abs(spread - population)) > AGREES:
            yield disagreement("number.val_bpb_std", "val_bpb_std", spread, "its seeds' spread is", sample, "flag")
    for seed, bpb in listed.items():
        own = [log for log in entry.logs if seed_of(log.name) == seed and log.bpbs]
        if len(own) == 1 and min(own[0].bpbs) > bpb + rough(bpb) and not entry.unread and not entry.says(bpb):
            yield disagreement(
                "number.seed", f"seed {seed}: val_bpb", bpb, f"the lowest in {own[0].name} is", min(own[0].bpbs)
            )
