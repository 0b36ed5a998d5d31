"""From logits to the next token: pure functions of one row of logits (V,), the tokens so far and a uniform number.

In this order, as Hugging Face has it: repetition penalty, no repeated n-gram, temperature, top-k, top-p, the draw.
A token that may not come has a logit of minus infinity. Not for running a model: tools/generation.py does that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le


@dataclass(frozen=True, kw_only=True)
class Sampling:
    temperature: Annotated[float, Ge(0), Le(100)] = 0.8  # 0: the likeliest token, always
    top_k: Annotated[int, Ge(0)] = 50  # 0: off
    top_p: Annotated[float, Gt(0), Le(1)] = 0.9  # 1: off
    repetition_penalty: Annotated[float, Gt(0), Le(100)] = 1.0  # 1: off
    no_repeat_ngram: Annotated[int, Ge(0)] = 0  # 0: off


def next_token(logits: torch.Tensor, seen: Sequence[int], sampling: Sampling, uniform: float) -> int:
    """`seen`: the prompt and what followed, without the marks of documents, so that an end is never forbidden."""
    z = penalised(logits.double(), seen, sampling.repetition_penalty)
    z = without_repeats(z, seen, sampling.no_repeat_ngram)
    if sampling.temperature == 0:
        return int(z.argmax())
    z = top_p(top_k((z - z.max()) / sampling.temperature, sampling.top_k), sampling.top_p)
    return drawn(z.softmax(0), uniform)


def penalised(logits: torch.Tensor, seen: Sequence[int], penalty: float) -> torch.Tensor:
    """CTRL's rule (Keskar et al. 2019, arXiv 1909.05858): a seen token's logit is divided, below 0 multiplied."""
    if penalty == 1 or not seen:
        return logits
    index = torch.tensor(sorted(set(seen)))
    chosen, out = logits[index], logits.clone()
    out[index] = torch.where(chosen > 0, chosen / penalty, chosen * penalty)
    return out


def without_repeats(logits: torch.Tensor, seen: Sequence[int], size: int) -> torch.Tensor:
    """Forbids every token that would complete `size` tokens in a row that were seen before."""
    if not 0 < size <= len(seen):
        return logits
    tail = list(seen[len(seen) - size + 1 :])
    ends = range(size - 1, len(seen))
    banned = sorted({seen[end] for end in ends if list(seen[end - size + 1 : end]) == tail})
    out = logits.clone()
    out[banned] = -math.inf
    return out


def top_k(logits: torch.Tensor, count: int) -> torch.Tensor:
    """Only the `count` likeliest, and what is exactly as likely as the last of them."""
    if not 0 < count < len(logits):
        return logits
    return logits.masked_fill(logits < logits.topk(count).values[-1], -math.inf)


def top_p(logits: torch.Tensor, share: float) -> torch.Tensor:
    """Only the likeliest tokens that together reach `share` of the probability: as few as will do, at least one."""
    if share >= 1:
        return logits
    probabilities, order = logits.softmax(0).sort(descending=True, stable=True)
    before = probabilities.cumsum(0) - probabilities
    dropped = before >= share
    dropped[0] = False
    return logits.index_fill(0, order[dropped], -math.inf)


def drawn(probabilities: torch.Tensor, uniform: float) -> int:
    """The token whose stretch of the unit interval `uniform` in [0, 1) falls in."""
    possible = probabilities.nonzero().flatten()
    ends = probabilities[possible].cumsum(0)
    at = int(torch.searchsorted(ends, uniform * float(ends[-1]), right=True))
    return int(possible[min(at, len(possible) - 1)])
