"""The score again, by our own scorer: of the whole validation side, or a bound on it from a sample.

    score = whole_score(artifact, dataset, rule, device)             what eval.bpb would say
    ground = rough_ground(artifact, dataset, rule, device, rng)      once a record
    estimate = sampled_score(artifact, ground, rule, device)         bits a byte ± a standard error
    finding = compared(seed, claimed_bpb, estimate, tolerance)

A record cannot ship its losses, so a sample proves this much: which windows are looked at is drawn by the hash of the
record itself, after it was made, and the claim must lie within SIGMAS standard errors of what they say. Two phases keep
that bound tight. Blocks without overlap are scored cheaply (all of them, up to COARSE_TOKENS) by one artifact, the
ground; then each artifact scores a few of them by the record's own sliding windows, and only the difference from the
ground is extrapolated: it varies five to ten times less than a loss does, for other seeds of one model as well. Both
draws are simple random samples, so the errors follow from the drawing alone, whatever the text and the models.
"""

import math
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from base.errors import CheckFailed
from base.progress import counted_progress
from data.bytes import bits_per_byte
from data.dataset import Dataset
from engine.device import Device
from eval.adapt import ADAPTATIONS, Adapted
from eval.bpb import counted
from eval.metric import Score
from eval.score import EvalConfig, planned_losses
from eval.windows import Windows, plan_windows
from model.gpt import GPT
from quant.unpack import Artifact
from tools.verify.verdict import Finding

# Bits a byte that rounding may move a score by. Batches, threads and compilation on one kind of device: 1e-7 was seen.
SAME_KIND, OTHER_KIND = 1e-5, 1e-3
SIGMAS = 6.0  # an honest claim lies further off once in 10^9
COARSE_TOKENS, FINE_TOKENS = 1 << 20, 1 << 17
BATCH_TOKENS = EvalConfig().batch_tokens

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Rule(NamedTuple):
    context: int
    stride: int
    adapt: str = ""


class Estimate(NamedTuple):
    bpb: float
    error_bpb: float  # one standard error; 0: the whole was scored
    tokens: int  # targets that were scored by the record's rule
    seconds: float


def whole_score(artifact: Artifact, dataset: Dataset, rule: Rule, device: Device) -> tuple[Score, float]:
    """And its seconds. With adaptation there is no other way: what was learned depends on all that came before."""
    tokens = dataset.val.read(0, len(dataset.val))
    plan = plan_windows(len(tokens) - 1, rule.context, rule.stride)
    model, started = artifact.model.to(device.torch), time.perf_counter()
    pieces = planned_losses(model, tokens, plan, BATCH_TOKENS)
    if rule.adapt:
        shape = rule.context, rule.stride, BATCH_TOKENS
        pieces = Adapted(ADAPTATIONS[rule.adapt], model, artifact.tokenizer, *shape).losses(tokens)
        first = np.arange(len(tokens) - 1)
        plan = Windows(first, first + 1, first)  # for the bar alone
    return counted(pieces, plan, tokens, dataset, device).score(), time.perf_counter() - started


class Ground(NamedTuple):
    """What one artifact costs in blocks of the text without overlap, and the blocks that are looked at closely."""

    dataset: Dataset
    tokens: npt.NDArray[np.integer]
    blocks: Ints  # (of all, 2) each block's first target and its end
    total: float  # nats of all blocks
    error: float  # … and their standard error; 0 where all were scored
    chosen: Ints  # blocks, in order
    nats: Floats  # of the chosen


def rough_ground(
    artifact: Artifact,
    dataset: Dataset,
    rule: Rule,
    device: Device,
    rng: np.random.Generator,
    coarse_tokens: int = COARSE_TOKENS,
    fine_tokens: int = FINE_TOKENS,
) -> Ground:
    tokens = dataset.val.read(0, len(dataset.val))
    plan = plan_windows(len(tokens) - 1, rule.context, rule.context)
    blocks = np.stack([plan.score_from, plan.end], -1)
    seen = _draw(rng, np.arange(len(blocks)), coarse_tokens // rule.context)
    rough = _nats(artifact.model.to(device.torch), tokens, Windows(*(column[seen] for column in plan)), "sampling")
    sizes, nats = _sums(dataset.table.exact[tokens[1:]].astype(np.float64), blocks), _sums(rough, blocks[seen])
    total, error = _ratio_total(nats, sizes[seen], sizes)
    chosen = _draw(rng, np.arange(len(seen)), fine_tokens // rule.context)
    return Ground(dataset, tokens, blocks, total, error, seen[chosen], nats[chosen])


def sampled_score(artifact: Artifact, ground: Ground, rule: Rule, device: Device) -> Estimate:
    started, tokens, picked = time.perf_counter(), ground.tokens, ground.blocks[ground.chosen]
    plan = _covering(plan_windows(len(tokens) - 1, rule.context, rule.stride), picked)
    nats = _sums(_nats(artifact.model.to(device.torch), tokens, plan, "sampling closely"), picked)
    every, beyond = len(ground.blocks), nats - ground.nats
    total = ground.total + every * float(beyond.mean())
    error = ground.error + every * _mean_error(beyond, every)
    if not math.isfinite(total + error):
        raise CheckFailed(f"the losses of a sample add up to {total}: no text has such a length")
    size_bytes = int(ground.dataset.table.exact[tokens[1:]].sum())
    seconds, scored = time.perf_counter() - started, int(np.diff(picked).sum())
    return Estimate(bits_per_byte(total, size_bytes), error / math.log(2) / size_bytes, scored, seconds)


def compared(seed: int, claimed: float, found: Estimate, tolerance: float) -> Finding:
    """`tolerance`: what rounding may move; a sample's own error comes on top."""
    bound = tolerance + SIGMAS * found.error_bpb
    gap = claimed - found.bpb
    evidence = {
        "claimed_bpb": claimed, "measured_bpb": found.bpb, "error_bpb": found.error_bpb,
        "bound_bpb": bound, "tokens": found.tokens, "seconds": found.seconds,
    }  # fmt: skip
    if found.error_bpb:
        z = gap / found.error_bpb
        what = f"{found.tokens:,} targets drawn by the record's hash say {found.bpb:.5f} ± {found.error_bpb:.5f}"
        said = f"seed {seed}: val_bpb {claimed:.6f} is claimed; {what} ({z:+.1f} standard errors)"
        end = f"; a claim off by more than {bound:.5f} would not have passed"
        if abs(gap) <= bound:
            return Finding("score.measured", "note", said + end, {f"score_seed{seed}": evidence})
        return Finding("score.sample", "invalid", f"{said}, beyond {SIGMAS:g} of them", evidence)
    said = f"seed {seed}: val_bpb {claimed:.8f} is claimed and the artifact scores {found.bpb:.8f}"
    if abs(gap) <= bound:
        return Finding("score.measured", "note", f"{said}, within {tolerance:g}", {f"score_seed{seed}": evidence})
    return Finding("score.val_bpb", "invalid", f"{said}, {gap:+.6f} off; {tolerance:g} is rounding", evidence)


def _nats(model: GPT, tokens: npt.NDArray[np.integer], plan: Windows, label: str) -> Floats:
    """By target; NaN where the plan has none."""
    nats, done = np.full(len(tokens) - 1, np.nan), 0
    with counted_progress(label, int((plan.end - plan.score_from).sum()), "targets") as tell:
        for first, row in planned_losses(model, tokens, plan, BATCH_TOKENS):
            nats[first : first + len(row)] = row
            done += len(row)
            tell(done, f"{row.mean():.3f} nats a token in the last window")
    return nats


def _covering(plan: Windows, blocks: Ints) -> Windows:
    """The windows that score any target of these blocks."""
    needed = np.zeros(len(plan.start), bool)
    for begin, end in blocks.tolist():
        needed |= (plan.end > begin) & (plan.score_from < end)
    return Windows(*(column[needed] for column in plan))


def _sums(values: Floats, bounds: Ints) -> Floats:
    return np.array([values[begin:end].sum() for begin, end in bounds.tolist()])


def _draw(rng: np.random.Generator, things: Ints, count: int) -> Ints:
    """At most `count` of them, and two at the least for an error to be seen; in order."""
    drawn: Ints = np.sort(rng.choice(things, min(len(things), max(2, count)), replace=False))
    return drawn


def _ratio_total(seen: Floats, sizes: Floats, every: Floats) -> tuple[float, float]:
    """The total over all blocks by nats a byte of those seen, and its standard error (0 where all were seen)."""
    rate = float(seen.sum() / sizes.sum())
    return rate * float(every.sum()), len(every) * _mean_error(seen - rate * sizes, len(every))


def _mean_error(values: Floats, of: int) -> float:
    """The standard error of a mean, of values drawn without replacement from `of`."""
    n = len(values)
    return float(values.std(ddof=1)) * math.sqrt((1 - n / of) / n) if 1 < n < of else 0.0
