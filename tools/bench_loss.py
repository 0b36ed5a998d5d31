"""The chunked loss against the plain one, forward and backward: peak memory and time. Rows for tools/bench.py.

Each way runs in a process of its own, so that its peak is its own: what the process' largest size grew by over what
inputs, weights and a first small call had already taken.
"""

import multiprocessing
import resource
import time

import torch
from torch import nn

from model.loss import chunked_loss
from tools.bench_row import Row, since

VOCAB, DIM, TOKENS, ROWS, TURNS = 32_768, 512, 4_096, 256, 5
SOFTCAP = 30.0


def loss_rows() -> list[Row]:
    context = multiprocessing.get_context("spawn")
    peaks, seconds = {}, {}
    for rows in (0, ROWS):
        with context.Pool(1) as pool:
            peaks[rows], seconds[rows] = pool.apply(_measured, (rows,))
    name = f"loss of {TOKENS:,} tokens, V {VOCAB:,}, D {DIM}"
    return [
        Row(f"{name}: plain, peak", peaks[0] / 1e6, "MB"),
        Row(f"{name}: {ROWS} at a time, peak", peaks[ROWS] / 1e6, "MB"),
        Row(f"{name}: peak of the plain way's", 100 * peaks[ROWS] / peaks[0], "%", 25, at_most=True),
        Row(f"{name}: plain, forward and backward", seconds[0], "s"),
        Row(f"{name}: time of the plain way's", 100 * seconds[ROWS] / seconds[0], "%", 110, at_most=True),
    ]


def _measured(rows: int) -> tuple[int, float]:
    """(bytes that the first whole call needed, seconds of the best)."""
    torch.manual_seed(0)
    x, weight = torch.randn(TOKENS, DIM).requires_grad_(), (0.02 * torch.randn(VOCAB, DIM)).requires_grad_()
    targets = torch.randint(VOCAB, (TOKENS,))
    torch.autograd.backward(_loss(x[:2], weight, targets[:2], 1))
    before, best = _peak(), float("inf")
    for turn in range(TURNS):
        x.grad = weight.grad = None
        started = time.perf_counter()
        torch.autograd.backward(_loss(x, weight, targets, rows))
        best = min(best, since(started))
        if not turn:
            needed = _peak() - before
    return needed, best


def _loss(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, rows: int) -> torch.Tensor:
    if rows:
        return chunked_loss(x, weight, targets, SOFTCAP, rows)
    z = nn.functional.linear(x, weight)
    return nn.functional.cross_entropy(SOFTCAP * torch.tanh(z / SOFTCAP), targets)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
