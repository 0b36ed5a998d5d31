"""eval.adapt: every way to adapt is causal, covers the text, charges what it shows, and pays where a text repeats."""

import numpy as np
import pytest
import torch

from data.tokenizer import ByteTokenizer
from eval.adapt import ADAPTATIONS, Adaptation, Adapted
from eval.mixing.mixer import MixConfig
from eval.score import losses
from eval.ttt import TTTConfig
from model.config import ModelConfig
from model.gpt import GPT

SMALL = {
    "mix": Adaptation(mix=MixConfig(table_bits=16)),
    "ttt": Adaptation(ttt=TTTConfig(chunk_tokens=24)),
    "ttt+mix": Adaptation(mix=MixConfig(table_bits=16), ttt=TTTConfig(chunk_tokens=24)),
}
TOKENS = np.concatenate([[1], ByteTokenizer().encode("in the order of the text " * 8)])
SHAPE = (32, 8, 64)  # context, stride, batch


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(ModelConfig(vocab_size=260, layers=2, dim=32, heads=2, kv_heads=1)).double()


def scorer(model: GPT, how: str) -> Adapted:
    return Adapted(SMALL[how], model, ByteTokenizer(), *SHAPE)


def test_every_way_to_adapt_is_tested_here() -> None:
    assert set(SMALL) == set(ADAPTATIONS)


@pytest.mark.parametrize("how", SMALL)
def test_targets_come_once_in_order_and_cost_what_their_distributions_say(model: GPT, how: str) -> None:
    asked = [150, 0, 31, 32, len(TOKENS) - 2]
    scored = scorer(model, how).score(TOKENS, asked)
    at = 0
    for first, nats in scorer(model, how).losses(TOKENS):
        assert first == at
        assert np.array_equal(nats, scored.nats[at : at + len(nats)])
        at += len(nats)
    assert at == len(scored.nats) == len(TOKENS) - 1
    np.testing.assert_allclose(scored.shown.sum(-1), 1.0, rtol=1e-6)
    own = scored.shown[np.arange(len(asked)), TOKENS[1:][asked]]
    np.testing.assert_allclose(-np.log(own), scored.nats[asked], atol=1e-6)


@pytest.mark.parametrize("how", SMALL)
def test_what_comes_later_moves_no_loss(model: GPT, how: str) -> None:
    whole = scorer(model, how).score(TOKENS).nats
    for cut in (2, 40, 97, 150):
        other = np.concatenate([TOKENS[:cut], TOKENS[:cut:-1]])
        np.testing.assert_allclose(scorer(model, how).score(other).nats[: cut - 1], whole[: cut - 1], atol=1e-9)
        np.testing.assert_allclose(scorer(model, how).score(TOKENS[:cut]).nats, whole[: cut - 1], atol=1e-9)


def test_each_gains_where_a_text_repeats_itself_and_the_mixture_most(model: GPT) -> None:
    plain = sum(nats.sum() for _, nats in losses(model, TOKENS, *SHAPE))
    total = {how: scorer(model, how).score(TOKENS).nats.sum() for how in SMALL}
    assert total["ttt"] < 0.99 * plain
    assert max(total["mix"], total["ttt+mix"]) < 0.5 * plain
