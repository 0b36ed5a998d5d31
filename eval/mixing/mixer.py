"""The model mixed with what the text itself has taught so far: score-first context mixing, normalised by construction.

    mixture = Mixture(tokenizer)
    mixture.begin(first)
    p = mixture.predict(row)              row: (V,) the model's log-probabilities; all (V,) probabilities, if wanted
    nats = mixture.cost(row, token)       scores the next token, then learns it

A prediction is a function of the artifact and of the tokens revealed before: the mean over a few trees of the
vocabulary (vocab_tree.py), each with a mixer of its own over the same contexts (features.py). A tree sorted by how
tokens begin and one sorted by how they end learn different things from the same text.

A tree's mixer follows Mahoney's PAQ. A slot, found by the hash of a context and a node, keeps a probability and a small
state: how many zeros and ones it saw, and the last. The state, with the model's log-odds, is mapped to a probability
that is itself learned; a logistic mixer adds all up, with weights chosen by depth, familiarity, last byte and node.
They start as the model alone, so a short text loses nothing. All nodes of a path are predicted before any is updated.

A token's cost needs one path, the distribution all nodes; both come from `_look`. Float64 and one order of operations:
the same machine gives the same bits. Another may round differently, as with the model itself.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.tokenizer import Tokenizer
from eval.mixing.features import CLASSES, LENGTHS, ORDERS, SEES, SHORTEST, Contexts, Here
from eval.mixing.vocab_tree import Tree

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Row = npt.NDArray[np.floating]

TABLE_BITS = 25  # log2 of a tree's slots, 6 bytes each, all contexts together
RATE = 0.015  # of the mixer's weights, at the text's beginning;
RATE_FLOOR = 0.003  # it falls to this,
RATE_TOKENS = 3000.0  # half way after so many tokens
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


class Mixture:
    def __init__(self, tokenizer: Tokenizer, table_bits: int = TABLE_BITS) -> None:
        spellings = [piece.data for piece in tokenizer.pieces()]
        trees = (Tree(spellings), Tree([spelling[::-1] for spelling in spellings]))
        self._mixers = [TreeMixer(tree, table_bits) for tree in trees]
        self._contexts = Contexts(tokenizer)

    def begin(self, token: int) -> None:
        """The text's first token, which nothing predicts."""
        self._contexts.reveal(token)

    def predict(self, row: Row) -> Floats:
        """(V,) log-probabilities of the model -> (V,) probabilities of the next token. Changes no table."""
        p = np.exp(row, dtype=np.float64)
        here = self._contexts.here(int(row.argmax()))
        mean: Floats = np.mean([mixer.distribution(p, here) for mixer in self._mixers], axis=0)
        return mean

    def cost(self, row: Row, token: int) -> float:
        """What the token costs, in nats; then it is learned."""
        p = np.exp(row, dtype=np.float64)
        here = self._contexts.here(int(row.argmax()))
        logs = [mixer.learn(p, here, token) for mixer in self._mixers]
        self._contexts.reveal(token)
        return -float(np.log(np.mean(np.exp(logs))))


class StateTable:
    """What each state means; (STATES,) but for `following`."""

    def __init__(self) -> None:
        zeros, ones = np.divmod(np.arange(STATES) // 2, MOST + 1)
        more_zeros, fewer_ones = np.minimum(zeros + 1, MOST), HALF_FORGOTTEN[ones]
        more_ones, fewer_zeros = np.minimum(ones + 1, MOST), HALF_FORGOTTEN[zeros]
        after_zero = (more_zeros * (MOST + 1) + fewer_ones) * 2
        after_one = (fewer_zeros * (MOST + 1) + more_ones) * 2 + 1
        self.following = np.stack([after_zero, after_one])  # (2, STATES) the state after a zero, after a one
        self.rate = 1 / (zeros + ones + 1.5)  # at which its slot's probability moves
        self.trust = 4 * (1 - 1 / (zeros + ones + 1.0))  # in its slot's probability
        one_sided = np.where(zeros == 0, np.minimum(ones, 6), np.where(ones == 0, -np.minimum(zeros, 6), 0))
        self.sure = one_sided / 3  # below 0 where only zeros were seen, above 0 where only ones were
        self.odds = np.log((ones + 0.4) / (zeros + 0.4))


class View(NamedTuple):
    """What was predicted of n nodes, and from what."""

    right: Floats  # (n,) P(second half)
    inputs: Floats  # (n, I)
    rows: Ints  # (K, n) of the weights
    slots: Ints  # (C, n)
    checks: npt.NDArray[np.uint16]  # (C, n) of the slots, state bits empty
    states: npt.NDArray[np.uint16]  # (C, n)
    beliefs: npt.NDArray[np.float32]  # (C, n) the slots' own probabilities
    knots: Ints  # (C, n) the lower one, in the flattened map
    between: Floats  # (n,) how far from the lower knot to the upper


class TreeMixer:
    def __init__(self, tree: Tree, table_bits: int) -> None:
        self._tree = tree
        self._tokens = 0  # learned so far
        nodes = np.arange(tree.vocab_size - 1)
        contexts = len(SEES)
        levels = tree.levels

        # Slots: check bits and a state, and a probability.
        self._marks = np.zeros(1 << table_bits, np.uint16)
        self._beliefs = np.zeros(1 << table_bits, np.float32)
        self._node_hash = nodes.astype(np.uint64) * HASH_A
        self._every_node = nodes

        # The map of states, starting as the model's odds times the state's own.
        self._state = StateTable()
        start = self._state.odds[:, None] + np.linspace(-REACH, REACH, KNOTS)  # (STATES, KNOTS)
        shape = (contexts, levels, STATES, KNOTS)
        self._map = np.broadcast_to(1 / (1 + np.exp(-start)), shape).reshape(-1).copy()
        self._map_seen = np.full(self._map.size, FIRST_SEEN)
        self._map_base = np.arange(contexts)[:, None] * (levels * STATES * KNOTS)

        # Weights. Sets by depth and nothing, familiarity and repeat, class; then one per node of the top levels.
        kinds = (1, 2 * (ORDERS + 1), CLASSES)
        self._set_base = np.cumsum([0, *(kind * levels for kind in kinds)])
        sets = int(self._set_base[-1])
        top = sets + np.minimum(nodes, (1 << TOP_LEVELS) - 1)
        self._top_rows = np.where(tree.depth < TOP_LEVELS, top, sets + (1 << TOP_LEVELS) + tree.depth)
        self._weights = np.zeros((sets + (1 << TOP_LEVELS) + levels, 3 + PER_CONTEXT * contexts))
        self._weights[:, 0] = 1.0  # the model alone

        # P(the repeat continues), by its length.
        self._repeat_right = np.minimum(np.arange(LENGTHS) / SHORTEST / 4, 0.97)
        self._repeat_seen = np.zeros(LENGTHS)

    def distribution(self, p: Floats, here: Here) -> Floats:
        """(V,) probabilities of the next token. Changes no table."""
        return self._tree.distribution(self._look(self._every_node, p, here).right)

    def learn(self, p: Floats, here: Here, token: int) -> float:
        """The token's log-probability; then it is learned."""
        length = self._tree.length[token]
        answers = self._tree.answer[token, :length]
        view = self._look(self._tree.path[token, :length], p, here)
        self._update(view, answers)
        self._update_repeat(here, token)
        self._tokens += 1
        return float(np.log(np.where(answers, view.right, 1 - view.right)).sum())

    def _look(self, nodes: Ints, p: Floats, here: Here) -> View:
        depth = self._tree.depth[nodes]
        model = np.clip(self._tree.log_odds(p, nodes), -EDGE, EDGE)

        hashes = here.hashes[:, None] + self._node_hash[nodes]
        hashes ^= hashes >> np.uint64(29)
        hashes *= HASH_B
        hashes ^= hashes >> np.uint64(32)
        slots = (hashes & np.uint64(len(self._marks) - 1)).astype(np.int64)
        checks = ((hashes >> np.uint64(64 - CHECK_BITS)) << np.uint64(16 - CHECK_BITS)).astype(np.uint16)
        states = self._marks[slots] ^ checks
        seen = (states < STATES) & (states > 0)  # otherwise the slot is another's, or free
        states = np.where(seen, states, np.uint16(0))
        beliefs = np.where(seen, self._beliefs[slots], np.float32(0.5))

        at = (np.clip(model, -REACH, REACH - 1e-9) + REACH) * ((KNOTS - 1) / (2 * REACH))
        knot = at.astype(np.int64)
        between = at - knot
        knots = self._map_base + (depth * (STATES * KNOTS) + knot) + states * np.int64(KNOTS)
        mapped = self._map[knots] * (1 - between) + self._map[knots + 1] * between

        repeat = self._repeat(here, nodes)
        contexts = len(SEES)
        inputs = np.empty((len(nodes), self._weights.shape[1]))
        inputs[:, 0] = model
        inputs[:, 1] = 0.3
        inputs[:, 2] = repeat
        from_maps, from_beliefs, from_states = np.split(inputs[:, 3:], [contexts, 2 * contexts], axis=1)  # views
        from_maps[:] = (np.clip(np.log(mapped / (1 - mapped)) - model, -REACH, REACH) * seen).T
        from_beliefs[:] = ((beliefs - 0.5) * self._state.trust[states]).T
        from_states[:] = self._state.sure[states].T

        familiar = 2 * seen[:ORDERS].sum(0) + (repeat != 0)
        kinds = np.stack([np.zeros_like(familiar), familiar, np.full_like(familiar, here.klass)])
        by_depth = self._set_base[:3, None] + kinds * self._tree.levels + depth
        rows = np.concatenate([by_depth, self._top_rows[nodes][None]])
        margin = np.clip(np.einsum("kni,ni->n", self._weights[rows], inputs) / len(rows), -EDGE, EDGE)
        return View(1 / (1 + np.exp(-margin)), inputs, rows, slots, checks, states, beliefs, knots, between)

    def _repeat(self, here: Here, nodes: Ints) -> Floats:
        """(n,) log-odds of the repeat's token, at the nodes above it."""
        if here.repeated < 0:
            return np.zeros(len(nodes))
        chance = self._repeat_right[here.length]
        odds = np.log(chance / (1 - chance))
        tree = self._tree
        place = tree.place[here.repeated]
        inside = (tree.low[nodes] <= place) & (place < tree.high[nodes])
        return np.where(inside, np.where(place >= tree.middle[nodes], odds, -odds), 0.0)

    def _update(self, view: View, answers: Ints) -> None:
        """A path's nodes have each a depth and weights of their own: no entry is written twice, but for a slot that two
        nodes share by chance, where the deeper one's history stays."""
        rate = RATE_FLOOR + (RATE - RATE_FLOOR) / (1 + self._tokens / RATE_TOKENS)
        self._weights[view.rows] += (rate * (answers - view.right))[:, None] * view.inputs
        for knots, share in ((view.knots, 1 - view.between), (view.knots + 1, view.between)):
            seen = self._map_seen[knots]
            value = self._map[knots]
            value += (answers - value) * share / (seen + 1.5)
            self._map[knots] = np.clip(value, 0.0003, 0.9997)
            self._map_seen[knots] = np.minimum(seen + share, MOST_SEEN)
        self._beliefs[view.slots] = view.beliefs + (answers - view.beliefs) * self._state.rate[view.states]
        self._marks[view.slots] = view.checks | self._state.following[answers, view.states].astype(np.uint16)

    def _update_repeat(self, here: Here, token: int) -> None:
        if here.repeated < 0:
            return
        seen = min(self._repeat_seen[here.length] + 1, MOST_SEEN)
        before = self._repeat_right[here.length]
        after = before + ((here.repeated == token) - before) / (seen + 8)
        self._repeat_seen[here.length] = seen
        self._repeat_right[here.length] = min(max(after, 0.01), 0.999)
