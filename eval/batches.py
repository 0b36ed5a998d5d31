"""Feed the windows of a plan to a model in batches: what targets cost, or the distributions behind their losses.

    for first, nats in window_losses(model, tokens, plan, batch_tokens): …           (n,) of targets first, first + 1, …
    for first, rows in window_probabilities(model, tokens, plan, batch_tokens): …                   (n, V) of the same

Exact, and no more than is needed: the positions that a window does not score are keys and values to the others, so they
skip the head and most of the last block. Windows of one length go in batches of one shape, small enough for a CPU's
caches; long scorings are compiled. One window's result depends on nothing but its own tokens, so batch size,
compilation and rank count change rounding at most.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch.distributed.fsdp import FSDPModule

from eval.windows import Windows
from model.cost import scoring_flops
from model.gpt import GPT

CACHED_TOKENS = 512  # of windows, per CPU thread: what stays in its cache; 64 windows take 1.4 times as long
# FLOPs of a scoring above which compiling saves more time than it takes. Measured on two cores with cpu10: 11 s against
# 0.8 ms per window of 0.57 GFLOP, even at 8e12. On a GPU it is a guess: a minute against a third of the time.
COMPILE_FLOPS = {"cpu": 1e13, "cuda": 4e15}

Tokens = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.floating]  # (n, V) probabilities
Losses = Iterator[tuple[int, Floats]]  # (first, nats of targets first, first + 1, …)
Step = Callable[[torch.Tensor, int], torch.Tensor]  # (R, T + 1) tokens, last -> (R, last, …) of each row's last targets


class Shape(NamedTuple):
    rows: int
    width: int  # tokens that each window feeds
    last: int  # of its positions, those that are scored


class Batch(NamedTuple):
    windows: npt.NDArray[np.int64]  # their numbers in the plan, at most shape.rows
    shape: Shape


@torch.inference_mode()
def window_losses(model: GPT, tokens: Tokens, plan: Windows, batch_tokens: int, compiled: bool | None = None) -> Losses:
    """(first, nats) of every window of the plan; `compiled` None: where that saves time."""
    batches = _plan_batches(model, plan, batch_tokens)

    def plain(rows: torch.Tensor, last: int) -> torch.Tensor:
        logits = model.logits(model.trunk(rows[:, :-1], last=last), rows[:, -last - 1 : -1])
        return F.cross_entropy(logits.flatten(0, 1), rows[:, -last:].flatten(), reduction="none").view(len(rows), last)

    step = _compiled_step(plain, model, batches, compiled)
    for window, nats in _run(model, tokens, plan, batches, lambda rows, last: step(rows, last).double().cpu()):
        yield int(plan.score_from[window]), nats.numpy()


@torch.inference_mode()
def window_probabilities(
    model: GPT,
    tokens: Tokens,
    plan: Windows,
    batch_tokens: int,
    compiled: bool | None = None,
    order: npt.NDArray[np.int64] | None = None,
) -> Iterator[tuple[int, Rows]]:
    """(first, (n, V)) of every window of the plan; its columns are the tokens in `order`, if that is given."""
    batches = _plan_batches(model, plan, batch_tokens)
    columns = None if order is None else torch.from_numpy(order).to(next(model.parameters()).device)

    def plain(rows: torch.Tensor, last: int) -> torch.Tensor:
        logits = model.logits(model.trunk(rows[:, :-1], last=last), rows[:, -last - 1 : -1])
        p = logits.softmax(-1)
        return p if columns is None else p.index_select(-1, columns)

    step = _compiled_step(plain, model, batches, compiled)
    for window, rows in _run(model, tokens, plan, batches, lambda rows, last: step(rows, last).cpu()):
        yield int(plan.score_from[window]), rows.numpy()


def _plan_batches(model: GPT, plan: Windows, batch_tokens: int) -> list[Batch]:
    """Windows that score from the same position on, the longest first, so that nearly all batches have one shape.

    The windows of a single stream stay in the order of the text: its first scores from position 0, all later ones from
    position context - stride, and only the last is shorter.
    """
    if next(model.parameters()).device.type == "cpu":
        batch_tokens = min(batch_tokens, CACHED_TOKENS * torch.get_num_threads())
    lengths = plan.end - plan.start
    begins = plan.score_from - plan.start
    batches = []
    for begin in np.unique(begins).tolist():
        group = np.flatnonzero(begins == begin)
        group = group[np.argsort(-lengths[group], kind="stable")]
        while len(group):
            width = int(lengths[group[0]])
            rows = max(1, batch_tokens // width)
            batches.append(Batch(group[:rows], Shape(rows, width, width - begin)))
            group = group[rows:]
    return batches


def _run(
    model: GPT, tokens: Tokens, plan: Windows, batches: Sequence[Batch], step: Step
) -> Iterator[tuple[int, torch.Tensor]]:
    """(window, what `step` gives for the targets that it scores), batch by batch, the model in evaluation mode."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        for windows, shape in batches:
            start = np.zeros(shape.rows, np.int64)
            start[: len(windows)] = plan.start[windows]
            at = start[:, None] + np.arange(shape.width + 1)  # past the end: padding that no scored target sees
            rows = torch.from_numpy(tokens[np.minimum(at, len(tokens) - 1)].astype(np.int64)).to(device)
            results = step(rows, shape.last)
            for row, window in enumerate(windows.tolist()):
                yield window, results[row, : int(plan.end[window] - plan.score_from[window])]
    finally:
        model.train(was_training)


def _compiled_step(plain: Step, model: GPT, batches: Sequence[Batch], compiled: bool | None) -> Step:
    """Compiled for the most common shape, if at all; the few batches of other shapes are not worth it."""
    if not batches or compiled is False:  # a rank may have no windows
        return plain
    common, times = Counter(batch.shape for batch in batches).most_common(1)[0]
    if compiled is None and not _is_worth_compiling(model, common, times):
        return plain
    fast = torch.compile(plain, dynamic=False)

    def step(rows: torch.Tensor, last: int) -> torch.Tensor:
        is_common = Shape(rows.shape[0], rows.shape[1] - 1, last) == common
        return fast(rows, last) if is_common else plain(rows, last)

    return step


def _is_worth_compiling(model: GPT, shape: Shape, times: int) -> bool:
    flops = times * shape.rows * scoring_flops(model.config, shape.width, shape.last)
    is_split = any(isinstance(part, FSDPModule) for part in model.modules())
    is_enough = flops >= COMPILE_FLOPS[next(model.parameters()).device.type]
    return is_enough and not is_split and shutil.which("g++") is not None
