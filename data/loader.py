"""Token streams -> training batches: seeded, disjoint across ranks, and resumable from one integer.

sequential  the contest baseline's: each call cuts the next `ranks * (batch * seq_len + 1)` tokens in rank order.
shuffled    windows of seq_len + 1 tokens, cut from a random phase and permuted, both anew every epoch; each of an
            epoch's windows is seen exactly once over all ranks.

The position counts what all ranks have consumed, so a run may resume on another number of ranks: shuffled, with the
same windows per step; sequential, with the next tokens. Batches stay on the CPU.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from base.errors import BadInput
from data.config import Order
from data.shards import TokenStream


@dataclass
class Loader:
    """`next_batch()` returns this rank's inputs and targets, int64 of shape (B, T), and moves on."""

    stream: TokenStream
    order: Order
    seq_len: int
    batch: int
    seed: int
    data_sha256: str  # of the training side, so that a saved position finds its own data again
    rank: int = 0
    ranks: int = 1
    position: int = field(default=0, init=False)  # windows (shuffled) or tokens (sequential) consumed by all ranks

    def __post_init__(self) -> None:
        # One window fewer than might fit, so that every phase below seq_len gives the same number of them.
        self._windows = (len(self.stream) - self.seq_len) // self.seq_len
        if self._windows < 1:
            need = f"seq_len {self.seq_len}; it takes {2 * self.seq_len}"
            raise BadInput(f"{len(self.stream)} training tokens are too few for {need}")
        self._epoch = -1
        self._starts: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def next_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (self.batch, self.seq_len)
        if self.order == "sequential":
            span = self.batch * self.seq_len + 1
            tokens = _as_tensor(self.stream.read(self.position + self.rank * span, span))
            self.position += self.ranks * span
            return tokens[:-1].view(shape), tokens[1:].view(shape)
        first = self.position + self.rank * self.batch
        starts = [self._start(number) for number in range(first, first + self.batch)]
        tokens = _as_tensor(np.stack([self.stream.read(start, self.seq_len + 1) for start in starts]))
        self.position += self.ranks * self.batch
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "data_sha256": self.data_sha256}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume exactly where `state` was taken. A run resumes under its own config only, and on its own data."""
        found, saved = self.data_sha256, state["data_sha256"]
        if found != saved:
            raise BadInput(f"the training data is {found:.12} and the checkpoint's was {saved:.12}; use a new --name")
        self.position = state["position"]

    def _start(self, number: int) -> int:
        """Where window `number` of the whole run begins; each epoch's permutation comes from (seed, epoch) alone."""
        epoch, index = divmod(number, self._windows)
        if epoch != self._epoch:
            random = np.random.default_rng([self.seed, epoch])
            phase = int(random.integers(self.seq_len))
            self._starts = phase + self.seq_len * random.permutation(self._windows)
            self._epoch = epoch
        return int(self._starts[index])


def _as_tensor(tokens: npt.NDArray[np.uint16]) -> torch.Tensor:
    return torch.from_numpy(tokens.astype(np.int64))
