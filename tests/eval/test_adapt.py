"""eval.adapt: every way to adapt is causal, covers the text, charges what it shows, and pays where a text repeats."""

from dataclasses import replace

import numpy as np
import pytest

from data.bytes import ByteTable
from data.tokenizer import ByteTokenizer
from eval.adapt import ADAPTATIONS, ModelScorer
from eval.config import AdaptConfig, LoRAConfig
from eval.protocol import Protocol
from model.gpt import GPT

SMALL = {
    "off": AdaptConfig(),
    "mix": AdaptConfig(kind="mix", table_bits=16),
    "lora": AdaptConfig(kind="lora", lora=LoRAConfig(chunk_tokens=24, lr=0.01)),
}
TOKENS = np.concatenate([[1], ByteTokenizer().encode("in the order of the text " * 8)])
PROTOCOL = Protocol(32, 8, batch_tokens=64)


def scorer(model: GPT, how: str) -> ModelScorer:
    return ModelScorer(model, ByteTokenizer(), replace(PROTOCOL, adapt=SMALL[how]))


def test_targets_come_once_in_order_cost_what_is_shown_and_gain_where_a_text_repeats_itself(model: GPT) -> None:
    assert set(SMALL) == set(ADAPTATIONS)
    wanted = [150, 0, 31, 32, len(TOKENS) - 2]
    total = {}
    for how in SMALL:
        scored = scorer(model, how).score(TOKENS, wanted)
        assert scored.targets.tolist() == list(range(len(TOKENS) - 1))
        assert scored.nats.tolist() == scorer(model, how).score(TOKENS).nats.tolist()
        assert scored.size_bytes == int(ByteTable(ByteTokenizer()).exact_bytes(TOKENS[1:]).sum())
        np.testing.assert_allclose(scored.shown.sum(-1), 1.0, rtol=1e-6)
        own = scored.shown[np.arange(len(wanted)), TOKENS[1:][wanted]]
        np.testing.assert_allclose(-np.log(own), scored.nats[wanted], atol=1e-6)
        total[how] = scored.nats.sum()
    assert total["lora"] < 0.95 * total["off"]
    assert total["mix"] < 0.5 * total["off"]


@pytest.mark.parametrize("how", SMALL)
def test_what_comes_later_moves_no_loss(model: GPT, how: str) -> None:
    complete = scorer(model, how).score(TOKENS).nats
    for cut in (2, 40, 97, 150):
        for other in (np.concatenate([TOKENS[:cut], TOKENS[:cut:-1]]), TOKENS[:cut]):
            found = scorer(model, how).score(other).nats
            np.testing.assert_allclose(found[: cut - 1], complete[: cut - 1], atol=1e-9)


def test_each_stream_begins_without_a_past(model: GPT) -> None:
    two = replace(PROTOCOL, adapt=replace(SMALL["mix"], streams=2))
    scored = ModelScorer(model, ByteTokenizer(), two).score(TOKENS)
    nats = scored.nats[np.argsort(scored.targets)]  # their windows take turns
    alone = scorer(model, "mix").score(TOKENS).nats
    half = len(nats) // 2
    np.testing.assert_allclose(nats[:half], alone[:half], atol=1e-9)
    assert nats[half : half + 40].sum() > 1.2 * alone[half : half + 40].sum()
