"""Score first, then learn: legal use of a text's own past, as `protocol.adapt` says (eval.config.AdaptConfig).

    score(model, dataset, protocol, device)              the score (eval.score)
    ModelScorer(model, tokenizer, protocol)              the same losses as a Scorer, to be probed

off    nothing is learned
mix    the model's prediction mixed with what the text has taught so far (eval.mixing); normalised by construction
ttt    the model itself learns from each chunk once it is scored (eval.ttt)
lora   adapters learn, and each document begins them afresh: side by side, on ranks too (eval.document_ttt)

A prediction depends on the artifact and on tokens revealed before it. So `mix` and `ttt` score a text in its order, and
ranks cannot share it. Each function fills in `shown`: its keys are targets whose distributions are wanted.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from data.bytes import ByteTable
from data.tokenizer import Tokenizer
from eval.batches import Floats, Losses, Tokens, window_log_probabilities, window_losses
from eval.document_ttt import lora_losses
from eval.mixing.mixer import Mixture
from eval.protocol import Protocol
from eval.scorer import Scored
from eval.ttt import lessons
from eval.windows import plan_windows
from model.gpt import GPT

Adapt = Callable[[GPT, Tokenizer, Tokens, Protocol, dict[int, Floats]], Losses]


def plain_losses(
    model: GPT, tokenizer: Tokenizer, tokens: Tokens, protocol: Protocol, shown: dict[int, Floats]
) -> Losses:
    """The losses of the score without adapting; the distributions come from the windows that score their targets."""
    plan = plan_windows(len(tokens) - 1, protocol.context, protocol.stride)
    yield from window_losses(model, tokens, plan, protocol.batch_tokens)
    needed = np.unique(np.searchsorted(plan.score_from, list(shown), side="right") - 1)
    for first, rows in window_log_probabilities(model, tokens, plan.select(needed), protocol.batch_tokens):
        _show(shown, first, rows)


def mix_losses(
    model: GPT, tokenizer: Tokenizer, tokens: Tokens, protocol: Protocol, shown: dict[int, Floats]
) -> Losses:
    targets = len(tokens) - 1
    streams = protocol.adapt.streams
    begins = {number * targets // streams for number in range(streams)}
    plan = plan_windows(targets, protocol.context, protocol.stride)
    for first, rows in window_log_probabilities(model, tokens, plan, protocol.batch_tokens):
        nats = np.empty(len(rows))
        for number, row in enumerate(rows):
            target = first + number
            if target in begins:
                mixture = Mixture(tokenizer, protocol.adapt.table_bits)
                mixture.begin(int(tokens[target]))
            if target in shown:
                shown[target] = mixture.predict(row)
            nats[number] = mixture.cost(row, int(tokens[target + 1]))
        yield first, nats


def ttt_losses(
    model: GPT, tokenizer: Tokenizer, tokens: Tokens, protocol: Protocol, shown: dict[int, Floats]
) -> Losses:
    for learner, chunk in lessons(model, tokens, protocol, protocol.adapt.ttt):
        # The chunk's windows are those of its own part of the stream, less what the first one had scored before.
        plan = plan_windows(chunk.end - chunk.start, protocol.context, protocol.stride)
        part = tokens[chunk.start : chunk.end + 1]
        for begin, rows in window_log_probabilities(learner, part, plan, protocol.batch_tokens):
            known = max(0, chunk.first - chunk.start - begin)
            first = chunk.start + begin + known
            logs = rows[known:].astype(np.float64)
            _show(shown, first, logs)
            yield first, -logs[np.arange(len(logs)), tokens[first + 1 : first + 1 + len(logs)]]


def _show(shown: dict[int, Floats], first: int, logs: npt.NDArray[np.floating]) -> None:
    for target in shown.keys() & range(first, first + len(logs)):
        shown[target] = np.exp(logs[target - first], dtype=np.float64)


ADAPTATIONS: dict[str, Adapt] = {"off": plain_losses, "mix": mix_losses, "ttt": ttt_losses, "lora": lora_losses}


class ModelScorer:
    """An artifact's model as a Scorer: the very losses that make its score, and the distributions behind them."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, protocol: Protocol) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._table = ByteTable(tokenizer)
        self._protocol = protocol
        self.vocab_size = tokenizer.vocab_size

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        shown = dict.fromkeys(show, np.empty(0))
        adapt = ADAPTATIONS[self._protocol.adapt.kind]
        pieces = list(adapt(self._model, self._tokenizer, tokens, self._protocol, shown))
        targets = np.concatenate([np.arange(first, first + len(nats)) for first, nats in pieces])
        probabilities = np.array([shown[target] for target in show]).reshape(len(show), self.vocab_size)
        size_bytes = int(self._table.exact_bytes(tokens[1:]).sum())
        return Scored(targets, np.concatenate([nats for _, nats in pieces]), size_bytes, probabilities)
