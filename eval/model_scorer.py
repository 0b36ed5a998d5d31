"""An artifact's model as a Scorer: the very losses that make its score, and the distributions behind them."""

from collections.abc import Sequence

import numpy as np

from data.bytes import ByteTable
from eval.config import EvalConfig
from eval.score import distributions, losses
from eval.scorer import Scored, Tokens
from model.gpt import GPT


class ModelScorer:
    def __init__(
        self, model: GPT, table: ByteTable, context: int, stride: int, batch_tokens: int = EvalConfig.batch_tokens
    ) -> None:
        self._model, self._table, self.vocab_size = model, table, table.vocab_size
        self._context, self._stride, self._batch_tokens = context, stride, batch_tokens

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        parts = list(losses(self._model, tokens, self._context, self._stride, self._batch_tokens))
        targets = np.concatenate([np.arange(first, first + len(nats)) for first, nats in parts])
        shown = np.empty((0, self.vocab_size))
        if show:
            shown = distributions(self._model, tokens, show, self._context, self._stride)
        size_bytes = int(self._table.exact_bytes(tokens[1:]).sum())
        return Scored(targets, np.concatenate([nats for _, nats in parts]), size_bytes, shown)
