"""eval.adapt: every way to adapt is causal, covers the text, charges what it shows, and pays where a text repeats."""

from functools import partial

import numpy as np
import pytest
import torch

from data.bytes import ByteTable
from data.tokenizer import ByteTokenizer
from eval.adapt import ADAPTATIONS, ModelScorer, mix_losses, plain_losses, ttt_losses
from eval.protocol import Protocol
from eval.score import Adapt
from eval.ttt import TTTConfig
from model.config import ModelConfig
from model.gpt import GPT

SMALL: dict[str, Adapt] = {
    "plain": plain_losses,
    "mix": partial(mix_losses, table_bits=16),
    "ttt": partial(ttt_losses, config=TTTConfig(chunk_tokens=24, lr=0.01)),
}
TOKENS = np.concatenate([[1], ByteTokenizer().encode("in the order of the text " * 8)])
PROTOCOL = Protocol(32, 8, batch_tokens=64)


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(ModelConfig(vocab_size=260, layers=2, dim=32, heads=2, kv_heads=1)).double()


def scorer(model: GPT, how: str) -> ModelScorer:
    return ModelScorer(model, ByteTokenizer(), PROTOCOL, SMALL[how])


@pytest.mark.parametrize("how", SMALL)
def test_targets_come_once_in_order_and_cost_what_their_distributions_show(model: GPT, how: str) -> None:
    wanted = [150, 0, 31, 32, len(TOKENS) - 2]
    scored = scorer(model, how).score(TOKENS, wanted)
    assert scored.targets.tolist() == list(range(len(TOKENS) - 1))
    assert scored.nats.tolist() == scorer(model, how).score(TOKENS).nats.tolist()
    assert scored.size_bytes == int(ByteTable(ByteTokenizer()).exact_bytes(TOKENS[1:]).sum())
    np.testing.assert_allclose(scored.shown.sum(-1), 1.0, rtol=1e-6)
    own = scored.shown[np.arange(len(wanted)), TOKENS[1:][wanted]]
    np.testing.assert_allclose(-np.log(own), scored.nats[wanted], atol=1e-6)
    assert scorer(model, how).score(TOKENS).shown.shape == (0, 260)


@pytest.mark.parametrize("how", SMALL)
def test_what_comes_later_moves_no_loss(model: GPT, how: str) -> None:
    complete = scorer(model, how).score(TOKENS).nats
    for cut in (2, 40, 97, 150):
        for other in (np.concatenate([TOKENS[:cut], TOKENS[:cut:-1]]), TOKENS[:cut]):
            found = scorer(model, how).score(other).nats
            np.testing.assert_allclose(found[: cut - 1], complete[: cut - 1], atol=1e-9)


def test_each_gains_where_a_text_repeats_itself_and_the_mixture_most(model: GPT) -> None:
    assert set(SMALL) == {"plain", *ADAPTATIONS}
    total = {how: scorer(model, how).score(TOKENS).nats.sum() for how in SMALL}
    assert total["ttt"] < 0.95 * total["plain"]
    assert total["mix"] < 0.5 * total["plain"]
