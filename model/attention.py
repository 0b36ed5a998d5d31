"""Grouped-query attention: RoPE, QK-norm, per-head gain and gate, XSA, document masks, and the KV cache.

q and k are split into heads, normed, rotated, and q is multiplied by its gain, in that order. Masks are aligned to the
bottom right: query i sees key j iff j <= start + i (PyTorch's `is_causal` aligns to the top left, which is wrong as
soon as a cache holds something).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from model.cache import Cache
from model.config import ModelConfig
from model.masks import Mask
from model.norm import rms_norm
from model.rotary import attention_factor, rotate


class Given(NamedTuple):
    """What every block of one forward reads beside its input."""

    tokens: torch.Tensor  # (B, T)
    x0: torch.Tensor  # (B, T, D) the first block's input
    rope: tuple[torch.Tensor, torch.Tensor] | None  # cos, sin (T, R/2); None without positions
    mask: Mask  # of all queries, or of the last
    first: torch.Tensor | None  # (B, 1, T, 1) true where a document begins that is masked from others
    cache: Cache | None


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        queries, keys = config.heads * config.head_width, config.kv_heads * config.head_width
        self.config = config
        self.exclusive = config.xsa != 0 and layer >= config.layers - config.xsa
        self.scale = attention_factor(config) ** 2 / math.sqrt(config.head_width)
        self.q = nn.Linear(config.dim, queries, bias=False)
        self.k = nn.Linear(config.dim, keys, bias=False)
        self.v = nn.Linear(config.dim, keys, bias=False)
        has_values = layer in config.value_tables
        self.values = nn.Embedding(config.vocab_size, keys) if has_values else None
        self.value_gate = nn.Parameter(torch.zeros(config.kv_heads, config.gate_width)) if has_values else None
        self.out = nn.Linear(queries, config.dim, bias=False)
        self.q_gain = nn.Parameter(torch.full((config.heads,), config.q_gain)) if config.q_gain is not None else None
        self.gate = nn.Parameter(torch.zeros(config.heads, config.gate_width)) if config.attn_gate else None

    def forward(
        self,
        x: torch.Tensor,  # (B, T, D)
        given: Given,
        step: int,  # which executed layer this is, for the cache
        last: int,  # queries; keys and values are of all positions
    ) -> torch.Tensor:  # (B, last, D)
        config = self.config
        q = rearrange(self.q(x[:, -last:]), "b t (h c) -> b h t c", h=config.heads)
        k = rearrange(self.k(x), "b t (h c) -> b h t c", h=config.kv_heads)
        v = rearrange(self.v(x), "b t (h c) -> b h t c", h=config.kv_heads)
        if self.values is not None:
            v = v + self._gated_rows(x, given.tokens)
        if config.qk_norm:
            q, k = rms_norm(q, config.norm_eps), rms_norm(k, config.norm_eps)
        if given.rope is not None:
            cos, sin = given.rope
            q, k = rotate(q, cos[-last:], sin[-last:]), rotate(k, cos, sin)
        if config.key_offset:
            k = self._offset(k, given, step)
        if self.q_gain is not None:
            q = q * self.q_gain.to(q.dtype)[:, None, None]
        own = v[:, :, -last:]  # (B, K, last, C), for XSA
        if given.cache is not None:
            k, v = given.cache.extend(step, k, v)
        y = self._attend(q.to(v.dtype), k.to(v.dtype), v, given.mask)
        if self.exclusive:
            y = self._remove_own(y, own)
        if self.gate is not None:
            # How much of each head's output a position wants (PR #1787: half of it at the start).
            y = y * torch.sigmoid(config.attn_gate * _head_scores(x[:, -last:], self.gate))
        out: torch.Tensor = self.out(rearrange(y, "b h t c -> b t (h c)"))
        return out

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Mask) -> torch.Tensor:
        """(B, H, last, C), (B, K, T, C), (B, K, T, C) -> (B, H, last, C)."""
        groups = self.config.heads // self.config.kv_heads
        if isinstance(mask, BlockMask):
            y: torch.Tensor = flex_attention(q, k, v, block_mask=mask, scale=self.scale, enable_gqa=groups > 1)
            return y
        if groups > 1 and not _takes_groups(q, mask):
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=self.scale,
            dropout_p=self.config.dropout if self.training else 0.0, enable_gqa=k.shape[1] != q.shape[1],
        )  # fmt: skip

    def _offset(self, k: torch.Tensor, given: Given, step: int) -> torch.Tensor:
        """(B, K, T, C) with the unrotated part from the position before; a first position keeps its own.

        What a query finds by it is the token after the one that it looks for: half an induction head in one layer.
        """
        rotated, still = k[..., : self.config.rope_dims], k[..., self.config.rope_dims :]
        before = still[:, :, :1]
        if given.cache is not None:
            before = given.cache.last_keys.get(step, before)
            given.cache.last_keys[step] = still[:, :, -1:]
        moved = torch.cat([before, still[:, :, :-1]], dim=2)
        if given.first is not None:
            moved = torch.where(given.first, still, moved)
        return torch.cat([rotated, moved], dim=-1)

    def _gated_rows(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """(B, K, T, C): the tokens' rows of the layer's own table, each head's at most twice (modded-nanogpt #186)."""
        assert self.values is not None
        assert self.value_gate is not None
        rows: torch.Tensor = rearrange(self.values(tokens).to(x.dtype), "b t (h c) -> b h t c", h=self.config.kv_heads)
        return rows * (2 * torch.sigmoid(_head_scores(x, self.value_gate)))

    def _remove_own(self, y: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """XSA: each head's output less its part along the token's own value (PR #265: about -0.002 bpb)."""
        direction = F.normalize(v, dim=-1).unsqueeze(2)  # (B, K, 1, T, C)
        groups = rearrange(y, "b (k g) t c -> b k g t c", k=self.config.kv_heads)
        along = (groups * direction).sum(-1, keepdim=True) * direction
        return rearrange(groups - along, "b k g t c -> b (k g) t c")


def _takes_groups(q: torch.Tensor, mask: torch.Tensor | None) -> bool:
    """Whether a fast kernel takes fewer key heads than query heads.

    On CUDA only flash attention does, and it takes no mask and no fp32; else PyTorch would fall back to its slow
    reference, which keeps all scores in memory.
    """
    return not q.is_cuda or (mask is None and q.dtype != torch.float32)


def _head_scores(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(B, heads, T, 1): a gate's weights (heads, W) on the first W dimensions of x (B, T, D)."""
    scores = F.linear(x[..., : weight.shape[1]], weight.to(x.dtype))
    return rearrange(scores, "b t h -> b h t 1")
