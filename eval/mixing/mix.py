"""The model mixed with what the text itself has taught so far: score-first context mixing, normalised by construction.

    mixed = Mixed(tokenizer)
    mixed.reveal(first)
    nats = mixed.cost(row, token)         row: (V,) the model's log-probabilities; scores the token, then learns it
    p = mixed.predict(row)                or all (V,) probabilities, and then
    mixed.reveal(token)

A prediction is a function of the artifact and of the tokens revealed before: the mean over a few trees of the
vocabulary (vocab_tree.py), each with a mixer of its own (mixer.py) over the same contexts (features.py). A tree sorted
by how tokens begin and one sorted by how they end learn different things from the same text.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from data.tokenizer import Tokenizer
from eval.mixing.features import Contexts, Here
from eval.mixing.mixer import MixConfig, TreeMixer
from eval.mixing.vocab_tree import Tree
from eval.windows import plan_windows
from model.gpt import GPT

Floats = npt.NDArray[np.float64]
Row = npt.NDArray[np.floating]


def orders(spelling: bytes) -> tuple[bytes, bytes, bytes]:
    """What the trees sort tokens by: how they begin, how they end, which word they are."""
    return spelling, spelling[::-1], spelling.strip().lower()


class Mixed:
    def __init__(self, tokenizer: Tokenizer, config: MixConfig | None = None) -> None:
        config = config or MixConfig()
        spellings = [orders(piece.data) for piece in tokenizer.pieces()]
        self.vocab_size = len(spellings)
        self._trees = [Tree([names[number] for names in spellings]) for number in range(config.trees)]
        self._mixers = [TreeMixer(tree, config) for tree in self._trees]
        self._contexts = Contexts(tokenizer)
        self._asked: tuple[list[Floats], Here] | None = None

    def predict(self, row: Row) -> Floats:
        """(V,) log-probabilities of the model -> (V,) probabilities of the next token. Changes no table."""
        sums, here = self._asked = self._ask(row)
        asked = zip(self._mixers, sums, strict=True)
        mean: Floats = np.mean([mixer.distribution(cumulative, here) for mixer, cumulative in asked], axis=0)
        return mean

    def cost(self, row: Row, token: int) -> float:
        """What the token costs, in nats; then it is revealed."""
        self._asked = self._ask(row)
        return self._learn(token)

    def reveal(self, token: int) -> None:
        """The next token. The text's first, and it alone, comes without a row asked before."""
        if self._asked is not None:
            self._learn(token)
        else:
            self._contexts.reveal(token)

    def _ask(self, row: Row) -> tuple[list[Floats], Here]:
        probabilities = np.exp(row, dtype=np.float64)
        return [tree.cumulative(probabilities) for tree in self._trees], self._contexts.here(int(row.argmax()))

    def _learn(self, token: int) -> float:
        assert self._asked is not None
        sums, here = self._asked
        asked = zip(self._mixers, sums, strict=True)
        logs = [mixer.learn(cumulative, here, token) for mixer, cumulative in asked]
        self._contexts.reveal(token)
        self._asked = None
        return -float(np.log(np.mean(np.exp(logs))))


@torch.no_grad()
def log_probabilities(
    model: GPT, tokens: npt.NDArray[np.integer], context: int, stride: int, batch_tokens: int
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """(first, rows): the model's (n, V) log-probabilities of targets first, first + 1, …, in the order of the text."""
    plan = plan_windows(len(tokens) - 1, context, stride)
    context = min(context, len(tokens))
    device = next(model.parameters()).device
    stream = F.pad(torch.from_numpy(np.asarray(tokens[:-1], np.int64)), (0, context)).to(device)
    was_training = model.training
    model.eval()
    size = max(1, batch_tokens // context)
    for at in range(0, len(plan.start), size):
        part = range(at, min(at + size, len(plan.start)))
        hidden = model.trunk(torch.stack([stream[plan.start[w] : plan.start[w] + context] for w in part]))
        for states, w in zip(hidden, part, strict=True):
            begin, end = plan.score_from[w] - plan.start[w], plan.end[w] - plan.start[w]
            yield int(plan.score_from[w]), model.logits(states[begin:end]).log_softmax(-1).cpu().numpy()
    model.train(was_training)
