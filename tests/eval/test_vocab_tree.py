"""eval.mixing.vocab_tree: every vocabulary has its tree, and V - 1 answers are one distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.mixing.vocab_tree import Tree


def spellings(vocab_size: int, seed: int = 0) -> list[bytes]:
    draw = np.random.default_rng(seed)
    return [draw.integers(97, 100, draw.integers(0, 5), np.uint8).tobytes() for _ in range(vocab_size)]  # some alike


@given(st.integers(2, 300), st.integers(0, 3))
def test_paths_lead_from_the_root_to_each_token_and_to_it_alone(vocab_size: int, seed: int) -> None:
    tree = Tree(spellings(vocab_size, seed))
    assert len(tree.low) == len(tree.middle) == len(tree.high) == len(tree.depth) == vocab_size - 1
    assert set(tree.length.tolist()) <= {tree.levels, tree.levels - 1}
    for token in range(vocab_size):
        low, high = 0, vocab_size
        for step, (node, answer) in enumerate(zip(tree.path[token], tree.answer[token], strict=True)):
            if step >= tree.length[token]:
                assert node == answer == -1
                continue
            assert (tree.low[node], tree.high[node], tree.depth[node]) == (low, high, step)
            assert low < tree.middle[node] < high
            low, high = (int(tree.middle[node]), high) if answer else (low, int(tree.middle[node]))
        assert (low, high) == (tree.place[token], tree.place[token] + 1)


@given(st.integers(2, 300), st.integers(0, 3))
def test_a_distribution_goes_through_the_tree_unchanged(vocab_size: int, seed: int) -> None:
    tree = Tree(spellings(vocab_size, seed))
    p = np.random.default_rng(seed).dirichlet(np.ones(vocab_size))
    odds = tree.log_odds(p, np.arange(vocab_size - 1))
    assert tree.distribution(1 / (1 + np.exp(-odds))) == pytest.approx(p, rel=1e-6, abs=1e-12)
    any_answers = np.random.default_rng(vocab_size).random(vocab_size - 1)
    assert tree.distribution(any_answers).sum() == pytest.approx(1, abs=1e-12)


def test_neighbours_are_spelled_alike() -> None:
    words = [b"the", b"a", b"then", b"an", b" the"]
    tree = Tree(words)
    assert [words[token] for token in tree.order] == [b" the", b"a", b"an", b"the", b"then"]
