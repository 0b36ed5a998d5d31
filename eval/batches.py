"""Feed the windows of a plan to a model in batches: what targets cost, or the distributions behind their losses.

    for targets, nats in window_losses(model, tokens, plan, feed): …            (n,) targets of a batch and their losses
    for first, rows in window_probabilities(model, tokens, plan, feed): …     (n, V) of targets first, first + 1, …

Exact, and no more than is needed: the positions that a window does not score are keys and values to the others, so they
skip the head and most of the last block. Windows of one length go in batches of one shape, small enough for a CPU's
caches or large enough for a GPU; long scorings are compiled. Text and plan are on the device once, and what a batch
costs is read while the next one runs. One window's result depends on nothing but its own tokens, so batch size,
compilation and rank count change rounding at most. Weights that are split over ranks (FSDP2) stay split: a forward
gathers one block at a time, so all ranks do as many forwards.
"""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.fsdp import FSDPModule

from base.precision import Precision
from engine.device import Readback, autocast
from eval.windows import Windows
from model.cost import scoring_flops
from model.gpt import GPT

BATCH_TOKENS = {"cpu": 16_384, "mps": 16_384, "cuda": 131_072}  # of windows
CACHED_TOKENS = 512  # of windows, per CPU thread: what stays in its cache; 64 windows take 1.4 times as long
MOST_LOGITS = 1 << 28  # of a batch: 1 GiB in fp32
# FLOPs of a scoring above which compiling saves more time than it takes. Measured on two cores with cpu10: 11 s against
# 0.8 ms per window of 0.57 GFLOP, even at 8e12. On a GPU it is a guess: a minute against a third of the time.
COMPILE_FLOPS = {"cpu": 1e13, "mps": math.inf, "cuda": 4e15}

Tokens = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.floating]  # (n, V) probabilities
Losses = Iterator[tuple[Ints, Floats]]  # (n,) targets, (n,) nats
Step = Callable[[torch.Tensor, int], torch.Tensor]  # (R, T + 1) tokens, last -> (R, last, …) of each row's last targets


class Feed(NamedTuple):
    """How windows are fed. All but the precision decide only how fast that is, to rounding."""

    batch_tokens: int = 0  # of windows, at a time; 0: what suits the device
    compiled: bool | None = None  # None: where it saves time
    precision: Precision = "fp32"  # of the matrix products
    rounds: int = 1  # plans like this one, which follow each other and are compiled once


class Shape(NamedTuple):
    rows: int
    width: int  # tokens that each window feeds
    last: int  # of its positions, those that are scored


class Batch(NamedTuple):
    windows: Ints  # their numbers in the plan, at most shape.rows
    shape: Shape


def window_losses(model: GPT, tokens: Tokens, plan: Windows, feed: Feed) -> Losses:
    """The targets of every batch, window by window, and their losses."""

    def cost(rows: torch.Tensor, last: int) -> torch.Tensor:
        logits = last_logits(model, rows, last)
        return F.cross_entropy(logits.flatten(0, 1), rows[:, -last:].flatten(), reduction="none").view(len(rows), last)

    for (windows, shape), results in _run(model, tokens, plan, feed, cost):
        targets = plan.score_from[windows, None] + np.arange(shape.last)  # (R, last)
        is_scored = targets < plan.end[windows, None]
        yield targets[is_scored], results[: len(windows)].double().numpy()[is_scored]


def window_probabilities(
    model: GPT, tokens: Tokens, plan: Windows, feed: Feed, order: Ints | None = None
) -> Iterator[tuple[int, Rows]]:
    """(first, (n, V)) of every window of the plan; its columns are the tokens in `order`, if that is given."""
    columns = None if order is None else torch.from_numpy(order).to(next(model.parameters()).device)

    def predict(rows: torch.Tensor, last: int) -> torch.Tensor:
        p = last_logits(model, rows, last).softmax(-1)
        return p if columns is None else p.index_select(-1, columns)

    for (windows, _), results in _run(model, tokens, plan, feed, predict):
        for window, rows in zip(windows.tolist(), results.numpy(), strict=False):
            first, end = int(plan.score_from[window]), int(plan.end[window])
            yield first, rows[: end - first]


def _plan_batches(model: GPT, plan: Windows, batch_tokens: int) -> list[Batch]:
    """Windows that score from the same position on, the longest first, so that nearly all batches have one shape.

    The windows of a single stream stay in the order of the text: its first scores from position 0, all later ones from
    position context - stride, and only the last is shorter.
    """
    device = next(model.parameters()).device
    lengths = plan.end - plan.start
    begins = plan.score_from - plan.start
    batches = []
    for begin in np.unique(begins).tolist():
        group = np.flatnonzero(begins == begin)
        group = group[np.argsort(-lengths[group], kind="stable")]
        while len(group):
            width = int(lengths[group[0]])
            rows = batch_rows(device.type, batch_tokens, width, width - begin, model.config.vocab_size)
            batches.append(Batch(group[:rows], Shape(rows, width, width - begin)))
            group = group[rows:]
    return batches


def batch_rows(kind: str, batch_tokens: int, width: int, last: int, vocab_size: int) -> int:
    """How many windows make a batch on a device of this kind."""
    if batch_tokens:
        return max(1, batch_tokens // width)
    suited = BATCH_TOKENS[kind]
    if kind == "cpu":
        suited = min(suited, CACHED_TOKENS * torch.get_num_threads())
    return max(1, min(suited // width, MOST_LOGITS // (last * vocab_size)))


def last_logits(model: GPT, rows: torch.Tensor, last: int) -> torch.Tensor:
    """(R, T + 1) tokens -> (R, last, V) the logits of each row's last targets."""
    logits: torch.Tensor = model(rows[:, :-1], last=last)
    return logits


def _run(model: GPT, tokens: Tokens, plan: Windows, feed: Feed, plain: Step) -> Iterator[tuple[Batch, torch.Tensor]]:
    """Each batch and what the step gives for its rows, on the host; the model in evaluation mode."""
    device = next(model.parameters()).device
    batches = _plan_batches(model, plan, feed.batch_tokens)
    most = _most_forwards(model, batches)
    step = _compiled_step(plain, model, batches, feed)
    order = np.concatenate([np.empty(0, np.int64), *(batch.windows for batch in batches)])
    first = int(plan.start.min(initial=len(tokens)))
    starts = torch.from_numpy(plan.start[order] - first).to(device)
    text = torch.from_numpy(tokens[first : plan.end.max(initial=first) + 1].astype(np.int32)).to(device)
    was_training = model.training
    model.eval()

    def run(rows: torch.Tensor, last: int) -> Readback:
        # What FSDP2 gathers into must serve training, too, and tensors of the inference mode do not.
        with torch.no_grad() if _is_split(model) else torch.inference_mode(), autocast(device, feed.precision):
            return Readback(step(rows, last))

    try:
        waiting: tuple[Batch, Readback] | None = None
        for batch, begins in zip(batches, torch.split(starts, [len(each.windows) for each in batches]), strict=True):
            padded = F.pad(begins, (0, batch.shape.rows - len(begins)))
            at = padded[:, None] + torch.arange(batch.shape.width + 1, device=device)
            rows = text[at.clamp_(max=len(text) - 1)].long()  # past the end: padding that no scored target sees
            sent = batch, run(rows, batch.shape.last)
            if waiting is not None:
                yield waiting[0], waiting[1].read()
            waiting = sent
        if waiting is not None:
            yield waiting[0], waiting[1].read()
        for _ in range(len(batches), most):
            run(torch.zeros(1, 2, dtype=torch.long, device=device), 1)  # for the other ranks' sake: it is not counted
    finally:
        model.train(was_training)


def _is_split(model: GPT) -> bool:
    return any(isinstance(part, FSDPModule) for part in model.modules())


def _most_forwards(model: GPT, batches: Sequence[Batch]) -> int:
    """Of any rank that shares a split model; this one's own for another model."""
    most = torch.tensor(len(batches))
    if _is_split(model):
        dist.all_reduce(most, dist.ReduceOp.MAX)
    return int(most)


def _compiled_step(plain: Step, model: GPT, batches: Sequence[Batch], feed: Feed) -> Step:
    """Compiled for the most common shape, if at all; the few batches of other shapes are not worth it."""
    if not batches or feed.compiled is False:  # a rank may have no windows
        return plain
    common, times = Counter(batch.shape for batch in batches).most_common(1)[0]
    if feed.compiled is None and not _is_worth_compiling(model, common, times * feed.rounds):
        return plain
    model.prepare(common.width)
    fast = torch.compile(plain, dynamic=False)

    def step(rows: torch.Tensor, last: int) -> torch.Tensor:
        is_common = Shape(rows.shape[0], rows.shape[1] - 1, last) == common
        return fast(rows, last) if is_common else plain(rows, last)

    return step


def _is_worth_compiling(model: GPT, shape: Shape, times: int) -> bool:
    flops = times * shape.rows * scoring_flops(model.config, shape.width, shape.last)
    is_enough = flops >= COMPILE_FLOPS[next(model.parameters()).device.type]
    return is_enough and not _is_split(model) and shutil.which("g++") is not None
