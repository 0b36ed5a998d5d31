"""Grouped-query attention: RoPE, QK-norm, per-head gain, XSA, document masks, and the KV cache.

q and k are split into heads, normed, rotated, and q is multiplied by its gain, in that order. Masks are aligned to the
bottom right: query i sees key j iff j <= start + i (PyTorch's `is_causal` aligns to the top left, which is wrong as
soon as a cache holds something).
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from model.cache import Cache
from model.config import ModelConfig
from model.norm import rms_norm
from model.rotary import attention_factor, rotate


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.kv_heads = config.kv_heads
        self.width = config.head_width
        self.qk_norm = config.qk_norm
        self.eps = config.norm_eps
        self.exclusive = config.xsa != 0 and layer >= config.layers - config.xsa
        self.dropout = config.dropout
        self.scale = attention_factor(config) ** 2 / math.sqrt(self.width)
        self.q = nn.Linear(config.dim, self.heads * self.width, bias=False)
        self.k = nn.Linear(config.dim, self.kv_heads * self.width, bias=False)
        self.v = nn.Linear(config.dim, self.kv_heads * self.width, bias=False)
        self.out = nn.Linear(self.heads * self.width, config.dim, bias=False)
        self.q_gain = nn.Parameter(torch.full((self.heads,), config.q_gain)) if config.q_gain is not None else None

    def forward(
        self,
        x: torch.Tensor,  # (B, T, D)
        rope: tuple[torch.Tensor, torch.Tensor] | None,  # cos, sin (T, R/2); None without positions
        mask: torch.Tensor | None,  # (B or 1, 1, last, T_all) true where seen; None: plain causal, nothing cached
        cache: Cache | None,
        step: int,  # which executed layer this is, for the cache
        last: int,  # queries; keys and values are of all positions
    ) -> torch.Tensor:  # (B, last, D)
        q = rearrange(self.q(x[:, -last:]), "b t (h c) -> b h t c", h=self.heads)
        k = rearrange(self.k(x), "b t (h c) -> b h t c", h=self.kv_heads)
        v = rearrange(self.v(x), "b t (h c) -> b h t c", h=self.kv_heads)
        if self.qk_norm:
            q, k = rms_norm(q, self.eps), rms_norm(k, self.eps)
        if rope is not None:
            cos, sin = rope
            q, k = rotate(q, cos[-last:], sin[-last:]), rotate(k, cos, sin)
        if self.q_gain is not None:
            q = q * self.q_gain.to(q.dtype)[:, None, None]
        own = v[:, :, -last:]  # (B, K, last, C), for XSA
        if cache is not None:
            k, v = cache.extend(step, k, v)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=self.scale,
            dropout_p=self.dropout if self.training else 0.0, enable_gqa=self.kv_heads != self.heads,
        )  # fmt: skip
        if self.exclusive:
            y = self._remove_own(y, own)
        out: torch.Tensor = self.out(rearrange(y, "b h t c -> b t (h c)"))
        return out

    def _remove_own(self, y: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """XSA: each head's output less its part along the token's own value (PR #265: about -0.002 bpb)."""
        direction = F.normalize(v, dim=-1).unsqueeze(2)  # (B, K, 1, T, C)
        groups = rearrange(y, "b (k g) t c -> b k g t c", k=self.kv_heads)
        along = (groups * direction).sum(-1, keepdim=True) * direction
        return rearrange(groups - along, "b k g t c -> b (k g) t c")
