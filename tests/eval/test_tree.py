"""eval.mixing.tree: every vocabulary has its tree, and each token a leaf of its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.mixing.tree import plant_tree


@given(st.integers(2, 300), st.integers(0, 3))
def test_each_token_has_a_leaf_in_the_range_of_its_place(vocab_size: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    tree = plant_tree([draw.integers(97, 100, draw.integers(0, 5), np.uint8).tobytes() for _ in range(vocab_size)])
    assert 1 << tree.levels >= vocab_size > 1 << tree.levels >> 1
    leaves = tree.leaf[tree.place]  # by token
    assert sorted(leaves.tolist()) == tree.leaf.tolist()
    assert [tree.token(leaf) for leaf in leaves.tolist()] == list(range(vocab_size))
    for level in range(tree.levels + 1):
        node = tree.leaf >> (tree.levels - level)
        places = np.arange(vocab_size)
        assert (node * vocab_size >> level <= places).all()
        assert (places < (node + 1) * vocab_size >> level).all()
        is_empty = tree.is_empty[1 << level : 2 << level]
        assert np.flatnonzero(~is_empty).tolist() == sorted(set(node.tolist()))


def test_a_leaf_without_a_token_is_refused() -> None:
    tree = plant_tree([b"a", b"b", b"c"])
    empty = sorted(set(range(4)) - set(tree.leaf.tolist()))
    with pytest.raises(ValueError, match="has no token"):
        tree.token(empty[0])


def test_neighbours_are_spelled_alike() -> None:
    words = [b"the", b"a", b"then", b"an", b" the"]
    assert [words[token] for token in plant_tree(words).order] == [b" the", b"a", b"an", b"the", b"then"]
