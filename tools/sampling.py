"""From logits to the next token: pure functions of one row of logits (V,) and the tokens so far.

In Hugging Face's order: repetition penalty, no repeated n-gram, temperature, top-k, top-p, the draw. A forbidden token
has a logit of minus infinity. Not for running a model: tools/generate.py does that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt


@dataclass(frozen=True, kw_only=True)
class Sampling:
    temperature: Annotated[float, Ge(0), Le(100)] = 0.8  # 0: always the likeliest token
    top_k: Annotated[int, Ge(0)] = 50  # 0: off
    top_p: Annotated[float, Gt(0), Le(1)] = 0.9  # 1: off
    repetition_penalty: Annotated[float, Gt(0), Le(100)] = 1.0  # 1: off
    no_repeat_ngram: Annotated[int, Ge(0)] = 0  # 0: off
    max_new_tokens: Annotated[int, Ge(1)] = 50
    seed: Annotated[int, Ge(-(1 << 63)), Lt(1 << 63)] = 1337


def choose_token(logits: torch.Tensor, seen: Sequence[int], sampling: Sampling, generator: torch.Generator) -> int:
    """`seen`: the text so far without the marks of documents, so that ending a text is never forbidden."""
    z = penalize(logits.double(), seen, sampling.repetition_penalty)
    z = forbid_repeats(z, seen, sampling.no_repeat_ngram)
    if sampling.temperature == 0:
        return int(z.argmax())
    z = (z - z.max()) / sampling.temperature
    z = keep_top_p(keep_top_k(z, sampling.top_k), sampling.top_p)
    return int(torch.multinomial(z.softmax(0), 1, generator=generator))


def penalize(logits: torch.Tensor, seen: Sequence[int], penalty: float) -> torch.Tensor:
    """Divide a seen token's logit, or multiply it if negative (CTRL: Keskar et al. 2019, arXiv 1909.05858)."""
    index = torch.tensor(sorted(set(seen)), dtype=torch.long)
    chosen = logits[index]
    return logits.index_copy(0, index, torch.where(chosen > 0, chosen / penalty, chosen * penalty))


def forbid_repeats(logits: torch.Tensor, seen: Sequence[int], size: int) -> torch.Tensor:
    """Forbid every token that would complete `size` tokens in a row that occurred before."""
    if not 0 < size <= len(seen):
        return logits
    tail = list(seen[len(seen) - size + 1 :])
    ends = range(size - 1, len(seen))
    repeats = {seen[end] for end in ends if list(seen[end - size + 1 : end]) == tail}
    return logits.index_fill(0, torch.tensor(sorted(repeats), dtype=torch.long), -math.inf)


def keep_top_k(logits: torch.Tensor, count: int) -> torch.Tensor:
    """Only the `count` likeliest, and whatever is exactly as likely as the last of them."""
    if not 0 < count < len(logits):
        return logits
    return logits.masked_fill(logits < logits.topk(count).values[-1], -math.inf)


def keep_top_p(logits: torch.Tensor, share: float) -> torch.Tensor:
    """Only the fewest likeliest tokens that together reach `share` of the probability; at least one."""
    if share >= 1:
        return logits
    probabilities, order = logits.softmax(0).sort(descending=True, stable=True)
    is_dropped = probabilities.cumsum(0) - probabilities >= share
    is_dropped[0] = False
    return logits.index_fill(0, order[is_dropped], -math.inf)
