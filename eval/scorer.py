"""The interface that the probes test: a scorer takes a complete text and returns what each of its tokens costs.

Contest scripts have this form. Such a scorer can look ahead in the text; the probes (eval.probe) find out whether it
does. `python -m eval.probe --scorer module:factory` tests any Python object that has it.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


class Scored(NamedTuple):
    """Target i is token i + 1, predicted from tokens 0 … i."""

    targets: npt.NDArray[np.int64]  # (n,) the target that each loss belongs to, by the scorer's own count
    nats: Floats  # (n,)
    size_bytes: int  # of the text, by the scorer's own count
    shown: Floats  # (len(show), V) the probabilities behind the targets in `show`


@runtime_checkable
class Scorer(Protocol):
    vocab_size: int

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        """Score every target of the text; for those in `show`, also return the distribution behind the loss."""
