"""The model mixed with what the text itself has taught so far: context mixing over already revealed tokens.

    mixed = Mixed(tokenizer)
    nats = mixed.cost(row, token)         row: (V,) the model's log-probabilities; scores the token, then learns it

A token is a path through a tree of the vocabulary (eval.tree). At each node the model's own log-odds meet a bit's
history in every context (eval.contexts), after Mahoney's PAQ: a slot keeps a probability and a small state; the state,
with the model's log-odds, is mapped to a probability that is itself learned; a logistic mixer, whose weights are chosen
by depth, familiarity, last byte and node, adds all up. The weights start as the model alone, so a short text loses
nothing. Whatever is learned is learned after the token is revealed: all of a path's nodes are forecast before any is
updated. V - 1 node probabilities are one distribution over the whole vocabulary: `predict` gives it, `cost` walks one
path of it; both are the same function of the same tables.

Float64 and one order of operations: the same machine gives the same bits. Another may round differently, as with the
model itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le

from data.tokenizer import Tokenizer
from eval.contexts import CLASSES, LENGTHS, ORDERS, SEES, SHORTEST, Contexts, Here
from eval.scorer import Predictor
from eval.tree import Tree
from eval.windows import plan_windows
from model.gpt import GPT

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Row = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """How a `Mixed` learns."""

    table_bits: Annotated[int, Ge(10), Le(30)] = 25  # log2 of the slots, 6 bytes each, all contexts together
    rate: float = 0.015  # of the mixer's weights, at the text's beginning
    rate_floor: float = 0.003  # which it falls to,
    rate_tokens: float = 3000.0  # half way after so many tokens


MOST = 7  # of zeros or ones that a state counts
STATES = 2 * (MOST + 1) ** 2  # zeros, ones, the last bit
KNOTS = 6  # of the model's log-odds, from -REACH to REACH, between which a state's probability is interpolated
REACH = 8.0
MOST_SEEN = 255.0  # after which a state's probability moves at a constant rate
FIRST_SEEN = 1.0
EDGE = 14.0  # log-odds are kept within: no answer is taken for certain
PER_CONTEXT = 3  # inputs
TOP_LEVELS = 7  # whose nodes have weights of their own
CHECK_BITS = 9
HASH_A, HASH_B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def _states() -> tuple[Ints, Floats, Floats, Floats, Floats]:
    """next (2, STATES); of each state: the rate of its slot, trust in its slot, what it is sure of, its odds."""
    zeros, ones = np.divmod(np.arange(STATES) // 2, MOST + 1)
    following = np.empty((2, STATES), np.int64)
    for bit, (same, other) in enumerate([(zeros, ones), (ones, zeros)]):
        more = np.minimum(same + 1, MOST)
        fewer = np.where(
            other > 2, np.minimum(other - 1, (other + 3) // 2), other
        )  # what contradicts is half forgotten
        pair = (more, fewer) if bit == 0 else (fewer, more)
        following[bit] = (pair[0] * (MOST + 1) + pair[1]) * 2 + bit
    seen = zeros + ones
    sure = np.where(zeros == 0, np.minimum(ones, 6), np.where(ones == 0, -np.minimum(zeros, 6), 0)) / 3
    return following, 1 / (seen + 1.5), 4 * (1 - 1 / (seen + 1.0)), sure, np.log((ones + 0.4) / (zeros + 0.4))


class View(NamedTuple):
    """What was forecast of n nodes, and from what."""

    right: Floats  # (n,) P(second half)
    inputs: Floats  # (n, I)
    rows: Ints  # (K, n) of the weights
    slots: Ints  # (C, n)
    checks: npt.NDArray[np.uint16]  # (C, n) of the slots, state bits empty
    states: npt.NDArray[np.uint16]  # (C, n)
    beliefs: npt.NDArray[np.float32]  # (C, n) the slots' own probabilities
    knots: Ints  # (C, n) the lower one, in the flattened map
    between: Floats  # (n,) how far from the lower knot to the upper
    mapped: Floats  # (C, n) the states' probabilities


class Mixed:
    def __init__(self, tokenizer: Tokenizer, config: MixConfig | None = None) -> None:
        self._config = config or MixConfig()
        self._tree = tree = Tree([piece.data for piece in tokenizer.pieces()])
        self.vocab_size = tree.vocab_size
        self._contexts = Contexts(tokenizer)
        count, levels = len(SEES), tree.levels
        self._beliefs = np.full(1 << self._config.table_bits, 0.5, np.float32)
        self._marks = np.zeros(1 << self._config.table_bits, np.uint16)  # check bits, then the state
        self._next, self._slot_rate, self._trust, self._sure, odds = _states()
        start = odds[:, None] + np.linspace(-REACH, REACH, KNOTS)  # (STATES, KNOTS): the model's odds times the state's
        shape = (count, levels, STATES, KNOTS)
        self._map = np.broadcast_to(1 / (1 + np.exp(-start)), shape).reshape(-1).copy()
        self._map_seen = np.full(self._map.size, FIRST_SEEN)
        self._map_base = np.arange(count)[:, None] * (levels * STATES * KNOTS)
        kinds = (1, 2 * (ORDERS + 1), CLASSES)  # weight sets by depth and: nothing; familiarity and repeat; class
        self._set_base = np.cumsum([0, *(kind * levels for kind in kinds)])
        top = self._set_base[-1] + np.minimum(np.arange(self.vocab_size - 1), (1 << TOP_LEVELS) - 1)
        self._top_rows = np.where(tree.depth < TOP_LEVELS, top, self._set_base[-1] + (1 << TOP_LEVELS) + tree.depth)
        self._weights = np.zeros((int(self._set_base[-1]) + (1 << TOP_LEVELS) + levels, 3 + PER_CONTEXT * count))
        self._weights[:, 0] = 1.0  # the model alone
        self._repeat_right = np.minimum(np.arange(LENGTHS) / SHORTEST / 4, 0.97)  # P(the repeat goes on), by its length
        self._repeat_seen = np.zeros(LENGTHS)
        self._node_hash = np.arange(self.vocab_size - 1).astype(np.uint64) * HASH_A
        self._every = np.arange(self.vocab_size - 1)
        self._tokens = 0
        self._asked: tuple[Floats, Here] | None = None

    def predict(self, row: Row) -> Floats:
        """(V,) log-probabilities of the model -> (V,) probabilities of the next token. Changes no table."""
        self._ask(row)
        return self._tree.distribution(self._look(self._every).right)

    def cost(self, row: Row, token: int) -> float:
        """What the token costs, in nats; then it is revealed."""
        self._ask(row)
        return self._learn(token)

    def reveal(self, token: int) -> None:
        """The next token. The text's first, and it alone, comes without a row asked before."""
        if self._asked is not None:
            self._learn(token)
        else:
            self._contexts.reveal(token)

    def _ask(self, row: Row) -> None:
        self._asked = self._tree.cumulative(row), self._contexts.here(int(row.argmax()))

    def _learn(self, token: int) -> float:
        length = self._tree.length[token]
        answers = self._tree.answer[token, :length]
        view = self._look(self._tree.path[token, :length])
        self._update(view, answers, token)
        self._contexts.reveal(token)
        self._asked = None
        self._tokens += 1
        return float(-np.log(np.where(answers, view.right, 1 - view.right)).sum())

    def _look(self, nodes: Ints) -> View:
        assert self._asked is not None
        cumulative, here = self._asked
        depth = self._tree.depth[nodes]
        model = np.clip(self._tree.log_odds(cumulative, nodes), -EDGE, EDGE)
        hashes = here.hashes[:, None] + self._node_hash[nodes]
        hashes ^= hashes >> np.uint64(29)
        hashes *= HASH_B
        hashes ^= hashes >> np.uint64(32)
        slots = (hashes & np.uint64(len(self._marks) - 1)).astype(np.int64)
        checks = ((hashes >> np.uint64(64 - CHECK_BITS)) << np.uint64(16 - CHECK_BITS)).astype(np.uint16)
        states = self._marks[slots] ^ checks
        seen = (states < STATES) & (states > 0)  # else the slot is another's, or nobody's
        states = np.where(seen, states, np.uint16(0))
        beliefs = np.where(seen, self._beliefs[slots], np.float32(0.5))
        at = (np.clip(model, -REACH, REACH - 1e-9) + REACH) * ((KNOTS - 1) / (2 * REACH))
        knot = at.astype(np.int64)
        between = at - knot
        knots = self._map_base + (depth * (STATES * KNOTS) + knot) + states * np.int64(KNOTS)
        mapped = self._map[knots] * (1 - between) + self._map[knots + 1] * between
        inputs = np.empty((len(nodes), self._weights.shape[1]))
        inputs[:, 0], inputs[:, 1] = model, 0.3
        repeat = self._repeat(here, nodes)
        inputs[:, 2] = repeat
        count = len(SEES)
        inputs[:, 3 : 3 + count] = (np.clip(np.log(mapped / (1 - mapped)) - model, -REACH, REACH) * seen).T
        inputs[:, 3 + count : 3 + 2 * count] = ((beliefs - 0.5) * self._trust[states]).T
        inputs[:, 3 + 2 * count :] = self._sure[states].T
        familiar = 2 * seen[:ORDERS].sum(0) + (repeat != 0)
        first, second, third = self._set_base[:3]
        levels = self._tree.levels
        rows = np.stack(
            [
                first + depth,
                second + familiar * levels + depth,
                third + here.klass * levels + depth,
                self._top_rows[nodes],
            ]
        )
        margin = np.clip(np.einsum("kni,ni->n", self._weights[rows], inputs) / len(rows), -EDGE, EDGE)
        right = 1 / (1 + np.exp(-margin))
        return View(right, inputs, rows, slots, checks, states, beliefs, knots, between, mapped)

    def _repeat(self, here: Here, nodes: Ints) -> Floats:
        """(n,) log-odds of the repeat's token, at the nodes above it."""
        if here.repeated < 0:
            return np.zeros(len(nodes))
        chance = self._repeat_right[here.length]
        odds, place, tree = np.log(chance / (1 - chance)), self._tree.place[here.repeated], self._tree
        inside = (tree.low[nodes] <= place) & (place < tree.high[nodes])
        return np.where(inside, np.where(place >= tree.middle[nodes], odds, -odds), 0.0)

    def _update(self, view: View, answers: Ints, token: int) -> None:
        """A path's nodes have each a depth, a slot and weights of their own: no entry is written twice."""
        assert self._asked is not None
        here, config = self._asked[1], self._config
        rate = config.rate_floor + (config.rate - config.rate_floor) / (1 + self._tokens / config.rate_tokens)
        self._weights[view.rows] += (rate * (answers - view.right))[:, None] * view.inputs
        for knots, share in ((view.knots, 1 - view.between), (view.knots + 1, view.between)):
            seen, value = self._map_seen[knots], self._map[knots]
            value += (answers - value) * share / (seen + 1.5)
            self._map[knots] = np.clip(value, 0.0003, 0.9997)
            self._map_seen[knots] = np.minimum(seen + share, MOST_SEEN)
        self._beliefs[view.slots] = view.beliefs + (answers - view.beliefs) * self._slot_rate[view.states]
        self._marks[view.slots] = view.checks | self._next[answers, view.states].astype(np.uint16)
        if here.repeated >= 0:
            self._repeat_seen[here.length] = min(self._repeat_seen[here.length] + 1, MOST_SEEN)
            was = self._repeat_right[here.length]
            now = was + ((here.repeated == token) - was) / (self._repeat_seen[here.length] + 8)
            self._repeat_right[here.length] = min(max(now, 0.01), 0.999)


class MixedTurns:
    """A `Predictor` made of another one and a `Mixed`."""

    def __init__(self, inner: Predictor, mixed: Mixed) -> None:
        self._inner, self._mixed, self.vocab_size = inner, mixed, mixed.vocab_size

    def predict(self) -> Floats:
        with np.errstate(divide="ignore"):  # a token that the inner one rules out
            return self._mixed.predict(np.log(self._inner.predict()))

    def reveal(self, token: int) -> None:
        self._mixed.reveal(token)
        self._inner.reveal(token)


def mixed_losses(
    model: GPT,
    tokens: npt.NDArray[np.integer],
    context: int,
    stride: int,
    batch_tokens: int,
    mixed: Mixed,
) -> Iterator[tuple[int, Floats]]:
    """As eval.score.losses, with what `mixed` has learned from the targets before. One rank: a text has one past."""
    mixed.reveal(int(tokens[0]))
    for first, rows in log_probabilities(model, tokens, context, stride, batch_tokens):
        targets = tokens[first + 1 : first + 1 + len(rows)].tolist()
        yield first, np.array([mixed.cost(row, token) for row, token in zip(rows, targets, strict=True)])


@torch.no_grad()
def log_probabilities(
    model: GPT, tokens: npt.NDArray[np.integer], context: int, stride: int, batch_tokens: int
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """(first, rows): the model's (n, V) log-probabilities of targets first, first + 1, …, in the order of the text."""
    plan = plan_windows(len(tokens) - 1, context, stride)
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
