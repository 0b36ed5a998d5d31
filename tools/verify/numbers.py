"""Rules of numbers: every one of submission.json and of the README's head, derived again from the logs."""

import math
import re
import statistics
from collections.abc import Iterator

from base.errors import BadInput
from tools.record.schema import SeedResult
from tools.verify.agree import CANCELLED, LOGGED, RESCORED, agree, disagreement, half_digit
from tools.verify.log import Tail
from tools.verify.record import README, SUBMISSION, Record
from tools.verify.verdict import Finding

BPB = re.compile(r"(?<![\w.])([0-9]\.[0-9]{3,12})(?![\w.]|[0-9])")
TITLE = re.compile(r"(?<![\w.])([0-9]\.[0-9]{1,12}) bits a byte")
MILLISECOND = 6e-4  # s
FEWEST_DIGITS = 1e-3  # a headline with fewer says nothing


def seed_numbers(record: Record) -> Iterator[Finding]:
    for seed, result in (record.submission.seed_results if record.submission else {}).items():
        log = record.log_of(seed)
        if log is None or log.tail is None:
            yield Finding(
                "number.seed", "unverified", f"seed {seed}: no log to derive its numbers from", {"seed": seed}
            )
        else:
            yield from _seed(f"seed {seed}", result, log.tail)
            yield from _ratio(record, seed, result)


def _seed(seed: str, result: SeedResult, tail: Tail) -> Iterator[Finding]:
    for key, logged, laxest in (  # eval_seconds is of the shipped code's own scoring, which no log holds
        ("val_bpb", tail.bpb, RESCORED * tail.bpb),
        ("val_loss", tail.loss, RESCORED * tail.loss),
        ("pre_quant_val_bpb", tail.pre_quant_bpb, LOGGED),
        ("train_seconds", tail.train_ms / 1000, MILLISECOND),
        ("calibration_seconds", tail.calibration_ms / 1000, MILLISECOND),
    ):
        claimed = getattr(result, key)
        if abs(claimed - logged) > laxest:
            yield disagreement("number.seed", f"{seed}: {key}", claimed, f"{result.log} ends with", logged)
    if result.steps != tail.steps:
        yield disagreement("number.seed", f"{seed}: steps", result.steps, f"{result.log} ends with", tail.steps)


def _ratio(record: Record, seed: str, result: SeedResult) -> Iterator[Finding]:
    """bpb is nats x tokens / ln 2 / bytes, or one of the four is another run's."""
    assert record.submission is not None
    over = record.submission.evaluation
    derived = result.val_loss * over.val_tokens / math.log(2) / over.val_bytes
    if abs(result.val_bpb - derived) > RESCORED * derived:
        source = "val_loss x val_tokens / ln 2 / val_bytes is"
        yield disagreement("number.ratio", f"seed {seed}: val_bpb", result.val_bpb, source, derived)


def means(record: Record) -> Iterator[Finding]:
    claim = record.submission
    if claim is None:
        return
    results = list(claim.seed_results.values())
    for key, spread, scores in (
        ("val_bpb", claim.val_bpb_std, [result.val_bpb for result in results]),
        ("val_loss", claim.val_loss_std, [result.val_loss for result in results]),
    ):
        if not scores:
            continue
        claimed, mean = getattr(claim, key), statistics.fmean(scores)
        if not agree(claimed, mean):
            yield disagreement(f"number.{key}", key, claimed, "the mean of its seeds is", mean, seeds=scores)
        std = statistics.stdev(scores) if len(scores) > 1 else None
        if (spread is None) != (std is None) or (
            spread is not None and std is not None and not agree(spread, std, CANCELLED)
        ):
            yield disagreement(f"number.{key}_std", f"{key}_std", spread, "the sample's spread over its seeds is", std)
        # The claimed means say what the logs say, whatever is between them.
        logged = [log.tail.bpb if key == "val_bpb" else log.tail.loss for log in record.logs.values() if log.tail]
        if len(logged) == len(scores) and abs(statistics.fmean(logged) - claimed) > RESCORED * claimed:
            yield disagreement(
                f"number.{key}", key, claimed, "the mean of the logs' final lines is", statistics.fmean(logged)
            )
    tails = [log.tail for log in record.logs.values() if log.tail]
    if tails:
        measured = {
            "val_bpb": statistics.fmean(tail.bpb for tail in tails),
            "val_bpb_std": statistics.stdev([tail.bpb for tail in tails]) if len(tails) > 1 else None,
            "val_loss": statistics.fmean(tail.loss for tail in tails),
        }
        yield Finding("number.measured", "note", f"val_bpb {measured['val_bpb']:.8f} over {len(tails)} logs", measured)


def readme(record: Record) -> Iterator[Finding]:
    """Every bpb of the README's head and results is one of the claim's own, and the mean stands in the head."""
    claim = record.submission
    if claim is None or README not in record.folder:
        return
    try:
        head, *sections = re.split(r"^##\s", record.folder.text(README), flags=re.M)
    except BadInput as bad:
        yield Finding("number.readme", "unverified", str(bad))
        return
    near = (0.8 * claim.val_bpb, 1.25 * claim.val_bpb)
    results = "".join(section for section in sections if section.startswith("Results"))
    said = [word for word in BPB.findall(head + results) if near[0] < float(word) < near[1]]
    own = [claim.val_bpb, claim.val_loss]
    own += [
        n for result in claim.seed_results.values() for n in (result.val_bpb, result.val_loss, result.pre_quant_val_bpb)
    ]
    said += TITLE.findall(head.partition("\n")[0])  # there no other number may stand, however far it is off
    for word in dict.fromkeys(said):
        if not any(_rounds_to(word, number) for number in own):
            yield disagreement(
                "number.readme", f"{README}: its {word}", float(word), f"{SUBMISSION} has val_bpb", claim.val_bpb
            )
    if not any(_rounds_to(word, claim.val_bpb) for word in BPB.findall(head)):
        yield Finding("number.readme", "flag", f"{README}: its head does not name val_bpb {claim.val_bpb:.4f}")


def _rounds_to(word: str, number: float) -> bool:
    digits = len(word.split(".")[1])
    return abs(float(word) - number) <= 0.5 * 10.0**-digits * (1 + 1e-6) and half_digit(float(word)) <= FEWEST_DIGITS
