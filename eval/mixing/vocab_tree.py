"""The vocabulary as a binary tree: a token is a path of yes-or-no questions, so that counters of bits can forecast it.

Tokens stand in the order of their names, so that a subtree is a range of tokens that are named alike, and what was
learned of one helps its neighbours (spelling did better than ids, and than the embedding's main axes). Level d cuts the
row of V tokens into 2^d ranges, [kV/2^d, (k+1)V/2^d); a node of level d is such a range of at least two tokens, and
asks whether the token is in the second half. So any vocabulary has its tree, every path is ⌈log2 V⌉ questions or one
fewer, and V - 1 answers are one normalised distribution.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LEAST = 1e-13  # of a subtree's probability: keeps the log-odds of two empty halves finite


class Tree:
    """Nodes are numbered level by level: 0 is the root, `low, middle, high` their ranges, `depth` their levels."""

    def __init__(self, names: Sequence[bytes]) -> None:
        self.vocab_size = vocab_size = len(names)
        if vocab_size < 2:
            raise ValueError(f"a vocabulary of {vocab_size}: there is nothing to ask")
        self.order = np.array(sorted(range(vocab_size), key=lambda token: (names[token], token)), np.int64)
        self.place = np.empty(vocab_size, np.int64)  # of a token in the order
        self.place[self.order] = np.arange(vocab_size)
        self.levels = (vocab_size - 1).bit_length()
        number = np.full(2 << self.levels, -1, np.int64)  # of the node at each place of a full tree
        parts: list[Ints] = []
        for level in range(self.levels):
            cuts = (np.arange((2 << level) + 1) * vocab_size) >> (level + 1)
            low, middle, high = cuts[:-2:2], cuts[1::2], cuts[2::2]
            asked = np.flatnonzero(high - low > 1)
            number[(1 << level) - 1 + asked] = sum(part.shape[1] for part in parts) + np.arange(len(asked))
            parts.append(np.stack([low, middle, high, np.full_like(low, level)])[:, asked])
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

    def cumulative(self, probabilities: Floats) -> Floats:
        """(V,) -> (V + 1,) the probability before each place: all that `log_odds` needs."""
        sums = np.zeros(self.vocab_size + 1)
        np.cumsum(probabilities[self.order], out=sums[1:])
        return sums

    def log_odds(self, cumulative: Floats, nodes: Ints) -> Floats:
        """(n,) nodes -> (n,) log-odds that the token is in the second half, given that it is in the node."""
        middle = cumulative[self.middle[nodes]]
        right, left = cumulative[self.high[nodes]] - middle, middle - cumulative[self.low[nodes]]
        odds: Floats = np.log((right + LEAST) / (left + LEAST))
        return odds

    def distribution(self, right: Floats) -> Floats:
        """(V - 1,) P(second half) of every node -> (V,) probabilities of the tokens."""
        ways = np.concatenate([1 - right, right, [1.0]])  # the last: what is not asked is certain
        index = np.where(self.path >= 0, self.path + self.answer * len(right), len(ways) - 1)
        probabilities: Floats = ways[index].prod(1)
        return probabilities
