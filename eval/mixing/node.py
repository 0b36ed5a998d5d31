"""One question of a path: predicted from the model and from what the text has taught, and learned. Compiled.

It follows Mahoney's PAQ. A slot's state (memory.py), with the model's log-odds, is mapped to a probability that is
itself learned; a logistic mixer adds all up, with weights chosen by depth, familiarity, last byte and node. They start
as the model alone, so a short text loses nothing. All nodes of a path are predicted before anything is learned.
"""

from math import exp, log
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eval.mixing.compiled import compiled, compiled_sum
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
from eval.mixing.text import CLASSES, HASH_A, ORDERS, SEES, SHORTEST, Spellings, Text, hash_contexts, mix_bits
from eval.mixing.tree import Tree

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Row = npt.NDArray[np.floating]  # (V,)

CONTEXTS = len(SEES)
RATE = 0.015  # of the mixer's weights, at the text's beginning;
RATE_FLOOR = 0.003  # it falls to this,
RATE_TOKENS = 3000.0  # half way after so many tokens
LENGTHS = 21  # buckets of a repeat's length
KNOTS = 6  # of the model's log-odds, from -REACH to REACH, between which a state's probability is interpolated
REACH = 8.0
MOST_SEEN = 255.0  # after which a state's probability moves at a constant rate
EDGE = 14.0  # log-odds are kept within: no answer is taken for certain
BIAS = 0.3  # an input that is always the same
LEAST = 1e-35  # of a range's probability: keeps the log-odds of two empty halves finite
INPUTS = 3 + 3 * CONTEXTS
SETS = 4  # of weights: by depth and nothing, familiarity and repeat, class; and by node on the top levels
TOP_LEVELS = 7
FAMILIARITIES = 2 * (ORDERS + 1)
STRETCHED = 4096  # intervals of the table of ln(p / (1 - p)): a logarithm for each input would take a fifth of the time
_CHANCES = np.clip(np.arange(STRETCHED + 1) / STRETCHED, 0.5 / STRETCHED, 1 - 0.5 / STRETCHED)
STRETCH = np.log(_CHANCES / (1 - _CHANCES))


class State(NamedTuple):
    """All that is learned, but for the text."""

    table: npt.NDArray[np.uint32]  # eval.mixing.memory
    map: npt.NDArray[np.float32]  # (levels, contexts, STATES, KNOTS, 2) a state's probability, how often it was seen
    weights: Floats  # (rows, INPUTS)
    repeat: Floats  # (LENGTHS, 2) P(a repeat of this length continues), how often it was seen
    learned: Ints  # (1,) tokens


class View(NamedTuple):
    """What was predicted of a token's path, and from what."""

    sums: Floats  # (2 << levels,) the model's probability of each node, by its number
    contexts: npt.NDArray[np.uint64]  # (contexts,) hashes
    keys: npt.NDArray[np.uint64]  # (lines of a path, contexts)
    slots: npt.NDArray[np.uint32]  # (levels, contexts)
    lines: Ints  # (lines of a path, contexts) -1: none
    maps: Ints  # (levels, contexts) where the lower knot is in the flattened map
    between: Floats  # (levels,) how far from the lower knot to the upper
    inputs: Floats  # (levels, INPUTS)
    rows: Ints  # (levels, SETS) of the weights
    right: Floats  # (levels,) P(second half); 1 or 0 where there is but one half


def start_state(levels: int, table_bits: int) -> State:
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


def empty_view(levels: int) -> View:
    return View(
        np.zeros(2 << levels),
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


class Past(NamedTuple):
    """What is known before a token."""

    klass: int  # of the last byte
    repeated: int  # the leaf of the token that followed the text that repeats; -1: none
    length: int  # its bucket, below LENGTHS
    odds: float  # that it comes again


@compiled
def describe_past(row: Row, tree: Tree, text: Text, spellings: Spellings, state: State, view: View) -> Past:
    klass = spellings.klass[np.int64(text.here[0].byte)]
    hash_contexts(text, klass, _sum_up(row, tree, view.sums), view.contexts)
    length = text.here[0].repeat_length
    if length == 0:
        return Past(klass, -1, 0, 0.0)
    if length >= 16:
        length = min(16 + (length - 16) // 8, LENGTHS - 1)
    chance = state.repeat[length, 0]
    repeated = tree.leaf[tree.place[text.history[text.here[0].repeat_from]]]
    return Past(klass, repeated, length, log(chance / (1 - chance)))


@compiled
def _sum_up(row: Row, tree: Tree, sums: Floats) -> int:
    """Fill in every node's probability; the place of the best token."""
    leaves = 1 << tree.levels
    best = 0
    for place in range(len(row)):
        sums[leaves + tree.leaf[place]] = row[place]
        if row[place] > row[best]:
            best = place
    for level in range(tree.levels - 1, -1, -1):
        above, below = sums[1 << level : 2 << level], sums[2 << level : 4 << level]
        for node in range(len(above)):
            above[node] = below[2 * node] + below[2 * node + 1]
    return best


@compiled
def predict_node(level: int, node: int, past: Past, tree: Tree, state: State, view: View) -> float:
    """P(second half) of a node, by all that is known; what it comes from goes to the view."""
    levels = tree.levels
    depth = level % LEVELS
    line_number = level // LEVELS
    if depth == 0:
        for context in range(CONTEXTS):
            key = mix_bits(view.contexts[context] + np.uint64((1 << level) + node) * HASH_A)
            view.keys[line_number, context] = key
            view.lines[line_number, context] = find_line(state.table, key)
    left = (2 << level) + 2 * node
    if tree.is_empty[left] or tree.is_empty[left + 1]:
        right = 1.0 if tree.is_empty[left] else 0.0
        view.right[level] = right
        return right
    model = log((view.sums[left + 1] + LEAST) / (view.sums[left] + LEAST))
    model = min(max(model, -EDGE), EDGE)
    at = (min(max(model, -REACH), REACH - 1e-9) + REACH) * ((KNOTS - 1) / (2 * REACH))
    knot = int(at)
    between = at - knot
    view.between[level] = between
    inputs = view.inputs[level]
    inputs[0] = model
    inputs[1] = BIAS
    inputs[2] = 0.0
    is_repeat = past.repeated >= 0 and past.repeated >> (levels - level) == node
    if is_repeat:
        inputs[2] = past.odds if past.repeated >> (levels - level - 1) & 1 else -past.odds
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
    rows = view.rows[level]
    rows[0] = level
    rows[1] = levels * (1 + 2 * familiar + is_repeat) + level
    rows[2] = levels * (1 + FAMILIARITIES + past.klass) + level
    rows[3] = levels * (1 + FAMILIARITIES + CLASSES)
    rows[3] += (1 << level) - 1 + node if level < TOP_LEVELS else (1 << TOP_LEVELS) + level
    margin = 0.0
    for row_number in range(SETS):
        margin += _dot(state.weights[rows[row_number]], inputs)
    margin = min(max(margin / SETS, -EDGE), EDGE)
    right = 1 / (1 + exp(-margin))
    view.right[level] = right
    return right


@compiled
def learn_path(end: int, state: State, view: View) -> None:
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
                if view.right[level] == 0.0 or view.right[level] == 1.0:
                    continue
                depth = level - number * LEVELS
                local = (1 << depth) | (end >> (levels - level) & ((1 << depth) - 1))
                bit = end >> (levels - level - 1) & 1
                state.table[line, local] = learn_slot(view.slots[level, context], bit)


@compiled
def _update_map(state_map: npt.NDArray[np.float32], at: int, bit: int, share: float) -> None:
    seen = np.float64(state_map[at + 1])
    value = np.float64(state_map[at])
    value += (bit - value) * share / (seen + 1.5)
    state_map[at] = min(max(value, 0.0003), 0.9997)
    state_map[at + 1] = min(seen + share, MOST_SEEN)


@compiled
def learn_repeat(past: Past, leaf: int, state: State) -> None:
    if past.repeated < 0:
        return
    entry = state.repeat[past.length]
    entry[1] = min(entry[1] + 1, MOST_SEEN)
    entry[0] += ((past.repeated == leaf) - entry[0]) / (entry[1] + 8)
    entry[0] = min(max(entry[0], 0.01), 0.999)


@compiled
def _stretch(chance: float) -> float:
    """ln(p / (1 - p)), by the table."""
    at = chance * STRETCHED
    knot = int(at)
    log_odds: float = STRETCH[knot] + (STRETCH[knot + 1] - STRETCH[knot]) * (at - knot)
    return log_odds


@compiled_sum
def _dot(weights: Floats, inputs: Floats) -> float:
    total = 0.0
    for number in range(len(inputs)):
        total += weights[number] * inputs[number]
    return total


@compiled
def _add_scaled(scale: float, inputs: Floats, weights: Floats) -> None:
    for number in range(len(inputs)):
        weights[number] += scale * inputs[number]
