"""Score-first test-time training: a chunk is scored with the weights as they are, then the weights learn from it.

    for learner, chunk in lessons(model, tokens, protocol, TTTConfig()): …

The windows are the plain score's own (eval.windows); a chunk is a run of them. What a chunk's targets cost depends on
the artifact and on tokens before it alone: no token is scored after training on it, nor twice, and nothing here knows
how long the text is. (The cosine over the text that the contest's records use for the learning rate does know.)

All weights learn, by Adam without momentum: SGD as in those records and LoRA were measured to be worse (docs/LOG.md).
"""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from eval.batches import Tokens
from eval.config import TTTConfig
from eval.protocol import Protocol
from eval.windows import plan_windows
from model.gpt import GPT

IGNORED = -100  # a target without a loss
ADAM_BETAS = (0.0, 0.999)  # no momentum: what was learned last ages fast, and 0.9 loses half of the gain


class Chunk(NamedTuple):
    start: int  # the token where its first window begins
    first: int  # its targets: first … end - 1
    end: int


def plan_chunks(targets: int, context: int, stride: int, chunk_tokens: int) -> list[Chunk]:
    """A window belongs to the chunk that its first target falls in; so a chunk may end up to a stride late."""
    plan = plan_windows(targets, context, stride)
    begins = np.flatnonzero(np.diff(plan.score_from // chunk_tokens, prepend=-1) > 0)
    lasts = np.append(begins[1:], len(plan.start)) - 1
    return [
        Chunk(int(plan.start[begin]), int(plan.score_from[begin]), int(plan.end[last]))
        for begin, last in zip(begins, lasts, strict=True)
    ]


def lessons(model: GPT, tokens: Tokens, protocol: Protocol, config: TTTConfig) -> Iterator[tuple[GPT, Chunk]]:
    """Each chunk with the model that is to score it; it learns from the chunk when the next one is requested."""
    context = protocol.context
    chunks = plan_chunks(len(tokens) - 1, context, protocol.stride, config.chunk_tokens)
    learner = Learner(model, config)
    for chunk in chunks:
        yield learner.model, chunk
        if chunk is not chunks[-1]:
            learner.learn(*lesson(tokens, chunk, context), max(1, protocol.batch_tokens // context))


def lesson(tokens: Tokens, chunk: Chunk, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(R, T) tokens and targets: a chunk that ends at T or later, in rows; each target once, no token from after it."""
    ends = np.arange(chunk.end, chunk.first, -context)[:, None]
    position = np.maximum(ends - context, 0) + np.arange(context)  # (R, T); the earliest row reaches back, or ahead
    is_own = (position >= np.maximum(chunk.first, ends - context)) & (position < ends)
    stream = np.asarray(tokens[: chunk.end + 1], np.int64)
    return torch.from_numpy(stream[position]), torch.from_numpy(np.where(is_own, stream[position + 1], IGNORED))


class Learner:
    """A copy of the model, and how it learns."""

    def __init__(self, model: GPT, config: TTTConfig) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_()
        self._config = config
        self._weights = list(self.model.parameters())
        self._artifact = [weight.detach().clone() for weight in self._weights]
        self._optimizer = torch.optim.Adam(self._weights, config.lr, ADAM_BETAS)

    @torch.enable_grad()
    def learn(self, rows: torch.Tensor, targets: torch.Tensor, batch_rows: int) -> None:
        """One step on the mean loss over (R, T) rows, then a small step back towards the artifact."""
        device = self._weights[0].device
        taught = int((targets != IGNORED).sum())
        self.model.zero_grad()
        for row, target in zip(torch.split(rows, batch_rows), torch.split(targets, batch_rows), strict=True):
            is_own = target != IGNORED  # the others are context: they need no head
            logits = self.model.logits(self.model.trunk(row.to(device))[is_own], row[is_own].to(device))
            loss = F.cross_entropy(logits, target[is_own].to(device), reduction="sum")
            torch.autograd.backward(loss / taught)
        torch.nn.utils.clip_grad_norm_(self._weights, self._config.clip)
        self._optimizer.step()
        with torch.no_grad():
            for weight, artifact in zip(self._weights, self._artifact, strict=True):
                weight.lerp_(artifact, self._config.pull)
