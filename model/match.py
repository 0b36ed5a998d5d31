"""The match model of text compressors (Mahoney's paq) as an input: the token that followed the same past before.

For each position: the longest run of tokens, up to `most`, that ends here and also ended at an earlier position of the
window, the latest of equals; what came next there, and how long the run was. A transformer learns this too, as
induction heads, but late: at 300 steps of cpu10 it costs 0.05 bits per byte to wait for them (docs/LOG.md). No weights
beyond three vectors per length, no products; it reads tokens alone, so it is as causal as they are.
"""

import torch
import torch.nn.functional as F
from torch import nn

from model.cache import Cache
from model.config import ModelConfig
from model.norm import rms_norm


def longest_match(
    tokens: torch.Tensor, last: int, most: int, begins: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """For the last positions of tokens (B, T): (length 0 … most, token that followed, or their own), each (B, last).

    begins (B, last): where each position's document begins, if nothing before it may be seen.
    """
    length = tokens.shape[1]
    narrow = tokens.to(torch.int32)
    here = F.pad(narrow, (most, 0), value=-1)  # two fillers: the past before the window matches nothing
    there = F.pad(narrow, (most, 0), value=-2)
    position = torch.arange(length, dtype=torch.int32, device=tokens.device)
    runs = (position < position[-last:, None]).unsqueeze(0)  # (1, last, T): an earlier position
    if begins is not None:
        runs = runs & (position >= begins.unsqueeze(-1))
    size = torch.zeros((), dtype=torch.int32, device=tokens.device)
    for back in range(most):
        end = length + most - back
        runs = runs & (here[:, end - last : end, None] == there[:, None, end - length : end])
        size = size + runs.to(torch.int32)
    best = torch.where(size > 0, size * length + position, 0).amax(-1)  # longest first, then latest
    follower = tokens.gather(1, (best % length + 1).clamp(max=length - 1).long())
    size = best // length
    return size, torch.where(size > 0, follower, tokens[:, -last:])


class Match(nn.Module):
    """Adds what followed to the first block's input and to the last block's output, by learned vectors per length."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.most = config.match
        self.eps = config.norm_eps
        self.bos_id = config.bos_id if config.doc_mask else None
        self.first = nn.Parameter(torch.zeros(config.match + 1, config.dim))
        self.bias = nn.Parameter(torch.zeros(config.match + 1, config.dim))
        self.last = nn.Parameter(torch.zeros(config.match + 1, config.dim))

    def find(self, tokens: torch.Tensor, cache: Cache | None, table: nn.Embedding) -> tuple[torch.Tensor, torch.Tensor]:
        """One-hot lengths (B, T, most + 1), and the vectors (B, T, D) of the tokens that followed."""
        past = tokens if cache is None or cache.tokens is None else torch.cat([cache.tokens, tokens], dim=1)
        if cache is not None:
            cache.tokens = past
        count = tokens.shape[1]
        begins = None
        if self.bos_id is not None:
            position = torch.arange(past.shape[1], dtype=torch.int32, device=past.device)
            begins = torch.where(past == self.bos_id, position, 0).cummax(1).values[:, -count:]
        size, follower = longest_match(past, count, self.most, begins)
        # Lengths select by a product: its gradient is a product too, a lookup's is a scatter into very few rows.
        return F.one_hot(size.long(), self.most + 1).to(table.weight.dtype), rms_norm(table(follower), self.eps)

    def enter(self, size: torch.Tensor, follower: torch.Tensor) -> torch.Tensor:
        return (size @ self.first) * follower + size @ self.bias

    def leave(self, size: torch.Tensor, follower: torch.Tensor) -> torch.Tensor:
        """Towards the head, which knows tokens by the same vectors (0.02 bits per byte more than `enter` alone)."""
        return (size @ self.last) * follower
