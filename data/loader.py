"""Token streams -> training batches: seeded, disjoint across ranks, and resumable from one integer.

sequential  the contest baseline's: each call cuts the next `ranks * (batch * seq_len + 1)` tokens in rank order.
shuffled    windows of seq_len + 1 tokens, cut from a random phase and permuted, both anew every epoch; each of an
            epoch's windows is seen exactly once over all ranks.

The position counts what all ranks have consumed, so a run may resume on another number of ranks: shuffled, with the
same windows per step; sequential, with the next tokens. Batches stay on the CPU, two bytes per token; a thread has the
next one ready.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from base.errors import BadInput
from data.config import Order
from data.shards import TokenStream

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass
class Loader:
    """`next_batch()` returns this rank's inputs and targets, uint16 of shape (B, T), and moves on."""

    stream: TokenStream
    order: Order
    seq_len: int
    batch: int
    seed: int
    data_sha256: str  # of the training side, so that a saved position finds its own data again
    rank: int = 0
    ranks: int = 1
    pinned: bool = False  # in memory that a GPU can copy from while the host goes on
    position: int = field(default=0, init=False)  # windows (shuffled) or tokens (sequential) consumed by all ranks

    def __post_init__(self) -> None:
        # One window fewer than might fit, so that every phase below seq_len gives the same number of them.
        self._windows = (len(self.stream) - self.seq_len) // self.seq_len
        if self._windows < 1:
            need = f"seq_len {self.seq_len}; it takes {2 * self.seq_len}"
            raise BadInput(f"{len(self.stream)} training tokens are too few for {need}")
        self._thread = ThreadPoolExecutor(1, "loader")
        self._ahead: Future[Batch] | None = None  # the batch at `position`
        self._epoch = -1
        self._starts: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def next_batch(self) -> Batch:
        ahead = self._ahead or self._thread.submit(self._cut, self.position)
        span = self.batch * self.seq_len + 1 if self.order == "sequential" else self.batch
        self.position += self.ranks * span
        self._ahead = self._thread.submit(self._cut, self.position)
        return ahead.result()

    def _cut(self, position: int) -> Batch:
        """The batch of this rank where all ranks together have consumed `position`."""
        if self.order == "sequential":
            span = self.batch * self.seq_len + 1
            tokens = self.stream.read(position + self.rank * span, span)
            rows = np.stack([tokens[:-1], tokens[1:]]).reshape(2, self.batch, self.seq_len)
        else:
            first = position + self.rank * self.batch
            starts = [self._start(number) for number in range(first, first + self.batch)]
            windows = np.stack([self.stream.read(start, self.seq_len + 1) for start in starts])
            rows = np.stack([windows[:, :-1], windows[:, 1:]])
        both = torch.from_numpy(rows)
        inputs, targets = both.pin_memory() if self.pinned else both
        return inputs, targets

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "data_sha256": self.data_sha256}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume exactly where `state` was taken. A run resumes under its own config only, and on its own data."""
        found, saved = self.data_sha256, state["data_sha256"]
        if found != saved:
            raise BadInput(f"the training data is {found:.12} and the checkpoint's was {saved:.12}; use a new --name")
        self.position = state["position"]
        self._ahead = None

    def _start(self, number: int) -> int:
        """Where window `number` of the whole run begins; each epoch's permutation comes from (seed, epoch) alone."""
        epoch, index = divmod(number, self._windows)
        if epoch != self._epoch:
            random = np.random.default_rng([self.seed, epoch])
            phase = int(random.integers(self.seq_len))
            self._starts = phase + self.seq_len * random.permutation(self._windows)
            self._epoch = epoch
        return int(self._starts[index])
