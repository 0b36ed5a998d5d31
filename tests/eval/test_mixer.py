"""eval.mixing.mixer: the oracle's costs, normalised, and no worse than the model where a text teaches nothing."""

import numpy as np
import pytest

from data.tokenizer import ByteTokenizer, SentencePieceTokenizer, Tokenizer
from eval.mixing.mixer import Mixture, TreeMixture
from eval.mixing.text import spell
from eval.mixing.tree import plant_trees
from eval.range_coder import TOTAL, frequencies
from tests.conftest import make_text
from tests.eval.mixing_oracle import Oracle

BITS = 16  # of the tables
BYTES = ByteTokenizer()


def rows(count: int, vocab_size: int, seed: int = 0, spread: float = 2.0) -> np.ndarray:
    """(count, V) probabilities by token."""
    logits = np.random.default_rng(seed).normal(0, spread, (count, vocab_size))
    p = np.exp(logits)
    return (p / p.sum(-1, keepdims=True)).astype(np.float32)


def costs(tokenizer: Tokenizer, tokens: np.ndarray, given: np.ndarray, bits: int = BITS, trees: int = 1) -> np.ndarray:
    mixture = Mixture(tokenizer, bits, len(tokens), trees)
    mixture.begin(int(tokens[0]))
    return mixture.learn(given[:, mixture.order], tokens[1:])


def oracle_costs(tokenizer: Tokenizer, tokens: np.ndarray, given: np.ndarray, bits: int, tree: int) -> np.ndarray:
    oracle = Oracle(tokenizer, bits, tree)
    oracle.text.reveal(int(tokens[0]))
    return np.array([oracle.cost(row, int(token)) for row, token in zip(given, tokens[1:], strict=True)])


def stream(tokenizer: Tokenizer, count: int) -> np.ndarray:
    """Documents with every kind of token, which repeat one another."""
    odd = [tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id]
    texts = [tokenizer.encode(make_text(seed % 3, 60) + "\nA1 | b2\n\nA1 | c3\n") for seed in range(1 + count // 100)]
    return np.concatenate([part for ids in texts for part in ([tokenizer.bos_id], ids, odd)])[: count + 1]


def test_costs_are_the_oracles(tokenizer: SentencePieceTokenizer) -> None:
    for made, bits in ((BYTES, 12), (tokenizer, 9)):  # so few lines that they give way to one another
        tokens = stream(made, 300)
        given = rows(len(tokens) - 1, made.vocab_size)
        for tree in (0, 1):
            wanted = oracle_costs(made, tokens, given, bits, tree)
            mixture = Mixture(made, bits, len(tokens), 2)._members[tree]
            mixture.begin(int(tokens[0]))
            np.testing.assert_allclose(mixture.learn(given[:, mixture.tree.order], tokens[1:]), wanted, atol=1e-9)


def test_predictions_add_up_to_one_and_are_what_a_token_costs(tokenizer: SentencePieceTokenizer) -> None:
    for made, trees in ((BYTES, 1), (tokenizer, 2)):
        tokens = stream(made, 200)
        given = rows(len(tokens) - 1, made.vocab_size)
        mixture = Mixture(made, BITS, len(tokens), trees)
        mixture.begin(int(tokens[0]))
        found = []
        for row, token in zip(given[:, mixture.order], tokens[1:], strict=True):
            p = mixture.predict(row)
            assert p.shape == (made.vocab_size,)
            assert (p > 0).all()
            assert abs(p.sum() - 1) < 1e-9
            found += mixture.learn(row[None], np.array([token])).tolist()
            assert found[-1] == pytest.approx(-np.log(p[token]), abs=1e-9)
        assert found == costs(made, tokens, given, trees=trees).tolist()  # to predict changes nothing


def test_steps_down_the_tree_are_its_predictions(tokenizer: SentencePieceTokenizer) -> None:
    mixture = Mixture(tokenizer, BITS, 50, 1)._members[0]
    mixture.begin(tokenizer.bos_id)
    given = rows(40, tokenizer.vocab_size)[:, mixture.tree.order]
    mixture.learn(given[:39], tokenizer.encode(make_text(0, 60))[:39])
    p = mixture.predict(given[39])
    for token in (0, 100, tokenizer.vocab_size - 1):
        leaf = int(mixture.tree.leaf[mixture.tree.place[token]])
        node, chance = 0, 1.0
        for level in range(0, mixture.tree.levels, 3):
            depth = min(3, mixture.tree.levels - level)
            step = leaf >> (mixture.tree.levels - level - depth) & ((1 << depth) - 1)
            below = mixture.branch(given[39], level, node, depth)
            assert mixture.count(TOTAL, given[39], level, node, depth).tolist() == frequencies(below).tolist()
            chance *= below[step]
            node = (node << depth) + step
        assert mixture.tree.token(node) == token
        assert chance == pytest.approx(p[token], rel=1e-12)


def test_it_begins_as_the_model_and_text_that_teaches_nothing_costs_little_more() -> None:
    given = rows(1500, 260, spread=1.0)
    mixture = Mixture(BYTES, BITS, 2, 2)
    mixture.begin(1)
    assert np.abs(np.log(mixture.predict(given[0, mixture.order]) / given[0])).max() < 1e-4
    draw = np.random.default_rng(0)
    tokens = np.array([1, *(draw.choice(260, p=row / row.astype(float).sum()) for row in given.astype(float))])
    alone = -np.log(given[np.arange(1500), tokens[1:]]).sum()
    assert costs(BYTES, tokens, given).sum() < alone * 1.02


def test_what_one_text_teaches_serves_the_others() -> None:
    tokens = BYTES.encode("what one text teaches serves the others").astype(np.int64)
    given = rows(len(tokens), 260)
    mixture = TreeMixture(plant_trees(BYTES, 1)[0], spell(BYTES), BITS, [len(tokens) + 1] * 2)
    for text in (0, 1):
        mixture.begin(1, text)
    first, second = (mixture.learn(given[:, mixture.tree.order], tokens, text).sum() for text in (0, 1))
    assert second < 0.5 * first


def test_a_model_that_rules_a_token_out_is_overruled() -> None:
    row = np.zeros((1, 260), np.float32)
    row[0, 100] = 1.0
    cost = costs(BYTES, np.array([1, 101]), row)
    assert np.isfinite(cost).all()
    assert cost[0] > 10


def test_a_model_without_numbers_gives_none() -> None:
    row = np.full((1, 260), np.nan, np.float32)
    assert np.isnan(costs(BYTES, np.array([1, 101, 102]), np.repeat(row, 2, 0))).all()
    mixture = Mixture(BYTES, BITS, 2, 2)
    assert np.isnan(mixture.predict(row[0, mixture.order])).all()
