"""The model mixed with what the text itself has taught so far: score-first context mixing, normalised by construction.

    mixture = Mixture(tokenizer, table_bits, tokens, trees)
    mixture.begin(first)                     the text's first token, which nothing predicts
    p = mixture.predict(row)                 (V,) probabilities of the next token; changes nothing
    nats = mixture.learn(rows, tokens)       (n,) what each token costs; each is learned once it is scored

`rows`: (n, trees * V) the model's probabilities, its tokens in the order of `mixture.order`. A prediction is a function
of the artifact and of the tokens revealed before: a token's probability is the product of the answers on its path
through the vocabulary's tree (tree.py), each predicted as node.py says.

One order of operations: the same machine gives the same bits. Another may round differently, as with the model itself.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import log

import numpy as np
import numpy.typing as npt

from data.tokenizer import Tokenizer
from eval.mixing.compiled import compiled
from eval.mixing.node import (
    Floats,
    Ints,
    Row,
    State,
    View,
    describe_past,
    empty_view,
    learn_path,
    learn_repeat,
    predict_node,
    start_state,
)
from eval.mixing.text import Spellings, Text, empty_text, reveal, spell
from eval.mixing.tree import Tree, plant_trees

Rows = npt.NDArray[np.floating]  # (n, V)


class Mixture:
    """Of one tree, or of two: their predictions are averaged, as they learn different things from the same text."""

    def __init__(self, tokenizer: Tokenizer, table_bits: int, length: int, trees: int) -> None:
        """`length`: the tokens of the text."""
        planted, spellings = plant_trees(tokenizer, trees), spell(tokenizer)
        self._members = [TreeMixture(tree, spellings, table_bits, [length]) for tree in planted]
        self._pool = ThreadPoolExecutor(trees)
        self.order = np.concatenate([member.tree.order for member in self._members])

    def begin(self, token: int) -> None:
        for member in self._members:
            member.begin(token)

    def predict(self, row: Row) -> Floats:
        """(trees * V,) of the model, in order -> (V,) by token."""
        parts = zip(self._members, np.split(row, len(self._members)), strict=True)
        mean: Floats = np.mean([member.predict(part) for member, part in parts], 0)
        return mean

    def learn(self, rows: Rows, tokens: npt.NDArray[np.integer]) -> Floats:
        """(n, trees * V) and n tokens -> what each costs, in nats."""
        parts = zip(self._members, np.split(rows, len(self._members), 1), strict=True)
        done = [self._pool.submit(member.learn, part, tokens) for member, part in parts]
        chances = np.exp([-each.result() for each in done])
        nats: Floats = -np.log(chances.mean(0))
        return nats


class TreeMixture:
    def __init__(self, tree: Tree, spellings: Spellings, table_bits: int, lengths: Sequence[int]) -> None:
        """`lengths`: the tokens of each text; what one of them teaches serves all."""
        self.tree = tree
        self._spellings = spellings
        self._texts = [empty_text(length) for length in lengths]
        self._state = start_state(tree.levels, table_bits)
        self._view = empty_view(tree.levels)

    def begin(self, token: int, text: int = 0) -> None:
        reveal(self._texts[text], self._spellings, token)

    def predict(self, row: Row) -> Floats:
        leaves = self.branch(row, 0, 0, self.tree.levels)
        by_token: Floats = leaves[self.tree.leaf[self.tree.place]]
        return by_token

    def branch(self, row: Row, level: int, node: int, depth: int, text: int = 0) -> Floats:
        """(2^depth,) probabilities of the nodes so many levels below a node, given that the token is in it.

        `level` is one at which lines of the table begin.
        """
        known = self.tree, self._texts[text], self._spellings, self._state
        chances: Floats = _branch(row, level, node, depth, *known, self._view)
        return chances

    def count(self, total: int, row: Row, level: int, node: int, depth: int, text: int = 0) -> Ints:
        """`branch` as integers, as eval.range_coder.frequencies makes them of it: at least 1, adding up to `total`."""
        return _count(self.branch(row, level, node, depth, text), total)

    def learn(self, rows: Rows, tokens: npt.NDArray[np.integer], text: int = 0) -> Floats:
        nats = np.empty(len(tokens))
        known = self.tree, self._texts[text], self._spellings, self._state
        _learn(rows, tokens.astype(np.int64), nats, *known, self._view)
        return nats


@compiled
def _learn(
    rows: Rows, tokens: Ints, nats: Floats, tree: Tree, text: Text, spellings: Spellings, state: State, view: View
) -> None:
    levels = len(view.right)
    for number, token in enumerate(tokens):
        row = np.ascontiguousarray(rows[number])
        past = describe_past(row, tree, text, spellings, state, view)
        if not view.sums[1] < np.inf:  # the model's probabilities are no numbers, which the tally refuses
            nats[number:] = np.nan
            return
        end = tree.leaf[tree.place[token]]
        chance = 1.0
        for level in range(levels):
            right = predict_node(level, end >> (levels - level), past, tree, state, view)
            chance *= right if end >> (levels - level - 1) & 1 else 1 - right
        nats[number] = -log(chance)
        learn_path(end, state, view)
        learn_repeat(past, end, state)
        state.learned[0] += 1
        reveal(text, spellings, token)


@compiled
def _branch(
    row: Row, level: int, node: int, depth: int, tree: Tree, text: Text, spellings: Spellings, state: State, view: View
) -> Floats:
    """Each node on the way is looked at once, in the order of a walk through the tree."""
    past = describe_past(row, tree, text, spellings, state, view)
    if not view.sums[1] < np.inf:
        return np.full(1 << depth, np.nan)
    chances = np.ones((depth + 1, 1 << depth))
    for end in range(1 << depth):
        for step in range(depth):
            below = depth - step  # levels between this node and the end
            if end & ((1 << below) - 1) == 0:
                predict_node(level + step, (node << step) + (end >> below), past, tree, state, view)
            right = view.right[level + step]
            chances[step + 1, end] = chances[step, end] * (right if end >> (below - 1) & 1 else 1 - right)
    below_node: Floats = chances[depth]
    return below_node


@compiled
def _count(chances: Floats, total: int) -> Ints:
    whole = chances.sum()
    if not whole > 0:
        raise ValueError("the model's probabilities are no numbers")
    counts = np.empty(len(chances), np.int64)
    for number in range(len(chances)):
        counts[number] = int(chances[number] / whole * (total - len(chances))) + 1
    counts[chances.argmax()] += total - counts.sum()
    return counts
