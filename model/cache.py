"""What decoding must remember so that a cached forward equals the full one for every split of the sequence.

Keys after RoPE at absolute positions, and values, both with unrepeated K/V heads, for every *executed* layer (a looped
layer runs several times and keeps one each), with the unrotated part of the last key where keys are offset; the token
ids, for positions, BigramHash, the match model and document masks; the last pre-smear vector of each row for SmearGate.

Buffers of keys and values double when they are full, so a token costs the copying of one token, not of all before it.
They are written in place: a cache is for decoding, not for gradients.
"""

from dataclasses import dataclass, field

import torch


@dataclass
class Cache:
    keys: dict[int, torch.Tensor] = field(default_factory=dict)  # executed layer -> (B, K, room, C)
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    last_keys: dict[int, torch.Tensor] = field(default_factory=dict)  # executed layer -> (B, K, 1, unrotated part)
    tokens: torch.Tensor | None = None  # (B, T) of all chunks that are through
    last_vector: torch.Tensor | None = None  # (B, 1, D)

    @property
    def length(self) -> int:
        return 0 if self.tokens is None else self.tokens.shape[1]

    def extend(self, step: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append this chunk's keys and values of one executed layer; returns all of them."""
        return self._append(self.keys, step, key), self._append(self.values, step, value)

    def _append(self, buffers: dict[int, torch.Tensor], step: int, chunk: torch.Tensor) -> torch.Tensor:
        rows, heads, tokens, width = chunk.shape
        end = self.length + tokens
        if step not in buffers or buffers[step].shape[2] < end:
            grown = chunk.new_empty(rows, heads, 2 * end, width)
            if step in buffers:
                grown[:, :, : self.length] = buffers[step][:, :, : self.length]
            buffers[step] = grown
        buffers[step][:, :, self.length : end] = chunk
        return buffers[step][:, :, :end]
