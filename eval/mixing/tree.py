"""The vocabulary as a binary tree: a token is a path of yes-or-no questions, which counters of bits can predict.

Tokens are sorted by how they are spelled, so that a subtree is a range of places with similar tokens, and what was
learned of one helps its neighbours (spelling did better than ids, and than the embedding's main axes). Level d cuts the
V places into 2^d ranges, [kV/2^d, (k+1)V/2^d); the question of node (d, k) is whether the token is in the second half
of its range. A range of one token asks nothing: any vocabulary has its tree, and the answers are one distribution.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Tree(NamedTuple):
    levels: int
    order: Ints  # (V,) tokens, sorted
    place: Ints  # (V,) of each token in the order
    leaf: Ints  # (V,) of each place: k of its range on level `levels`, which has 2^levels ranges of one token or none


def plant_tree(spellings: Sequence[bytes]) -> Tree:
    vocab_size = len(spellings)
    levels = (vocab_size - 1).bit_length()
    order = np.array(sorted(range(vocab_size), key=lambda token: (spellings[token], token)), np.int64)
    places = np.arange(vocab_size)
    place = np.empty(vocab_size, np.int64)
    place[order] = places
    leaf = -(-((places + 1) << levels) // vocab_size) - 1  # the first range that ends beyond the place
    return Tree(levels, order, place, leaf)
