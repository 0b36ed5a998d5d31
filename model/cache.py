"""What decoding must remember so that a cached forward equals the full one for every split of the sequence.

Keys after RoPE at absolute positions, and values, both with unrepeated K/V heads, for every *executed* layer (a looped
layer runs several times and keeps one each); the last token id of each row for BigramHash; the last pre-smear vector
of each row for SmearGate; the document number of each cached token when attention is document-masked.
"""

from dataclasses import dataclass, field

import torch


@dataclass
class Cache:
    length: int = 0  # tokens seen, the same for all rows
    keys: dict[int, torch.Tensor] = field(default_factory=dict)  # executed layer -> (B, K, T, C)
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    last_token: torch.Tensor | None = None  # (B, 1)
    last_vector: torch.Tensor | None = None  # (B, 1, D)
    documents: torch.Tensor | None = None  # (B, T)

    def extend(self, step: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append this chunk's keys and values of one executed layer; returns all of them."""
        if step in self.keys:
            key = torch.cat([self.keys[step], key], dim=2)
            value = torch.cat([self.values[step], value], dim=2)
        self.keys[step], self.values[step] = key, value
        return key, value

    def select(self, rows: torch.Tensor) -> "Cache":
        """The cache of a batch that has these rows, in this order, repeats included (beams, expanded prompts)."""

        def pick(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor[rows]

        return Cache(
            self.length,
            {step: key[rows] for step, key in self.keys.items()},
            {step: value[rows] for step, value in self.values.items()},
            pick(self.last_token),
            pick(self.last_vector),
            pick(self.documents),
        )
