"""What is asked of whoever claims a score, in two forms.

A `Predictor` takes turns: it gives the next token's distribution, then the token is revealed. Whoever holds the loop
holds the text, so it cannot look ahead. A `Scorer` is handed a whole text and says what each token cost, as the scripts
of a contest do: it could look ahead, and the probes (eval.probe) find out whether it does. `InTurns` makes a Scorer of
predictors, one fresh one for every text.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from data.bytes import ByteTable

Tokens = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


class Scored(NamedTuple):
    """Target i is token i + 1, predicted from tokens 0 … i."""

    targets: npt.NDArray[np.int64]  # (n,) which target each loss belongs to, as the scorer says
    nats: Floats  # (n,)
    size_bytes: int  # of the text, as the scorer counts
    shown: Floats  # (len(show), V) the probabilities behind the targets asked for


class Scorer(Protocol):
    vocab_size: int

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        """Every target of the text; for those in `show`, the whole distribution that their losses came from."""


class Predictor(Protocol):
    vocab_size: int

    def predict(self) -> Floats:
        """(V,) probabilities of the next token, given all that was revealed."""

    def reveal(self, token: int) -> None:
        """The next token: never before `predict` was asked, but for a text's first."""


class InTurns:
    def __init__(self, begin: Callable[[], Predictor], table: ByteTable) -> None:
        self._begin, self._table, self.vocab_size = begin, table, table.vocab_size

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        predictor, wanted = self._begin(), frozenset(show)
        predictor.reveal(int(tokens[0]))
        nats, seen = np.empty(len(tokens) - 1), dict[int, Floats]()
        for target, token in enumerate(tokens[1:].tolist()):
            probabilities = predictor.predict()
            nats[target] = -np.log(probabilities[token])
            if target in wanted:
                seen[target] = probabilities.copy()
            predictor.reveal(token)
        shown = np.stack([seen[target] for target in show]) if show else np.empty((0, self.vocab_size))
        return Scored(np.arange(len(nats)), nats, int(self._table.exact_bytes(tokens[1:]).sum()), shown)
