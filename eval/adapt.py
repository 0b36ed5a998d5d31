"""Score first, then learn: a text's own past made use of, legally. What `--adapt` of the score and the probes means.

    scorer = Adapted(ADAPTATIONS["mix"], model, tokenizer, context, stride, batch_tokens)      a Scorer (eval.scorer)
    for first, nats in scorer.losses(tokens): …                                                as eval.score.losses

mix        the model's forecast mixed with what the text has taught so far (eval.mixing.mix); normalised by construction
ttt        the model itself learns from each chunk once it is scored (eval.ttt)
ttt+mix    both: what has learned is mixed

A forecast depends on the artifact and on tokens revealed before it; so one text is one walk, and ranks cannot share it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.bytes import ByteTable
from data.tokenizer import Tokenizer
from eval.mixing.mix import Mixed, log_probabilities
from eval.mixing.mixer import MixConfig
from eval.scorer import Floats, Scored, Tokens
from eval.ttt import TTTConfig, lessons
from model.gpt import GPT

Shown = Callable[[int, Floats], None]


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    mix: MixConfig | None = None
    ttt: TTTConfig | None = None


ADAPTATIONS = {
    "mix": Adaptation(mix=MixConfig()),
    "ttt": Adaptation(ttt=TTTConfig()),
    "ttt+mix": Adaptation(mix=MixConfig(), ttt=TTTConfig()),
}


class Adapted:
    def __init__(
        self, how: Adaptation, model: GPT, tokenizer: Tokenizer, context: int, stride: int, batch_tokens: int
    ) -> None:
        self._how, self._model, self._tokenizer = how, model, tokenizer
        self._shape = context, stride, batch_tokens
        self._table = ByteTable(tokenizer)
        self.vocab_size = tokenizer.vocab_size

    def losses(
        self, tokens: Tokens, show: Sequence[int] = (), shown: Shown | None = None
    ) -> Iterator[tuple[int, Floats]]:
        """(first, nats) of the whole text, in its order; `shown` is told the distributions of the targets in `show`."""
        mixed, wanted = Mixed(self._tokenizer, self._how.mix) if self._how.mix else None, frozenset(show)
        if mixed is not None:
            mixed.reveal(int(tokens[0]))
        for first, rows in self._rows(tokens):
            nats = np.empty(len(rows))
            targets = tokens[first + 1 : first + 1 + len(rows)].tolist()
            for number, (row, token) in enumerate(zip(rows, targets, strict=True)):
                if shown is not None and first + number in wanted:
                    shown(first + number, np.exp(row, dtype=np.float64) if mixed is None else mixed.predict(row))
                nats[number] = -row[token] if mixed is None else mixed.cost(row, token)
            yield first, nats

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        seen = dict[int, Floats]()
        nats = np.concatenate([row for _, row in self.losses(tokens, show, seen.__setitem__)])
        distributions = np.stack([seen[target] for target in show]) if show else np.empty((0, self.vocab_size))
        return Scored(np.arange(len(nats)), nats, int(self._table.exact_bytes(tokens[1:]).sum()), distributions)

    def _rows(self, tokens: Tokens) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """(first, (n, V) log-probabilities) of the model as it stands at each target."""
        if self._how.ttt is None:
            yield from log_probabilities(self._model, tokens, *self._shape)
            return
        for learner, chunk in lessons(self._model, tokens, *self._shape, self._how.ttt):
            # The chunk's windows are those of its own part of the stream, less what the first one had scored before.
            for first, rows in log_probabilities(learner, tokens[chunk.start : chunk.end + 1], *self._shape):
                known = max(0, chunk.first - chunk.start - first)
                yield chunk.start + first + known, rows[known:]
