"""A model's losses over a token stream, window by window, into a tally: the sliding-window score.

Windows are batched; only the positions that a window scores go through the head. One window's result depends on
nothing but its own tokens, so batch size and rank count change rounding at most.
"""

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


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """The `eval` section."""

    stride: Annotated[int, Ge(1)] = 64
    context: Annotated[int, Ge(0)] = 0  # 0: the training length
    batch_tokens: Annotated[int, Ge(1)] = 16_384  # of windows, at a time
    during: Annotated[float, Ge(0)] = 0.25  # validate each such share of the run, without overlap; 0: never


@torch.no_grad()
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
    plan = plan_windows(len(tokens) - 1, context, stride)
    stream = torch.from_numpy(np.asarray(tokens, np.int64))
    mine = np.array_split(np.arange(len(plan.start)), ranks)[rank]
    was_training = model.training
    model.eval()
    size = max(1, batch_tokens // context)
    for first in range(0, len(mine), size):
        _score_windows(model, stream, tally, Windows(*(column[mine[first : first + size]] for column in plan)), context)
    model.train(was_training)
    return tally


def _score_windows(model: GPT, stream: torch.Tensor, tally: Tally, windows: Windows, context: int) -> None:
    device = next(model.parameters()).device
    rows = torch.stack([_padded(stream, int(start), context) for start in windows.start]).to(device)  # (W, T + 1)
    hidden = model.trunk(rows[:, :-1])  # (W, T, D); a window's padding comes after all that it scores
    begins, ends = windows.score_from - windows.start, windows.end - windows.start
    for begin, end in sorted(set(zip(begins.tolist(), ends.tolist(), strict=True))):  # nearly all windows are alike
        alike = np.flatnonzero((begins == begin) & (ends == end))
        logits = model.logits(hidden[alike, begin:end])  # (w, scored, V)
        targets = rows[alike, begin + 1 : end + 1]
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        for number, nats in zip(alike, losses.double().cpu().numpy(), strict=True):
            tally.add(int(windows.score_from[number]), nats)


def _padded(stream: torch.Tensor, start: int, context: int) -> torch.Tensor:
    part = stream[start : start + context + 1]
    return F.pad(part, (0, context + 1 - len(part)))
