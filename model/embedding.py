"""Token ids to vectors: the token's row, a row for the hashed pair with the token before it, and a smear of that one.

BigramHash: bucket = ((36313·token) xor (27191·previous)) mod (buckets - 1), in int64; the first position has the last
bucket to itself. The contest computes in int32, which is the same up to id 59,138. The hash is frozen: a trained table
means nothing under another. SmearGate mixes the previous position's vector into this one's; `static` is PR #162's, on
normed vectors, `gated` its successor on raw ones (records of 16 April 2026 on).
"""

import torch
from torch import nn

from model.cache import Cache
from model.config import ModelConfig
from model.norm import rms_norm

HASH_TOKEN, HASH_PREVIOUS = 36313, 27191


def bigram_bucket(tokens: torch.Tensor, previous: torch.Tensor, buckets: int) -> torch.Tensor:
    """(B, T) buckets in 0 … buckets-2; `previous` is the token before each."""
    return ((HASH_TOKEN * tokens.long()) ^ (HASH_PREVIOUS * previous.long())) % (buckets - 1)


class BigramHash(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.buckets = config.bigram_buckets
        self.table = nn.Embedding(config.bigram_buckets, config.bigram_dim)
        self.proj = nn.Linear(config.bigram_dim, config.dim, bias=False)
        self.scale = nn.Parameter(torch.full((1,), 0.05))  # FSDP2 takes no scalars

    def forward(self, tokens: torch.Tensor, last: torch.Tensor | None) -> torch.Tensor:
        """`last` (B, 1) is the token before the chunk, None at the very start."""
        first = tokens[:, :1] if last is None else last
        bucket = bigram_bucket(tokens, torch.cat([first, tokens[:, :-1]], dim=1), self.buckets)  # (B, T)
        if last is None:
            bucket = torch.cat([torch.full_like(bucket[:, :1], self.buckets - 1), bucket[:, 1:]], dim=1)
        vector: torch.Tensor = self.proj(self.table(bucket))
        return vector * self.scale.to(vector.dtype)


class Embedding(nn.Module):
    """Token ids (B, T) -> the vectors (B, T, D) that the first block reads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.vocab_size, config.dim)
        self.bigram = BigramHash(config) if config.bigram_buckets else None
        if config.smear == "static":
            self.smear = nn.Parameter(torch.zeros(config.dim))  # sigmoid: an even blend at the start
        elif config.smear == "gated":
            self.smear = nn.Parameter(torch.zeros(1 + config.gate_width))  # lambda, then the gate's weights

    def forward(self, tokens: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        x: torch.Tensor = self.table(tokens)
        if self.bigram is not None:
            last = None if cache is None or cache.tokens is None else cache.tokens[:, -1:]
            x = x + self.bigram(tokens, last)
        if self.config.smear == "gated":
            x = self._smear(x, tokens, cache)
        if self.config.embed_norm:
            x = rms_norm(x, self.config.norm_eps)
        if self.config.smear == "static":
            x = self._smear(x, tokens, cache)
        return x

    def _smear(self, x: torch.Tensor, tokens: torch.Tensor, cache: Cache | None) -> torch.Tensor:
        last = cache.last_vector if cache is not None and cache.last_vector is not None else torch.zeros_like(x[:, :1])
        previous = torch.cat([last, x[:, :-1]], dim=1)  # (B, T, D), zero before the first token
        if cache is not None:
            cache.last_vector = x[:, -1:]  # before the smear
        if self.config.smear_bos_mask:
            previous = previous * (tokens != self.config.bos_id).unsqueeze(-1).to(x.dtype)
        smear = self.smear.to(x.dtype)
        if self.config.smear == "static":
            gate = torch.sigmoid(smear)
            return (1 - gate) * x + gate * previous
        strength, weights = smear[0], smear[1:]
        gate = torch.sigmoid(x[..., : len(weights)] @ weights).unsqueeze(-1)
        return x + strength * gate * previous
