"""One tree's forecast: the model's log-odds at each node, mixed with what the text has taught about that node so far.

After Mahoney's PAQ. A slot, found by the hash of a context and a node, keeps a probability and a small state: how many
zeros and ones it saw, and the last. The state, with the model's log-odds, is mapped to a probability that is itself
learned; a logistic mixer adds all up, with weights chosen by depth, familiarity, last byte and node. They start as the
model alone, so a short text loses nothing. All of a path's nodes are forecast before any is updated.

What a token costs is one path; the whole distribution is all nodes; both are `_look`. Float64 and one order of
operations: the same machine gives the same bits. Another may round differently, as with the model itself.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from eval.mixing.features import CLASSES, LENGTHS, ORDERS, SEES, SHORTEST, Here
from eval.mixing.vocab_tree import Tree

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """How the mixing learns."""

    trees: Annotated[int, Ge(1), Le(3)] = 2  # orders of the vocabulary, averaged; time and memory go with it
    table_bits: Annotated[int, Ge(10), Le(30)] = 25  # log2 of a tree's slots, 6 bytes each, all contexts together
    rate: Annotated[float, Gt(0)] = 0.015  # of the mixer's weights, at the text's beginning
    rate_floor: Annotated[float, Gt(0)] = 0.003  # which it falls to,
    rate_tokens: Annotated[float, Gt(0)] = 3000.0  # half way after so many tokens


MOST = 7  # of zeros or ones that a state counts
STATES = 2 * (MOST + 1) ** 2  # zeros, ones, the last bit
HALF_FORGOTTEN = np.array([0, 1, 2, 2, 3, 4, 4, 5])  # what remains of a count when the other bit comes
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
        more, fewer = np.minimum(same + 1, MOST), HALF_FORGOTTEN[other]
        following[bit] = ((more, fewer)[bit] * (MOST + 1) + (fewer, more)[bit]) * 2 + bit
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


class TreeMixer:
    def __init__(self, tree: Tree, config: MixConfig) -> None:
        self._tree, self._config = tree, config
        count, levels = len(SEES), tree.levels
        self._beliefs = np.zeros(1 << config.table_bits, np.float32)
        self._marks = np.zeros(1 << config.table_bits, np.uint16)  # check bits, then the state
        self._next, self._slot_rate, self._trust, self._sure, odds = _states()
        start = odds[:, None] + np.linspace(-REACH, REACH, KNOTS)  # (STATES, KNOTS): the model's odds times the state's
        shape = (count, levels, STATES, KNOTS)
        self._map = np.broadcast_to(1 / (1 + np.exp(-start)), shape).reshape(-1).copy()
        self._map_seen = np.full(self._map.size, FIRST_SEEN)
        self._map_base = np.arange(count)[:, None] * (levels * STATES * KNOTS)
        kinds = (1, 2 * (ORDERS + 1), CLASSES)  # weight sets by depth and: nothing; familiarity and repeat; class
        self._set_base = np.cumsum([0, *(kind * levels for kind in kinds)])
        top = self._set_base[-1] + np.minimum(np.arange(tree.vocab_size - 1), (1 << TOP_LEVELS) - 1)
        self._top_rows = np.where(tree.depth < TOP_LEVELS, top, self._set_base[-1] + (1 << TOP_LEVELS) + tree.depth)
        self._weights = np.zeros((int(self._set_base[-1]) + (1 << TOP_LEVELS) + levels, 3 + PER_CONTEXT * count))
        self._weights[:, 0] = 1.0  # the model alone
        self._repeat_right = np.minimum(np.arange(LENGTHS) / SHORTEST / 4, 0.97)  # P(the repeat goes on), by its length
        self._repeat_seen = np.zeros(LENGTHS)
        self._node_hash = np.arange(tree.vocab_size - 1).astype(np.uint64) * HASH_A
        self._every = np.arange(tree.vocab_size - 1)
        self._tokens = 0

    def distribution(self, cumulative: Floats, here: Here) -> Floats:
        """(V,) probabilities of the next token. Changes no table."""
        return self._tree.distribution(self._look(self._every, cumulative, here).right)

    def learn(self, cumulative: Floats, here: Here, token: int) -> float:
        """The token's log-probability; then it is learned."""
        length = self._tree.length[token]
        answers = self._tree.answer[token, :length]
        view = self._look(self._tree.path[token, :length], cumulative, here)
        self._update(view, answers, here, token)
        self._tokens += 1
        return float(np.log(np.where(answers, view.right, 1 - view.right)).sum())

    def _look(self, nodes: Ints, cumulative: Floats, here: Here) -> View:
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
        kinds = np.stack([np.zeros_like(familiar), familiar, np.full_like(familiar, here.klass)])
        by_depth = self._set_base[:3, None] + kinds * self._tree.levels + depth
        rows = np.concatenate([by_depth, self._top_rows[nodes][None]])
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

    def _update(self, view: View, answers: Ints, here: Here, token: int) -> None:
        """A path's nodes have each a depth and weights of their own: no entry is written twice, but for a slot that two
        nodes share by chance, where the deeper one's history stays."""
        config = self._config
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
