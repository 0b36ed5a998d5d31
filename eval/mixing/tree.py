"""The vocabulary as a binary tree: a token is a path of yes-or-no questions, which counters of bits can predict.

Tokens are sorted by how they are spelled, so that a subtree is a range of places with similar tokens, and what was
learned of one helps its neighbours (spelling did better than ids, and than the embedding's main axes). Level d cuts the
V places into 2^d ranges, [kV/2^d, (k+1)V/2^d); node (d, k) is number 2^d + k, and its question is whether the token is
in the second half of its range. On the last level each range has one token or none, and a node with an empty half asks
nothing: any vocabulary has its tree, and the answers are one distribution.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.tokenizer import Tokenizer

Ints = npt.NDArray[np.int64]


class Tree(NamedTuple):
    levels: int
    order: Ints  # (V,) tokens, sorted
    place: Ints  # (V,) of each token in the order
    leaf: Ints  # (V,) of each place: k of its range on the last level, `levels`
    is_empty: npt.NDArray[np.bool_]  # (2 << levels,) of each node's number

    def token(self, leaf: int) -> int:
        if self.is_empty[(1 << self.levels) + leaf]:
            raise ValueError(f"leaf {leaf} has no token")
        return int(self.order[np.searchsorted(self.leaf, leaf)])


def plant_trees(tokenizer: Tokenizer, trees: int) -> list[Tree]:
    """The first is sorted by how tokens begin; the second by how they end, those that begin with a space apart."""
    spellings = [piece.data for piece in tokenizer.pieces()]
    ends = [bytes([spelling.startswith(b" ")]) + spelling[::-1] for spelling in spellings]
    return [plant_tree(keys) for keys in (spellings, ends)[:trees]]


def plant_tree(keys: Sequence[bytes]) -> Tree:
    vocab_size = len(keys)
    levels = (vocab_size - 1).bit_length()
    order = np.array(sorted(range(vocab_size), key=lambda token: (keys[token], token)), np.int64)
    places = np.arange(vocab_size)
    place = np.empty(vocab_size, np.int64)
    place[order] = places
    leaf = -(-((places + 1) << levels) // vocab_size) - 1  # the first range that ends beyond the place
    is_empty = np.ones(2 << levels, np.bool_)
    for level in range(levels + 1):
        is_empty[(1 << level) + (leaf >> (levels - level))] = False
    return Tree(levels, order, place, leaf, is_empty)
