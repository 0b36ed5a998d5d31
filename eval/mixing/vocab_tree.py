"""The vocabulary as a binary tree: a token is a path of yes-or-no questions, which counters of bits can predict.

Tokens are sorted by a key, so that a subtree is a range of tokens with similar keys, and what was learned of one helps
its neighbours (spelling did better than ids, and than the embedding's main axes). Level d cuts the row of V tokens
into 2^d ranges, [kV/2^d, (k+1)V/2^d); a node of level d is such a range of at least two tokens, and its question is
whether the token is in the second half. So any vocabulary has its tree, every path is ⌈log2 V⌉ questions or one fewer,
and V - 1 answers are one normalised distribution.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LEAST = 1e-13  # of a subtree's probability: keeps the log-odds of two empty halves finite


class Tree:
    """Nodes are numbered level by level from the root, 0; `low, middle, high` are their ranges, `depth` the levels."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.vocab_size = vocab_size = len(keys)
        self.order = np.array(sorted(range(vocab_size), key=lambda token: (keys[token], token)), np.int64)
        self.place = np.empty(vocab_size, np.int64)  # of a token in the order
        self.place[self.order] = np.arange(vocab_size)
        self.levels = (vocab_size - 1).bit_length()
        number = np.full(2 << self.levels, -1, np.int64)  # of the node at each place of a full tree
        parts: list[Ints] = []
        for level in range(self.levels):
            cuts = (np.arange((2 << level) + 1) * vocab_size) >> (level + 1)
            low, middle, high = cuts[:-2:2], cuts[1::2], cuts[2::2]
            inner = np.flatnonzero(high - low > 1)
            number[(1 << level) - 1 + inner] = sum(part.shape[1] for part in parts) + np.arange(len(inner))
            parts.append(np.stack([low, middle, high, np.full_like(low, level)])[:, inner])
        self.low, self.middle, self.high, self.depth = np.concatenate(parts, 1)
        self.path, self.answer = self._paths(number)
        self.length = (self.path >= 0).sum(1)

    def _paths(self, number: Ints) -> tuple[Ints, Ints]:
        """(V, levels) nodes and (V, levels) answers, -1 beyond a path's end."""
        path, answer = np.full((2, self.vocab_size, self.levels), -1, np.int64)
        at = np.zeros(self.vocab_size, np.int64)  # in the full tree; only the last level may be missing
        for level in range(self.levels):
            node = number[at]
            right = self.place >= self.middle[node]
            path[:, level] = node
            answer[:, level] = np.where(node >= 0, right, -1)
            at = 2 * at + 1 + right
        return path, answer

    def log_odds(self, probabilities: Floats, nodes: Ints) -> Floats:
        """(V,) of the tokens, (n,) nodes -> (n,) log-odds that the token is in the second half of a node it is in."""
        before = np.zeros(self.vocab_size + 1)  # the probability before each place
        np.cumsum(probabilities[self.order], out=before[1:])
        middle = before[self.middle[nodes]]
        right = before[self.high[nodes]] - middle
        left = middle - before[self.low[nodes]]
        odds: Floats = np.log((right + LEAST) / (left + LEAST))
        return odds

    def distribution(self, right: Floats) -> Floats:
        """(V - 1,) P(second half) of every node -> (V,) probabilities of the tokens."""
        ways = np.concatenate([1 - right, right, [1.0]])  # the last: what needs no question is certain
        index = np.where(self.path >= 0, self.path + self.answer * len(right), len(ways) - 1)
        probabilities: Floats = ways[index].prod(1)
        return probabilities
