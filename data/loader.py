"""Token streams -> training batches: seeded, disjoint across ranks, and resumable from one integer.

Two orders:
  sequential  the contest baseline's: each call cuts the next `ranks * (batch * seq_len + 1)` tokens in rank order.
  shuffled    windows of seq_len + 1 tokens, permuted anew every epoch from a random phase, so that windows are cut
              elsewhere each time and each of an epoch's windows is seen exactly once over all ranks.

The position counts what all ranks have consumed (tokens, or windows), so a run may resume on another number of ranks:
shuffled, with the same windows a step; sequential, with the next tokens (whose cuts depend on the number of ranks).
It prepares batches on the CPU and moves nothing to a device.
"""

from dataclasses import dataclass, field

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
        rows = self.batch
        width = self.seq_len
        if self.order == "sequential":
            span = rows * width + 1
            flat = np.empty(span, np.int64)
            self.stream.read_into(flat, self.position + self.rank * span)
            self.position += self.ranks * span
            tokens = torch.from_numpy(flat)
            return tokens[:-1].view(rows, width), tokens[1:].view(rows, width)
        block = np.empty((rows, width + 1), np.int64)
        first = self.position + self.rank * rows
        for row in range(rows):
            self.stream.read_into(block[row], self._start(first + row))
        self.position += self.ranks * rows
        tokens = torch.from_numpy(block)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def state_dict(self) -> dict[str, int | str]:
        return {"position": self.position, **self._identity()}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Resume exactly where `state` was taken; a loader over other data or in another order refuses."""
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise BadInput(f"the saved data position has {name} {state.get(name)!r}, this run {value!r}")
        position = state.get("position")
        if not isinstance(position, int) or position < 0:
            raise BadInput(f"the saved data position is {position!r}, not a count")
        self.position = position

    def _identity(self) -> dict[str, int | str]:
        return {"order": self.order, "seq_len": self.seq_len, "seed": self.seed, "data_sha256": self.data_sha256}

    def _start(self, number: int) -> int:
        """Where window `number` of the whole run begins; each epoch's permutation comes from (seed, epoch) alone."""
        epoch, index = divmod(number, self._windows)
        if epoch != self._epoch:
            random = np.random.default_rng([self.seed, epoch])
            phase = int(random.integers(self.seq_len))
            self._starts = phase + self.seq_len * random.permutation(self._windows)
            self._epoch = epoch
        return int(self._starts[index])
