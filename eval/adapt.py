"""Score first, then learn: legal use of a text's own past, as `protocol.adapt` says (eval.config.AdaptConfig).

    score(model, dataset, protocol, device)              the score (eval.score)
    ModelScorer(model, tokenizer, protocol)              the same losses as a Scorer, to be probed

off    nothing is learned
mix    the model's prediction mixed with what the text has taught so far (eval.mixing); normalised by construction
lora   adapters learn, and each document begins them afresh: side by side, on ranks too (eval.document_ttt)

A prediction depends on the artifact and on tokens revealed before it. So `mix` scores a text in its order, and ranks
cannot share it. Each function fills in `shown`: its keys are targets whose distributions are wanted.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise, zip_longest

import numpy as np

from data.bytes import ByteTable
from data.tokenizer import Tokenizer
from eval.batches import Floats, Losses, Rows, Tokens, window_losses, window_probabilities
from eval.document_ttt import Shown, lora_losses
from eval.mixing.mixer import Mixture
from eval.protocol import Protocol
from eval.scorer import Scored
from eval.windows import plan_windows
from model.gpt import GPT

Adapt = Callable[[GPT, Tokenizer, Tokens, Protocol, Shown], Losses]


def plain_losses(model: GPT, tokenizer: Tokenizer, tokens: Tokens, protocol: Protocol, shown: Shown) -> Losses:
    """The losses of the score without adapting; the distributions come from the windows that score their targets."""
    plan = plan_windows(len(tokens) - 1, protocol.context, protocol.stride)
    yield from window_losses(model, tokens, plan, protocol.feed)
    needed = np.unique(np.searchsorted(plan.score_from, list(shown), side="right") - 1)
    for first, rows in window_probabilities(model, tokens, plan.select(needed), protocol.feed):
        for target in shown.keys() & range(first, first + len(rows)):
            shown[target] = rows[target - first].astype(np.float64)


def mix_losses(model: GPT, tokenizer: Tokenizer, tokens: Tokens, protocol: Protocol, shown: Shown) -> Losses:
    """Each stream is a run of the text with a past of its own; a window of each is mixed at a time, in threads."""
    targets = len(tokens) - 1
    streams = protocol.adapt.streams
    plan = plan_windows(targets, protocol.context, protocol.stride)

    def stream(number: int) -> Iterator[tuple[int, Callable[[], Floats]]]:
        begin, end = number * targets // streams, (number + 1) * targets // streams
        mixture = Mixture(tokenizer, protocol.adapt.table_bits, end - begin + 1, protocol.adapt.trees)
        mixture.begin(int(tokens[begin]))
        own = plan.select(np.flatnonzero((plan.end > begin) & (plan.score_from < end)))
        for first, rows in window_probabilities(model, tokens, own, protocol.feed, mixture.order):
            inside = slice(max(0, begin - first), end - first)
            yield max(first, begin), partial(_mix, mixture, max(first, begin), rows[inside], tokens, shown)

    with ThreadPoolExecutor(streams) as pool:
        for pieces in zip_longest(*(stream(number) for number in range(streams))):
            done = [(first, pool.submit(mix)) for first, mix in filter(None, pieces)]
            for first, mixed in done:
                nats = mixed.result()
                yield np.arange(first, first + len(nats)), nats


def _mix(mixture: Mixture, first: int, rows: Rows, tokens: Tokens, shown: Shown) -> Floats:
    """The nats of targets first, first + 1, …; those in `shown` are predicted before they are learned."""
    parts = []
    cuts = sorted({first} | shown.keys() & range(first, first + len(rows)))
    for begin, end in pairwise([*cuts, first + len(rows)]):
        if begin in shown:
            shown[begin] = mixture.predict(rows[begin - first])
        parts.append(mixture.learn(rows[begin - first : end - first], tokens[begin + 1 : end + 1]))
    return np.concatenate(parts)


ADAPTATIONS: dict[str, Adapt] = {"off": plain_losses, "mix": mix_losses, "lora": lora_losses}


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
        targets, nats = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        probabilities = np.array([shown[target] for target in show]).reshape(len(show), self.vocab_size)
        size_bytes = int(self._table.exact_bytes(tokens[1:]).sum())
        return Scored(targets, nats, size_bytes, probabilities)
