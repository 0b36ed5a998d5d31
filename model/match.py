"""The match model of text compressors (Mahoney's paq) as an input: the token that followed the same past before.

For each position: the longest run of tokens, up to `match`, that ends here and also ended at an earlier position of the
window, the latest of equals; what came next there, and how long the run was; then the same among the places where
something else came next, `match_count` in all. A transformer learns this too, as induction heads, but late: a short run
is over before they form (docs/LOG.md has the gain). It reads tokens alone, so it is as causal as they are.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from model.config import ModelConfig
from model.norm import rms_norm


class Found(NamedTuple):
    size: torch.Tensor  # (B, T, match + 1) one-hot
    follower: torch.Tensor  # (B, T, D) the normed vector of the token that came next


def longest_matches(
    tokens: torch.Tensor, last: int, most: int, count: int, begins: torch.Tensor | None = None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For the last positions of tokens (B, T): `count` times (length 0 … most, token that followed), each (B, last).

    The longest match, the longest with another follower, and so on; length 0 and the position's own token where there
    is none. begins (B, last): where each position's document begins, if nothing before it may be seen.
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
    rank = torch.where(size > 0, size * length + position, 0)  # (B, last, T) longest first, then latest
    following = F.pad(narrow[:, 1:], (0, 1))  # (B, T) what came next; the last position is nobody's match
    found = []
    for _ in range(count):
        best = rank.amax(-1)
        follower = following.gather(1, (best % length).long())
        rank = torch.where(following[:, None] == follower[..., None], 0, rank)
        found.append((best // length, torch.where(best > 0, follower, narrow[:, -last:]).long()))
    return found


class Match(nn.Module):
    """Adds what followed to the first block's input and to the last block's output, by learned vectors per length."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        rows = config.match_count * (config.match + 1)  # by match, then by length
        self.first = nn.Parameter(torch.zeros(rows, config.dim))
        self.bias = nn.Parameter(torch.zeros(config.match + 1, config.dim))
        self.last = nn.Parameter(torch.zeros(rows, config.dim))

    def find(self, past: torch.Tensor, last: int, table: nn.Embedding) -> list[Found]:
        """For the last positions of past (B, T_all)."""
        config = self.config
        begins = None
        if config.doc_mask:
            position = torch.arange(past.shape[1], dtype=torch.int32, device=past.device)
            begins = torch.where(past == config.bos_id, position, 0).cummax(1).values[:, -last:]
        found = longest_matches(past, last, config.match, config.match_count, begins)
        # Lengths select by a product: its gradient is a product too, a lookup's is a scatter into very few rows.
        dtype = table.weight.dtype
        return [
            Found(F.one_hot(size.long(), config.match + 1).to(dtype), rms_norm(table(follower), config.norm_eps))
            for size, follower in found
        ]

    def enter(self, found: list[Found]) -> torch.Tensor:
        return self._vectors(found, self.first) + found[0].size @ self.bias

    def leave(self, found: list[Found], last: int) -> torch.Tensor:
        """Towards the head, which knows tokens by the same vectors."""
        return self._vectors([Found(size[:, -last:], follower[:, -last:]) for size, follower in found], self.last)

    def _vectors(self, found: list[Found], scales: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(found[0].follower)
        for (size, follower), scale in zip(found, torch.split(scales, self.config.match + 1), strict=True):
            total = total + (size @ scale) * follower
        return total
