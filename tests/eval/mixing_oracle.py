"""eval.mixing once more, in plain Python and numpy: what the compiled code is checked against. Slow, and short.

    nats = Oracle(tokenizer, table_bits, tree).cost(row, token)        row: (V,) the model's probabilities by token

It shares the tables of constants, and nothing that is compiled.
"""

import math

import numpy as np

from data.tokenizer import Tokenizer
from eval.mixing import memory, text
from eval.mixing import node as nodes
from eval.mixing.tree import plant_trees

MASK = (1 << 64) - 1
MULTIPLY = int(text.MULTIPLIER)
STATE = int(memory.BELIEF_BITS)  # where a slot's state begins


def mix_bits(key: int) -> int:
    key = (key ^ key >> 32) * MULTIPLY & MASK
    return key ^ key >> 29


def belief(slot: int) -> float:
    return (slot & memory.BELIEF_UNIT) / memory.BELIEF_UNIT if slot else 0.5


class OracleText:
    def __init__(self, spellings: text.Spellings) -> None:
        self.spellings = spellings
        self.history: list[int] = []
        self.documents = 0
        self.places: dict[int, int] = {}
        self.repeat_from = self.repeat_length = 0
        self.begin_document()

    def begin_document(self) -> None:
        self.words = [0, 0, 0]  # hashes of this word and the two before
        self.shapes = self.byte = self.pending = 0
        self.lines: list[list[int]] = [[], []]  # the token over each column of the line above and of this one
        self.firsts = [0, 0]  # the first token of each, plus one
        self.in_line = 0

    def reveal(self, token: int) -> None:
        if token == self.spellings.bos:
            self.documents += 1
            self.begin_document()
        self.follow(token)
        self.shapes = (self.shapes << 16 | int(self.spellings.shape[token])) & MASK
        begin, end = self.spellings.start[token : token + 2]
        self.pending = token + 1 if begin == end else 0
        for byte in self.spellings.bytes[begin:end].tolist():
            self.byte = byte
            letter = chr(byte).lower() if byte < 128 else chr(byte)
            if letter.isalnum() or byte > 127 or letter == "_":
                self.words[0] = (self.words[0] + ord(letter)) * MULTIPLY & MASK
            elif self.words[0]:
                self.words = [0, *self.words[:2]]
            if byte == 10:
                self.lines = [self.lines[1], []]
                self.firsts = [self.firsts[1], 0]
                self.in_line = 0
            else:
                self.lines[1].append(token)
        if self.lines[1]:
            self.firsts[1] = self.firsts[1] or token + 1
            self.in_line += 1

    def follow(self, token: int) -> None:
        if self.repeat_length and self.history[self.repeat_from] == token:
            self.repeat_length += 1
            self.repeat_from += 1
        else:
            self.repeat_length = 0
        self.history.append(token)
        if len(self.history) < text.SHORTEST:
            return
        key = 0
        for last in self.history[-text.SHORTEST :]:
            key = (key + last + 1) * MULTIPLY & MASK
            key ^= key >> 29
        before = self.places.get(key % text.PLACES, 0)
        self.places[key % text.PLACES] = len(self.history)
        if not self.repeat_length and before:
            same = 0
            while same < min(text.LONGEST, before) and self.history[before - 1 - same] == self.history[-1 - same]:
                same += 1
            if same >= text.SHORTEST:
                self.repeat_from, self.repeat_length = before, same

    @property
    def klass(self) -> int:
        return int(self.spellings.klass[self.byte])

    def contexts(self, guess: int) -> list[int]:
        above, column = self.lines[0], len(self.lines[1])
        values = [token + 1 for token in self.history[:-7:-1]]
        values += [0] * (6 - len(values))
        values += [
            self.words[0] + self.pending * int(text.HASH_A),
            self.byte,
            *self.words[1:],
            self.firsts[1],
            self.firsts[0],
        ]
        values += [min(self.in_line, 3), above[column] + 1 if column < min(len(above), text.COLUMNS) else 0, column]
        values += [self.klass, self.shapes, self.documents, guess]
        hashes = []
        for context in range(len(text.SEES)):
            key = context
            for feature in text.SEEN[text.SEEN_FROM[context] : text.SEEN_FROM[context + 1]].tolist():
                key = mix_bits((key + (values[feature] + 1) * (2 * feature + 1)) & MASK)
            hashes.append(mix_bits(key))
        return hashes


class Oracle:
    def __init__(self, tokenizer: Tokenizer, table_bits: int, tree: int) -> None:
        self.tree = plant_trees(tokenizer, tree + 1)[tree]
        self.text = OracleText(text.spell(tokenizer))
        self.table = [[0] * memory.LINE_SLOTS for _ in range(1 << table_bits)]
        levels, contexts = self.tree.levels, len(text.SEES)
        start = 1 / (1 + np.exp(-memory.ODDS[:, None] - np.linspace(-nodes.REACH, nodes.REACH, nodes.KNOTS)))
        self.map = np.broadcast_to(start, (levels, contexts, *start.shape)).astype(np.float32)
        self.seen = np.ones(self.map.shape, np.float32)
        self.weights: dict[tuple[str, int, int], np.ndarray] = {}
        self.repeat = [[min(length / text.SHORTEST / 4, 0.97), 0.0] for length in range(nodes.LENGTHS)]
        self.learned = 0

    def cost(self, row: np.ndarray, token: int) -> float:
        """The token's nats; then it is learned."""
        tree = self.tree
        p = np.zeros(1 << tree.levels)
        p[tree.leaf] = row[tree.order]
        hashes = self.text.contexts(int(row[tree.order].argmax()))
        leaf = int(tree.leaf[tree.place[token]])
        length = self.text.repeat_length
        length = length if length < 16 else min(16 + (length - 16) // 8, nodes.LENGTHS - 1)
        repeated = int(tree.leaf[tree.place[self.text.history[self.text.repeat_from]]]) if length else None
        nats = 0.0
        updates = []
        for level in range(tree.levels):
            node, bit = leaf >> (tree.levels - level), leaf >> (tree.levels - level - 1) & 1
            halves = np.split(p.reshape(1 << level, -1)[node], 2)
            holds = [not tree.is_empty[(2 << level) + 2 * node + half] for half in (0, 1)]
            if not all(holds):
                updates.append(None)
                continue
            sums = [half.sum() for half in halves]
            looked = self.look(level, node, sums, hashes, repeated, length)
            right = looked[0]
            nats -= math.log(right if bit else 1 - right)
            updates.append((bit, *looked))
        self.update(leaf, hashes, updates)
        if repeated is not None:
            entry = self.repeat[length]
            entry[1] = min(entry[1] + 1, nodes.MOST_SEEN)
            entry[0] = min(max(entry[0] + ((repeated == leaf) - entry[0]) / (entry[1] + 8), 0.01), 0.999)
        self.learned += 1
        self.text.reveal(token)
        return nats

    def look(self, level: int, node: int, sums: list, hashes: list[int], repeated: int | None, length: int) -> tuple:
        model = math.log((sums[1] + nodes.LEAST) / (sums[0] + nodes.LEAST))
        model = min(max(model, -nodes.EDGE), nodes.EDGE)
        at = (min(max(model, -nodes.REACH), nodes.REACH - 1e-9) + nodes.REACH) * ((nodes.KNOTS - 1) / (2 * nodes.REACH))
        knot, between = int(at), at - int(at)
        odds = 0.0
        is_repeat = repeated is not None and repeated >> (self.tree.levels - level) == node
        if is_repeat:
            chance = self.repeat[length][0]
            odds = math.log(chance / (1 - chance)) * (1 if repeated >> (self.tree.levels - level - 1) & 1 else -1)
        mapped, believed, sure = [], [], []
        slots = [self.slot(key, level, node) for key in hashes]
        for context, slot in enumerate(slots):
            state = slot >> STATE
            if not slot:
                mapped.append(0.0)
                believed.append(0.0)
                sure.append(0.0)
                continue
            low, high = self.map[level, context, state, knot : knot + 2].astype(float)
            chance = low * (1 - between) + high * between
            stretched = np.interp(chance * nodes.STRETCHED, np.arange(nodes.STRETCHED + 1), nodes.STRETCH)
            mapped.append(min(max(stretched - model, -nodes.REACH), nodes.REACH))
            believed.append((belief(slot) - 0.5) * memory.TRUST[state])
            sure.append(memory.SURE[state])
        inputs = np.array([model, 0.3, odds, *mapped, *believed, *sure])
        familiar = 2 * sum(slot > 0 for slot in slots[: text.ORDERS]) + is_repeat
        top = ("top", level, node) if level < nodes.TOP_LEVELS else ("deep", level, 0)
        rows = [("all", level, 0), ("familiar", level, familiar), ("class", level, self.text.klass), top]
        for name in rows:
            self.weights.setdefault(name, np.eye(1, len(inputs))[0])
        margin = sum(float(self.weights[name] @ inputs) for name in rows) / len(rows)
        right = 1 / (1 + math.exp(-min(max(margin, -nodes.EDGE), nodes.EDGE)))
        return right, rows, inputs, slots, knot, between

    def update(self, leaf: int, hashes: list[int], updates: list) -> None:
        rate = nodes.RATE_FLOOR + (nodes.RATE - nodes.RATE_FLOOR) / (1 + self.learned / nodes.RATE_TOKENS)
        for level, looked in enumerate(updates):
            if looked is None:
                continue
            bit, right, rows, inputs, slots, knot, between = looked
            for name in rows:
                self.weights[name] = self.weights[name] + rate * (bit - right) * inputs
            for context, slot in enumerate(slots):
                if not slot:
                    continue
                at = level, context, slot >> STATE
                for place, share in ((knot, 1 - between), (knot + 1, between)):
                    value, seen = float(self.map[at][place]), float(self.seen[at][place])
                    value += (bit - value) * share / (seen + 1.5)
                    self.map[at][place] = min(max(value, 0.0003), 0.9997)
                    self.seen[at][place] = min(seen + share, nodes.MOST_SEEN)
        for first in range(0, self.tree.levels, memory.LEVELS):
            for context, key in enumerate(hashes):
                line = self.take_line(key, first, leaf >> (self.tree.levels - first))
                for level in range(first, min(first + memory.LEVELS, self.tree.levels)):
                    if updates[level] is not None:
                        bit, slot = updates[level][0], updates[level][4][context]
                        state, chance = slot >> STATE, belief(slot)
                        chance += (bit - chance) * memory.RATE[state]
                        after = int(memory.FOLLOWING[bit, state]) << STATE | int(chance * memory.BELIEF_UNIT)
                        line[self.local(level, leaf >> (self.tree.levels - level))] = after

    def local(self, level: int, node: int) -> int:
        depth = level % memory.LEVELS
        return 1 << depth | node & (1 << depth) - 1

    def lines(self, context: int, level: int, node: int) -> tuple[int, list[int]]:
        """The check of a key, and the two lines that can serve it."""
        key = mix_bits((context + ((1 << level) + node) * int(text.HASH_A)) & MASK)
        at = key % len(self.table)
        return key >> 32 | 1, [at, at ^ 1]

    def slot(self, context: int, level: int, node: int) -> int:
        first = level - level % memory.LEVELS
        check, lines = self.lines(context, first, node >> (level - first))
        found = [line for line in lines if self.table[line][0] == check]
        return self.table[found[0]][self.local(level, node)] if found else 0

    def take_line(self, context: int, level: int, node: int) -> list[int]:
        check, lines = self.lines(context, level, node)
        for line in lines:
            if self.table[line][0] == check:
                return self.table[line]

        def knowledge(line: int) -> int:
            check, top = self.table[line][:2]
            return int(memory.COUNT[top >> STATE]) if check else -1

        poorest = min(lines, key=knowledge)  # the first of two that know as much
        self.table[poorest] = [check] + [0] * (memory.LINE_SLOTS - 1)
        return self.table[poorest]
