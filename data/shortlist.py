"""The tokens whose logits a training step computes: all of its targets, and as many others as make up a fixed number.

    drawn = Shortlist(stream, vocab_size, 1280, seed).draw(targets, step)
    drawn.tokens (S,)   drawn.places (B, T) of the targets among them   drawn.log_share (S,) of steps that have each

A head over all tokens is a third of a small model's products, and most of its gradient says that rare tokens are rare.
A loss over the shortlist, each logit less its `log_share`, has the full softmax's sum as its mean (importance sampling,
Bengio & Senécal 2003): frequent tokens are in every step's list, the others weigh the more the rarer they are drawn.
The loss of a step is lower than the full one, because a rare target is boosted by its share, too.
"""

from typing import NamedTuple

import numpy as np
import torch

from base.errors import BadInput
from data.shards import TokenStream

COUNTED = 5_000_000  # tokens of the stream, to know how frequent each is


class Drawn(NamedTuple):
    tokens: torch.Tensor  # (S,) int64, ascending
    places: torch.Tensor  # (B, T) int64
    log_share: torch.Tensor  # (S,) fp32


class Shortlist:
    def __init__(self, stream: TokenStream, vocab_size: int, size: int, seed: int) -> None:
        if size >= vocab_size:
            raise BadInput(f"train.shortlist {size} is no part of {vocab_size} tokens; use less, or 0 for all of them")
        counts = np.bincount(stream.read(0, min(len(stream), COUNTED)), minlength=vocab_size)
        self._rate = counts / counts.sum()
        self._size = size
        self._seed = seed

    def draw(self, targets: torch.Tensor, number: int) -> Drawn | None:
        """The same for the same seed and number; None where the targets alone are more than the list holds."""
        wanted = np.unique(targets.numpy())
        missing = self._size - len(wanted)
        if missing < 0:
            return None
        others = np.setdiff1d(np.arange(len(self._rate)), wanted, assume_unique=True)
        filling = np.random.default_rng([self._seed, number]).choice(others, missing, replace=False)
        tokens = np.sort(np.concatenate([wanted, filling]))
        absent = (1 - self._rate[tokens]) ** targets.numel()  # no target of the step
        log_share = np.log(1 - absent * (1 - missing / len(others)))
        return Drawn(
            torch.from_numpy(tokens),
            torch.from_numpy(np.searchsorted(tokens, targets.numpy())),
            torch.from_numpy(log_share.astype(np.float32)),
        )
