"""Document test-time training: low-rank adapters that each document begins afresh, many documents side by side.

    protocol = Protocol(context, stride, adapt=AdaptConfig(kind="lora"))
    score(model, dataset, protocol, device)         each document by itself, as with `--docs`; ranks divide them

A document is scored chunk by chunk, each as the end of a window. A chunk is scored with the document's adapters as they
are; then they take a step of Adam on the loss of this same forward. The last chunk teaches nothing.

What a target costs depends on the artifact and on the tokens before it in its own document: not on other documents, nor
on the document's length, which decides only which documents are scored side by side. The contest's records do the same
(PR #1530 on), but for three shortcuts that break this: chunks sized by the document's length, a last window that is
placed by the document's end, and first matrices that one batch leaves to the next.

Hooks on a copy of the model add the adapters. A layer that runs more than once (a loop) has one for all its runs.
"""

import copy
from itertools import count

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from base.precision import Precision
from data.tokenizer import Tokenizer
from engine.device import autocast
from eval.batches import Floats, Losses, Tokens, last_logits
from eval.config import LoRAConfig
from eval.protocol import Protocol
from eval.windows import find_begins
from model.gpt import GPT, Product

Shown = dict[int, Floats]  # target -> its distribution, which is filled in

EPSILON = 1e-8  # of Adam
SEED = 0  # of the adapters' first matrices


def lora_losses(
    model: GPT,
    tokenizer: Tokenizer,
    tokens: Tokens,
    protocol: Protocol,
    shown: Shown,
    documents: slice = slice(None),
) -> Losses:
    """`documents`: a share of them, the longest first; a rank's is slice(rank, None, ranks)."""
    config = protocol.adapt.lora
    size = config.chunk(protocol.stride, protocol.context)
    targets = len(tokens) - 1
    begins = find_begins(tokens, tokenizer.bos_id)
    begins = begins[begins < targets]
    ends = np.append(begins[1:], targets)  # the token that begins the next document is the last target of this one
    share = np.argsort(begins - ends, kind="stable")[documents]
    adapted = Adapted(model, config)
    for at in range(0, len(share), config.batch_documents):
        batch = share[at : at + config.batch_documents]
        yield from _score_batch(adapted, tokens, begins[batch], ends[batch], protocol, size, shown)


def _score_batch(
    adapted: "Adapted",
    tokens: Tokens,
    begins: npt.NDArray[np.int64],  # (B,) of documents, the longest first: those that have ended are the last rows
    ends: npt.NDArray[np.int64],  # (B,)
    protocol: Protocol,
    size: int,
    shown: Shown,
) -> Losses:
    adapted.begin(len(begins))
    for number in count():
        first = begins + number * size  # (B,) the chunk's first target
        # Where a window begins must not depend on where its document ends: past that is padding that no target sees.
        width = min((number + 1) * size, protocol.context)
        at = (first + size - width)[:, None] + np.arange(width + 1)
        rows = torch.from_numpy(tokens[np.minimum(at, len(tokens) - 1)].astype(np.int64))
        left = int((first + size < ends).sum())  # documents that have more to score
        with torch.set_grad_enabled(left > 0):
            logits, nats = adapted.score(rows, size, protocol.precision)
        for row, (begin, end) in enumerate(zip(first.tolist(), ends.tolist(), strict=True)):
            for target in shown.keys() & range(begin, min(begin + size, end)):
                shown[target] = logits[row, target - begin].detach().double().softmax(-1).cpu().numpy()
        chunk = first[:, None] + np.arange(size)  # (B, size) targets
        is_scored = chunk < ends[:, None]
        yield chunk[is_scored], nats.detach().double().cpu().numpy()[is_scored]
        if not left:
            return
        adapted.learn(nats[:left])
        adapted.keep(left)
        begins, ends = begins[:left], ends[:left]


class Adapted:
    """A copy of the model whose layers add, for each row of a batch, the product of two small matrices of its own."""

    def __init__(self, model: GPT, config: LoRAConfig) -> None:
        self._config = config
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        self._pairs: list[list[torch.Tensor]] = []  # of each layer: (B, R, in), (B, out, R)
        self._fresh: list[tuple[torch.Tensor, torch.Tensor]] = []  # (R, in), (out, R)
        draw = torch.Generator().manual_seed(SEED)
        names = {"product" if target == "head" else target for target in config.targets}
        for name, module in self._model.named_modules():
            if name.rpartition(".")[2] in names and isinstance(module, nn.Linear | Product):
                self._add(module, draw)

    def _add(self, module: nn.Linear | Product, draw: torch.Generator) -> None:
        own = self._model.config
        width, out = (own.dim, own.vocab_size) if isinstance(module, Product) else module.weight.shape[::-1]
        rank = self._config.rank
        like = self._model.embedding.table.weight
        first = (2 * torch.rand(rank, width, generator=draw) - 1) / width**0.5
        self._fresh.append((first.to(like), torch.zeros(out, rank).to(like)))
        number = len(self._fresh) - 1
        scale = self._config.alpha / rank

        def add_product(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            first, second = self._pairs[number]
            return output + (inputs[0] @ first.mT) @ second.mT * scale  # (B, T, in) -> (B, T, out)

        module.register_forward_hook(add_product)

    def begin(self, documents: int) -> None:
        self._steps = 0
        self._pairs = [[w.expand(documents, -1, -1).clone().requires_grad_() for w in pair] for pair in self._fresh]
        self._squares = [torch.zeros_like(each) for pair in self._pairs for each in pair]

    def keep(self, documents: int) -> None:
        """Go on with the first rows of the batch."""
        self._pairs = [[each.detach()[:documents].requires_grad_() for each in pair] for pair in self._pairs]
        self._squares = [square[:documents] for square in self._squares]

    def score(self, rows: torch.Tensor, last: int, precision: Precision) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T + 1) tokens -> the last targets' logits (B, last, V) and losses (B, last)."""
        rows = rows.to(self._squares[0].device)
        with autocast(rows.device, precision):
            logits = last_logits(self._model, rows, last)
        nats = F.cross_entropy(logits.flatten(0, 1), rows[:, -last:].flatten(), reduction="none")
        return logits, nats.view(len(rows), last)

    def learn(self, nats: torch.Tensor) -> None:
        """A step of Adam without momentum on the mean of each row's losses (B, last), which are independent."""
        config = self._config
        weights = [each for pair in self._pairs for each in pair]
        gradients = torch.autograd.grad(nats.mean(1).sum(), weights)
        self._steps += 1
        with torch.no_grad():
            for weight, square, gradient in zip(weights, self._squares, gradients, strict=True):
                square.lerp_(gradient.square(), 1 - config.beta2)
                unbiased = square / (1 - config.beta2**self._steps)
                weight.addcdiv_(gradient, unbiased.sqrt() + EPSILON, value=-config.lr)
