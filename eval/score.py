"""A model's losses over a token stream, window by window, into a tally: the sliding-window score.

Exact, and no more than is needed: the positions that a window does not score are keys and values to the others, so they
skip the head and most of the last block. Windows of one length go in batches of one shape, small enough for a CPU's
caches; long scorings are compiled. One window's result depends on nothing but its own tokens, so batch size,
compilation and rank count change rounding at most.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch.distributed.fsdp import FSDPModule

from data.bytes import ByteTable
from engine.device import Device, gather
from eval.metric import Score, Tally
from eval.windows import Windows, plan_windows
from model.cost import scoring_flops
from model.gpt import GPT

CACHED_TOKENS = 512  # of windows, a CPU thread at a time: what stays in its cache; 64 windows take 1.4 times as long
# Of a scoring, from which on compiling saves more time than it takes. Measured on two cores with cpu10: 11 s against
# 0.8 ms a window of 0.57 GFLOP, even at 8e12. On a GPU it is a guess: a minute against a third of the time.
COMPILE_FLOPS = {"cpu": 1e13, "cuda": 4e15}

Doubles = npt.NDArray[np.float64]


def score_tokens(
    model: GPT,
    tokens: npt.NDArray[np.integer],
    table: ByteTable,
    context: int,
    stride: int,
    batch_tokens: int,
    rank: int = 0,
    ranks: int = 1,
    compiled: bool | None = None,
) -> Tally:
    """This rank's share of the targets; merge the tallies of all ranks before asking for the score."""
    tally = Tally(table, tokens)
    for first, nats in losses(model, tokens, context, stride, batch_tokens, rank, ranks, compiled):
        tally.add(first, nats)
    return tally


def total(tally: Tally, device: Device, partial: bool = False) -> Score:
    """All ranks' tallies as one score; they must ask together."""
    for rank, state in enumerate(gather(tally.state(), device)):
        if rank != device.rank:
            tally.merge(state)
    return tally.score(partial)


def losses(
    model: GPT,
    tokens: npt.NDArray[np.integer],
    context: int,
    stride: int,
    batch_tokens: int,
    rank: int = 0,
    ranks: int = 1,
    compiled: bool | None = None,
) -> Iterator[tuple[int, Doubles]]:
    """(first, nats): what targets first, first + 1, … cost; all targets of this rank's windows, each once."""
    plan = plan_windows(len(tokens) - 1, context, stride)
    share = Windows(*(column[rank::ranks] for column in plan))
    return planned_losses(model, tokens, share, batch_tokens, compiled)


@torch.inference_mode()
def planned_losses(
    model: GPT, tokens: npt.NDArray[np.integer], plan: Windows, batch_tokens: int, compiled: bool | None = None
) -> Iterator[tuple[int, Doubles]]:
    """The same for any plan, in an order of its own; `compiled` None: where that saves time."""
    device = next(model.parameters()).device
    batches = [*_batches(plan, fitting(batch_tokens, device))]
    common, times = Counter(batch.shape for batch in batches).most_common(1)[0] if batches else (None, 0)
    step = partial(score_windows, model)
    if compiled is None:
        compiled = common is not None and _worth_compiling(model, common, times)
    fast = torch.compile(step, dynamic=False) if compiled else step
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            start = np.zeros(batch.shape.rows, np.int64)
            start[: len(batch.windows)] = plan.start[batch.windows]
            at = start[:, None] + np.arange(batch.shape.width + 1)  # past the end: padding that no scored target sees
            rows = torch.from_numpy(tokens[np.minimum(at, len(tokens) - 1)].astype(np.int64)).to(device)
            found = (fast if batch.shape == common else step)(rows, batch.shape.last).double().cpu().numpy()
            for window, row in zip(batch.windows, found, strict=False):
                first = int(plan.score_from[window])
                yield first, row[: int(plan.end[window]) - first]
    finally:
        model.train(was_training)


def fitting(batch_tokens: int, device: torch.device) -> int:
    """At most so many that a CPU's caches hold what is computed from them."""
    return min(batch_tokens, CACHED_TOKENS * torch.get_num_threads()) if device.type == "cpu" else batch_tokens


class BatchShape(NamedTuple):
    rows: int
    width: int  # tokens that each window feeds
    last: int  # of its positions, that are scored


class Batch(NamedTuple):
    windows: npt.NDArray[np.int64]  # numbers in the plan, at most shape.rows of them
    shape: BatchShape


def _batches(plan: Windows, batch_tokens: int) -> Iterator[Batch]:
    """Windows that are scored from the same position on, the longest first: so nearly all have one shape."""
    lengths, begins = plan.end - plan.start, plan.score_from - plan.start
    for begin in np.unique(begins).tolist():  # 0, and what a later window leaves to those before it
        group = np.flatnonzero(begins == begin)
        group = group[np.argsort(-lengths[group], kind="stable")]
        while len(group):
            width = int(lengths[group[0]])
            rows = max(1, batch_tokens // width)
            yield Batch(group[:rows], BatchShape(rows, width, width - begin))
            group = group[rows:]


def score_windows(model: GPT, rows: torch.Tensor, last: int) -> torch.Tensor:
    """(W, T + 1) -> (W, last): what each row's last targets cost."""
    logits = model.logits(model.trunk(rows[:, :-1], last=last))
    return F.cross_entropy(logits.flatten(0, 1), rows[:, -last:].flatten(), reduction="none").view(len(rows), last)


def _worth_compiling(model: GPT, shape: BatchShape, times: int) -> bool:
    flops = times * shape.rows * scoring_flops(model.config, shape.width, shape.last)
    split = any(isinstance(part, FSDPModule) for part in model.modules())
    enough = flops >= COMPILE_FLOPS[next(model.parameters()).device.type]
    return enough and not split and shutil.which("g++") is not None


@torch.no_grad()
def distributions(
    model: GPT, tokens: npt.NDArray[np.integer], targets: Sequence[int], context: int, stride: int
) -> Doubles:
    """(len(targets), V) probabilities behind the losses of these targets, from the windows that score them."""
    plan, asked = plan_windows(len(tokens) - 1, context, stride), np.asarray(targets)
    context = min(context, len(tokens))
    start = plan.start[np.searchsorted(plan.score_from, asked, side="right") - 1]
    device = next(model.parameters()).device
    stream = F.pad(torch.from_numpy(np.asarray(tokens, np.int64)), (0, context)).to(device)
    found = np.empty((len(asked), model.config.vocab_size))
    begins, window = np.unique(start, return_inverse=True)
    rows = max(1, CACHED_TOKENS // context)
    for at in range(0, len(begins), rows):
        hidden = model.trunk(torch.stack([stream[begin : begin + context] for begin in begins[at : at + rows]]))
        here = np.flatnonzero((window >= at) & (window < at + rows))
        states = hidden[window[here] - at, asked[here] - start[here]]  # (n, D)
        found[here] = model.logits(states).double().softmax(-1).cpu().numpy()
    return found
