"""A model's losses over a token stream, window by window, into a tally: the sliding-window score.

Windows are batched; only the positions that a window scores go through the head. One window's result depends on
nothing but its own tokens, so batch size and rank count change rounding at most.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from annotated_types import Ge

from data.bytes import ByteTable
from eval.tally import Tally
from eval.windows import Windows, plan_windows
from model.gpt import GPT

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """The `eval` section."""

    stride: Annotated[int, Ge(1)] = 64
    context: Annotated[int, Ge(0)] = 0  # 0: the training length
    batch_tokens: Annotated[int, Ge(1)] = 16_384  # of windows, at a time
    during: Annotated[float, Ge(0)] = 0.25  # validate each such share of the run, without overlap; 0: never


def score_tokens(
    model: GPT,
    tokens: npt.NDArray[np.integer],
    table: ByteTable,
    context: int,
    stride: int,
    batch_tokens: int,
    rank: int = 0,
    ranks: int = 1,
) -> Tally:
    """This rank's share of the targets; merge the tallies of all ranks before asking for the score."""
    tally = Tally(table, tokens)
    for first, nats in losses(model, tokens, context, stride, batch_tokens, rank, ranks):
        tally.add(first, nats)
    return tally


@torch.no_grad()
def losses(
    model: GPT,
    tokens: npt.NDArray[np.integer],
    context: int,
    stride: int,
    batch_tokens: int,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[tuple[int, Floats]]:
    """(first, nats): what targets first, first + 1, … cost; all targets of this rank's windows, each once."""
    plan = plan_windows(len(tokens) - 1, context, stride)
    stream = torch.from_numpy(np.asarray(tokens, np.int64))
    mine = np.array_split(np.arange(len(plan.start)), ranks)[rank]
    was_training = model.training
    model.eval()
    size = max(1, batch_tokens // context)
    for first in range(0, len(mine), size):
        yield from _windows(model, stream, Windows(*(column[mine[first : first + size]] for column in plan)), context)
    model.train(was_training)


def _windows(model: GPT, stream: torch.Tensor, windows: Windows, context: int) -> Iterator[tuple[int, Floats]]:
    device = next(model.parameters()).device
    rows = torch.stack([_padded(stream, int(start), context) for start in windows.start]).to(device)  # (W, T + 1)
    hidden = model.trunk(rows[:, :-1])  # (W, T, D); a window's padding comes after all that it scores
    begins, ends = windows.score_from - windows.start, windows.end - windows.start
    for begin, end in sorted(set(zip(begins.tolist(), ends.tolist(), strict=True))):  # nearly all windows are alike
        alike = np.flatnonzero((begins == begin) & (ends == end))
        logits = model.logits(hidden[alike, begin:end])  # (w, scored, V)
        targets = rows[alike, begin + 1 : end + 1]
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        for number, row in zip(alike, nats.double().cpu().numpy(), strict=True):
            yield int(windows.score_from[number]), row


@torch.no_grad()
def distributions(
    model: GPT, tokens: npt.NDArray[np.integer], targets: Sequence[int], context: int, stride: int
) -> Floats:
    """(len(targets), V) probabilities behind the losses of these targets, from the windows that score them."""
    plan = plan_windows(len(tokens) - 1, context, stride)
    stream = torch.from_numpy(np.asarray(tokens, np.int64)).to(next(model.parameters()).device)
    rows = []
    for target in targets:
        start = int(plan.start[np.searchsorted(plan.score_from, target, side="right") - 1])
        hidden = model.trunk(_padded(stream, start, context)[None, :-1])
        rows.append(model.logits(hidden[0, target - start]).double().softmax(-1).cpu().numpy())
    return np.stack(rows)


def _padded(stream: torch.Tensor, start: int, context: int) -> torch.Tensor:
    part = stream[start : start + context + 1]
    return F.pad(part, (0, context + 1 - len(part)))
