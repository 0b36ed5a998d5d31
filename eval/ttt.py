"""Score-first test-time training: a chunk is scored with the weights as they are, then the weights learn from it.

    for learner, chunk in lessons(model, tokens, context, stride, batch_tokens, TTTConfig()): …

`learner` is the model that is to score the chunk; it learns from it when the next one is asked for (eval.adapt).

The windows are the plain score's own (eval.windows); a chunk is a run of them. What a chunk's targets cost depends on
the artifact and on tokens before it alone: no token is scored after training on it, nor twice, and nothing here knows
how long the text is or where it will turn. So the learning rate's cosine has a horizon of its own, where the contest's
records spread it over the text (shorten such a text, and the losses before the cut change); and a document is begun
anew only once its BOS has been scored. A window reaches back into earlier chunks, under the present weights.

A copy of the model learns; the model that was handed in stays as it was. One chunk waits for the one before it, so
that ranks cannot share a text out.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Lt

from eval.scorer import Tokens
from eval.windows import plan_windows
from model.gpt import GPT, parameter_kind

UNTAUGHT = -100  # a target that no loss is taken of
ADAPTER_SEED = 0


@dataclass(frozen=True, kw_only=True)
class TTTConfig:
    kind: Literal["adam", "sgd", "lora"] = "adam"  # of all weights; lora: adapters of attention and MLP, by Adam
    chunk_tokens: Annotated[int, Ge(1)] = 64  # scored, then learned from: the fewer the better, and the dearer
    epochs: Annotated[int, Ge(1)] = 1  # steps a chunk: each is one over all of it
    lr: Annotated[float, Gt(0)] = 0.001
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0  # Adam's first beta; what was learned last ages fast: 0.9 loses half
    second: Annotated[float, Ge(0), Lt(1)] = 0.999  # Adam's second beta
    clip: Annotated[float, Ge(0)] = 1.0  # norm of the gradient; 0: off
    pull: Annotated[float, Ge(0), Le(1)] = 0.02  # of the way back to the artifact after each step (Krause et al. 2017)
    rank: Annotated[int, Ge(1)] = 8  # of an adapter
    horizon_chunks: Annotated[int, Ge(0)] = 0  # the rate falls to nothing over so many, by a cosine; 0: it stays
    reset: Literal["never", "document"] = "never"  # when to go back to the artifact's weights at once


class Chunk(NamedTuple):
    start: int  # the token where its first window begins
    first: int  # its targets: first … end - 1
    end: int
    fresh: bool  # begins with the artifact's own weights


def plan_chunks(tokens: Tokens, context: int, stride: int, config: TTTConfig, bos_id: int) -> list[Chunk]:
    """Windows go to the chunk that their first target falls in; so a chunk may end up to a stride late."""
    plan = plan_windows(len(tokens) - 1, context, stride)
    by_tokens = plan.score_from // config.chunk_tokens
    # the document of the last token that is known when a window is scored, never of its first target
    document = np.cumsum(np.asarray(tokens) == bos_id)[plan.score_from]
    fresh = np.diff(document, prepend=document[0]) > 0 if config.reset == "document" else np.zeros(len(document), bool)
    begins = np.flatnonzero((np.diff(by_tokens, prepend=-1) > 0) | fresh)
    lasts = np.append(begins[1:], len(document)) - 1
    return [
        Chunk(int(plan.start[b]), int(plan.score_from[b]), int(plan.end[last]), bool(fresh[b]))
        for b, last in zip(begins, lasts, strict=True)
    ]


def lessons(
    model: GPT, tokens: Tokens, context: int, stride: int, batch_tokens: int, config: TTTConfig
) -> Iterator[tuple[GPT, Chunk]]:
    """Each chunk with the model that is to score it; it learns from the chunk when the next one is asked for."""
    chunks = plan_chunks(tokens, context, stride, config, model.config.bos_id)
    learner = Learner(model, config)
    for chunk, following in zip(chunks, [*chunks[1:], None], strict=True):
        if chunk.fresh:
            learner.begin()
        yield learner.model, chunk
        if following is not None and not following.fresh:
            learner.learn(*lesson(tokens, chunk, context), max(1, batch_tokens // context))


def lesson(tokens: Tokens, chunk: Chunk, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(R, T) tokens and targets: a chunk that ends at T or later, in rows; each target once, no token from after it."""
    ends = np.arange(chunk.end, chunk.first, -context)[:, None]
    position = np.maximum(ends - context, 0) + np.arange(context)  # (R, T); the earliest row reaches back, or ahead
    own = (position >= np.maximum(chunk.first, ends - context)) & (position < ends)
    stream = np.asarray(tokens[: chunk.end + 1], np.int64)
    return torch.from_numpy(stream[position]), torch.from_numpy(np.where(own, stream[position + 1], UNTAUGHT))


class Learner:
    """A copy of the model, and how it learns."""

    def __init__(self, model: GPT, config: TTTConfig) -> None:
        self.model = copy.deepcopy(model).eval()
        self._artifact, self._config = model, config
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(config.kind != "lora" or parameter_kind(name, parameter) in ("attn", "mlp"))
        self._weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """Back to the artifact's weights, with nothing remembered."""
        for own, first in zip(self.model.parameters(), self._artifact.parameters(), strict=True):
            own.copy_(first)
        config, random = self._config, torch.Generator().manual_seed(ADAPTER_SEED)
        self._adapters = [Adapter(weight, config.rank, random) for weight in self._weights if config.kind == "lora"]
        learned = [factor for adapter in self._adapters for factor in (adapter.up, adapter.down)] or self._weights
        self._optimizer: torch.optim.Optimizer
        if config.kind == "sgd":
            self._optimizer = torch.optim.SGD(learned, config.lr, config.momentum)
        else:
            self._optimizer = torch.optim.Adam(learned, config.lr, (float(config.momentum), float(config.second)))
        self._learned, self._chunks = learned, 0
        self._home = [weight.detach().clone() for weight in learned]

    @torch.enable_grad()
    def learn(self, rows: torch.Tensor, targets: torch.Tensor, batch_rows: int) -> None:
        device, taught = self._weights[0].device, int((targets != UNTAUGHT).sum())
        self._optimizer.param_groups[0]["lr"] = self._config.lr * self._share()
        for _ in range(self._config.epochs):
            self.model.zero_grad()
            for row, target in zip(torch.split(rows, batch_rows), torch.split(targets, batch_rows), strict=True):
                own = target != UNTAUGHT  # the others are context: they need no head
                logits = self.model.logits(self.model.trunk(row.to(device))[own])
                loss = F.cross_entropy(logits, target[own].to(device), reduction="sum")
                (loss / taught).backward()  # type: ignore[no-untyped-call]
            for adapter in self._adapters:
                adapter.take_gradient()
            if self._config.clip:
                torch.nn.utils.clip_grad_norm_(self._learned, self._config.clip)
            self._optimizer.step()
            with torch.no_grad():
                for weight, home in zip(self._learned, self._home, strict=True):
                    weight.lerp_(home, self._config.pull)
            for adapter in self._adapters:
                adapter.put()
        self._chunks += 1

    def _share(self) -> float:
        """Of the learning rate, for this chunk."""
        horizon = self._config.horizon_chunks
        return (1 + math.cos(math.pi * min(self._chunks / horizon, 1))) / 2 if horizon else 1.0


class Adapter:
    """W = W0 + up·down (LoRA, Hu et al. 2021) without a hand laid on the model: the gradients of both factors follow
    from that of W, and the sum is put in its place. `up` starts as zero, so W starts as W0."""

    def __init__(self, weight: torch.Tensor, rank: int, random: torch.Generator) -> None:
        rows, columns = weight.shape
        self._weight, self._first = weight, weight.detach().clone()
        self.up = torch.zeros(rows, rank).to(weight)
        self.down = (torch.randn(rank, columns, generator=random) / math.sqrt(columns)).to(weight)

    def take_gradient(self) -> None:
        assert self._weight.grad is not None
        self.up.grad = self._weight.grad @ self.down.T
        self.down.grad = self.up.T @ self._weight.grad

    @torch.no_grad()
    def put(self) -> None:
        self._weight.copy_(self._first + self.up @ self.down)
