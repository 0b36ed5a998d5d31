"""The model mixed with what the text itself has taught so far: score-first context mixing, normalised by construction.

    mixture = Mixture(tokenizer, table_bits, [tokens])
    mixture.begin(first)                     the text's first token, which nothing predicts
    p = mixture.predict(row)                 (V,) probabilities of the next token; changes nothing
    nats = mixture.learn(rows, tokens)       (n,) what each token costs; each is learned once it is scored

`rows`: (n, V) the model's probabilities, tokens in the order of `mixture.order`. A prediction is a function of the
artifact and of the tokens revealed before: at each node of the vocabulary's tree (tree.py) the model's log-odds are
mixed with what the contexts of the text (text.py) have taught (memory.py).

It follows Mahoney's PAQ. A slot's state, with the model's log-odds, is mapped to a probability that is itself learned;
a logistic mixer adds all up, with weights chosen by depth, familiarity, last byte and node. They start as the model
alone, so a short text loses nothing. All nodes of a path are predicted before anything is updated.

Float64 and one order of operations: the same machine gives the same bits. Another may round differently, as with the
model itself.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from data.tokenizer import Tokenizer
from eval.mixing.memory import (
    BELIEF_BITS,
    LEVELS,
    LINE_SLOTS,
    ODDS,
    STATES,
    SURE,
    TRUST,
    find_line,
    learn_slot,
    read_belief,
    take_line,
)
from eval.mixing.text import (
    CLASSES,
    HASH_A,
    ORDERS,
    SEES,
    SHORTEST,
    Spellings,
    Text,
    empty_text,
    hash_contexts,
    mix_bits,
    reveal,
    spell,
)
from eval.mixing.tree import plant_tree

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Row = npt.NDArray[np.float32]

CONTEXTS = len(SEES)
RATE = 0.015  # of the mixer's weights, at the text's beginning;
RATE_FLOOR = 0.003  # it falls to this,
RATE_TOKENS = 3000.0  # half way after so many tokens
LENGTHS = 21  # buckets of a repeat's length
KNOTS = 6  # of the model's log-odds, from -REACH to REACH, between which a state's probability is interpolated
REACH = 8.0
MOST_SEEN = 255.0  # after which a state's probability moves at a constant rate
EDGE = 14.0  # log-odds are kept within: no answer is taken for certain
LEAST = 1e-35  # of a range's probability: keeps the log-odds of two empty halves finite
INPUTS = 3 + 3 * CONTEXTS
SETS = 4  # of weights: by depth and nothing, familiarity and repeat, class; and by node on the top levels
TOP_LEVELS = 7
FAMILIARITIES = 2 * (ORDERS + 1)
STRETCHED = 4096  # intervals of the table of ln(p / (1 - p)): a logarithm for each input would take a fifth of the time
_KNOTS = np.clip(np.arange(STRETCHED + 1) / STRETCHED, 0.5 / STRETCHED, 1 - 0.5 / STRETCHED)
STRETCH = np.log(_KNOTS / (1 - _KNOTS))


class State(NamedTuple):
    """All that is learned, but for the text."""

    table: npt.NDArray[np.uint32]  # eval.mixing.memory
    map: npt.NDArray[np.float32]  # (levels, contexts, STATES, KNOTS, 2) a state's probability, how often it was seen
    weights: Floats  # (rows, INPUTS)
    repeat: Floats  # (LENGTHS, 2) P(a repeat of this length continues), how often it was seen
    learned: Ints  # (1,) tokens


class View(NamedTuple):
    """What was predicted of a token's path, and from what."""

    contexts: npt.NDArray[np.uint64]  # (contexts,) hashes
    keys: npt.NDArray[np.uint64]  # (lines of a path, contexts)
    slots: npt.NDArray[np.uint32]  # (levels, contexts)
    lines: Ints  # (lines of a path, contexts) -1: none
    maps: Ints  # (levels, contexts) where the lower knot is in the flattened map
    between: Floats  # (levels,) how far from the lower knot to the upper
    inputs: Floats  # (levels, INPUTS)
    rows: Ints  # (levels, SETS) of the weights
    right: Floats  # (levels,) P(second half); 1 or 0 where there is but one half


class Mixture:
    def __init__(self, tokenizer: Tokenizer, table_bits: int, lengths: Sequence[int]) -> None:
        """`lengths`: the tokens of each text; what one of them teaches serves all."""
        tree = plant_tree([piece.data for piece in tokenizer.pieces()])
        self.order = tree.order
        self.levels = tree.levels
        self._tree = tree
        self._spellings = spell(tokenizer)
        self._texts = [empty_text(length) for length in lengths]
        self._state = _start(tree.levels, table_bits)
        self._view = _empty_view(tree.levels)

    def begin(self, token: int, text: int = 0) -> None:
        reveal(self._texts[text], self._spellings, token)

    def predict(self, row: Row, text: int = 0) -> Floats:
        """(V,) of the model, in order -> (V,) by token."""
        leaves = self.branch(row, 0, 0, self.levels, text)
        return leaves[self._tree.leaf[self._tree.place]]

    def branch(self, row: Row, level: int, node: int, depth: int, text: int = 0) -> Floats:
        """(2^depth,) probabilities of the nodes so many levels below a node, given that the token is in it.

        `level` is one at which lines of the table begin.
        """
        known = self._tree.place, self._texts[text], self._spellings, self._state
        return _branch(row, level, node, depth, *known, self._view)

    def learn(self, rows: npt.NDArray[np.float32], tokens: npt.NDArray[np.integer], text: int = 0) -> Floats:
        nats = np.empty(len(tokens))
        known = self._tree.place, self._texts[text], self._spellings, self._state
        _learn(rows, tokens.astype(np.int64), self._tree.leaf, nats, *known, self._view)
        return nats

    def leaf(self, token: int) -> int:
        """The number of a token's node on the last level."""
        return int(self._tree.leaf[self._tree.place[token]])

    def token(self, leaf: int) -> int:
        return int(self.order[np.searchsorted(self._tree.leaf, leaf)])


def _start(levels: int, table_bits: int) -> State:
    state_map = np.empty((levels, CONTEXTS, STATES, KNOTS, 2), np.float32)
    # The model's odds times the state's own.
    state_map[..., 0] = 1 / (1 + np.exp(-ODDS[:, None] - np.linspace(-REACH, REACH, KNOTS)))
    state_map[..., 1] = 1.0
    weights = np.zeros((levels * (1 + FAMILIARITIES + CLASSES + 1) + (1 << TOP_LEVELS), INPUTS))
    weights[:, 0] = 1.0  # the model alone
    repeat = np.zeros((LENGTHS, 2))
    repeat[:, 0] = np.minimum(np.arange(LENGTHS) / SHORTEST / 4, 0.97)
    table = np.zeros((1 << table_bits, LINE_SLOTS), np.uint32)
    return State(table, state_map.reshape(-1), weights, repeat, np.zeros(1, np.int64))


def _empty_view(levels: int) -> View:
    return View(
        np.zeros(CONTEXTS, np.uint64),
        np.zeros((-(-levels // LEVELS), CONTEXTS), np.uint64),
        np.zeros((levels, CONTEXTS), np.uint32),
        np.zeros((-(-levels // LEVELS), CONTEXTS), np.int64),
        np.zeros((levels, CONTEXTS), np.int64),
        np.zeros(levels),
        np.zeros((levels, INPUTS)),
        np.zeros((levels, SETS), np.int64),
        np.zeros(levels),
    )


@njit(nogil=True)
def _learn(
    rows: npt.NDArray[np.float32],
    tokens: Ints,
    leaf: Ints,
    nats: Floats,
    place: Ints,
    text: Text,
    spellings: Spellings,
    state: State,
    view: View,
) -> None:
    levels = len(view.right)
    for number, token in enumerate(tokens):
        row = rows[number]
        here = _look_around(row, place, text, spellings, state, view)
        end = leaf[place[token]]
        chance = 1.0
        for level in range(levels):
            right = _look(row, level, end >> (levels - level), here, state, view)
            chance *= right if end >> (levels - level - 1) & 1 else 1 - right
        nats[number] = -math.log(chance)
        _update(end, state, view)
        _update_repeat(here, place[token], state)
        state.learned[0] += 1
        reveal(text, spellings, token)


@njit(nogil=True)
def _branch(
    row: Row,
    level: int,
    node: int,
    depth: int,
    place: Ints,
    text: Text,
    spellings: Spellings,
    state: State,
    view: View,
) -> Floats:
    """Each node on the way is looked at once, in the order of a walk through the tree."""
    here = _look_around(row, place, text, spellings, state, view)
    chances = np.ones((depth + 1, 1 << depth))
    for end in range(1 << depth):
        for step in range(depth):
            below = depth - step  # levels between this node and the end
            if end & ((1 << below) - 1) == 0:
                _look(row, level + step, (node << step) + (end >> below), here, state, view)
            right = view.right[level + step]
            chances[step + 1, end] = chances[step, end] * (right if end >> (below - 1) & 1 else 1 - right)
    return chances[depth]


class Here(NamedTuple):
    """What is known before a token."""

    klass: int  # of the last byte
    repeated: int  # the place of the token that followed the text that repeats; -1: none
    length: int  # its bucket, below LENGTHS
    odds: float  # that it comes again


@njit
def _look_around(row: Row, place: Ints, text: Text, spellings: Spellings, state: State, view: View) -> Here:
    klass = spellings.klass[np.int64(text.here[0].byte)]
    hash_contexts(text, klass, row.argmax(), view.contexts)
    length = text.here[0].repeat_length
    if length == 0:
        return Here(klass, -1, 0, 0.0)
    if length >= 16:
        length = min(16 + (length - 16) // 8, LENGTHS - 1)
    chance = state.repeat[length, 0]
    return Here(klass, place[text.history[text.here[0].repeat_from]], length, math.log(chance / (1 - chance)))


@njit
def _look(row: Row, level: int, node: int, here: Here, state: State, view: View) -> float:
    """P(second half) of a node, by all that is known; what it comes from goes to the view."""
    vocab_size = len(row)
    low = node * vocab_size >> level
    middle = (2 * node + 1) * vocab_size >> (level + 1)
    high = (node + 1) * vocab_size >> level
    depth = level % LEVELS
    line_number = level // LEVELS
    if depth == 0:
        for context in range(CONTEXTS):
            key = mix_bits(view.contexts[context] + np.uint64((1 << level) + node) * HASH_A)
            view.keys[line_number, context] = key
            view.lines[line_number, context] = find_line(state.table, key)
    if low == middle or middle == high:
        view.right[level] = 1.0 if low == middle else 0.0
        return view.right[level]
    model = math.log((_sum(row[middle:high]) + LEAST) / (_sum(row[low:middle]) + LEAST))
    model = min(max(model, -EDGE), EDGE)
    at = (min(max(model, -REACH), REACH - 1e-9) + REACH) * ((KNOTS - 1) / (2 * REACH))
    knot = int(at)
    between = at - knot
    view.between[level] = between
    inputs = view.inputs[level]
    inputs[0] = model
    inputs[1] = 0.3
    inputs[2] = 0.0
    is_repeat = low <= here.repeated < high
    if is_repeat:
        inputs[2] = here.odds if here.repeated >= middle else -here.odds
    local = (1 << depth) | (node & ((1 << depth) - 1))
    familiar = 0
    for context in range(CONTEXTS):
        line = view.lines[line_number, context]
        slot = state.table[line, local] if line >= 0 else np.uint32(0)
        view.slots[level, context] = slot
        if slot == 0:
            inputs[3 + context] = 0.0
            inputs[3 + CONTEXTS + context] = 0.0
            inputs[3 + 2 * CONTEXTS + context] = 0.0
            continue
        seen = np.int64(slot >> BELIEF_BITS)
        mapped = (((level * CONTEXTS + context) * STATES + seen) * KNOTS + knot) * 2
        view.maps[level, context] = mapped
        chance = state.map[mapped] * (1 - between) + state.map[mapped + 2] * between
        inputs[3 + context] = min(max(_stretch(chance) - model, -REACH), REACH)
        inputs[3 + CONTEXTS + context] = (read_belief(slot) - 0.5) * TRUST[seen]
        inputs[3 + 2 * CONTEXTS + context] = SURE[seen]
        if context < ORDERS:
            familiar += 1
    levels = len(view.right)
    rows = view.rows[level]
    rows[0] = level
    rows[1] = levels * (1 + 2 * familiar + is_repeat) + level
    rows[2] = levels * (1 + FAMILIARITIES + here.klass) + level
    rows[3] = levels * (1 + FAMILIARITIES + CLASSES)
    rows[3] += (1 << level) - 1 + node if level < TOP_LEVELS else (1 << TOP_LEVELS) + level
    margin = 0.0
    for row_number in range(SETS):
        margin += _dot(state.weights[rows[row_number]], inputs)
    margin = min(max(margin / SETS, -EDGE), EDGE)
    view.right[level] = 1 / (1 + math.exp(-margin))
    return view.right[level]


@njit
def _update(end: int, state: State, view: View) -> None:
    """Of a path's nodes. Each has a depth and weights of its own: no entry is written twice."""
    levels = len(view.right)
    rate = RATE_FLOOR + (RATE - RATE_FLOOR) / (1 + state.learned[0] / RATE_TOKENS)
    for level in range(levels):
        right = view.right[level]
        if right == 0.0 or right == 1.0:
            continue
        bit = end >> (levels - level - 1) & 1
        error = rate * (bit - right)
        for row in view.rows[level]:
            _add_scaled(error, view.inputs[level], state.weights[row])
        between = view.between[level]
        for context in range(CONTEXTS):
            if view.slots[level, context] > 0:
                at = view.maps[level, context]
                _update_map(state.map, at, bit, 1 - between)
                _update_map(state.map, at + 2, bit, between)
    for number in range(len(view.keys)):
        for context in range(CONTEXTS):
            line = take_line(state.table, view.keys[number, context])
            for level in range(number * LEVELS, min((number + 1) * LEVELS, levels)):
                depth = level - number * LEVELS
                local = (1 << depth) | (end >> (levels - level) & ((1 << depth) - 1))
                bit = end >> (levels - level - 1) & 1
                state.table[line, local] = learn_slot(view.slots[level, context], bit)


@njit
def _update_map(state_map: npt.NDArray[np.float32], at: int, bit: int, share: float) -> None:
    seen = np.float64(state_map[at + 1])
    value = np.float64(state_map[at])
    value += (bit - value) * share / (seen + 1.5)
    state_map[at] = min(max(value, 0.0003), 0.9997)
    state_map[at + 1] = min(seen + share, MOST_SEEN)


@njit
def _update_repeat(here: Here, place: int, state: State) -> None:
    if here.repeated < 0:
        return
    entry = state.repeat[here.length]
    entry[1] = min(entry[1] + 1, MOST_SEEN)
    entry[0] += ((here.repeated == place) - entry[0]) / (entry[1] + 8)
    entry[0] = min(max(entry[0], 0.01), 0.999)


@njit
def _stretch(chance: float) -> float:
    """ln(p / (1 - p)), by the table."""
    at = chance * STRETCHED
    knot = int(at)
    return STRETCH[knot] + (STRETCH[knot + 1] - STRETCH[knot]) * (at - knot)


@njit(fastmath={"reassoc", "contract"})
def _sum(values: Row) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


@njit(fastmath={"reassoc", "contract"})
def _dot(weights: Floats, inputs: Floats) -> float:
    total = 0.0
    for number in range(len(inputs)):
        total += weights[number] * inputs[number]
    return total


@njit
def _add_scaled(scale: float, inputs: Floats, weights: Floats) -> None:
    for number in range(len(inputs)):
        weights[number] += scale * inputs[number]
