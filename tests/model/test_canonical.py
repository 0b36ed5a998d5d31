"""model.gpt with `canonical`: the same distribution however it is computed, and forbidden tokens next to nothing."""

from dataclasses import replace

import pytest
import torch

from base.config import Layer, build
from base.errors import BadInput
from model.config import ModelConfig
from model.gpt import FORBIDDEN_NATS, GPT
from model.memory import Trainer, peak_bytes, training_parts
from tests.model.test_gpt import scrambled

VOCAB = 50
CONFIG = ModelConfig(
    vocab_size=VOCAB, dim=32, heads=4, layers=2, softcap=5.0, smear="static", bigram_buckets=17, canonical=True
)


def canonical_model(softcap: float = 5.0) -> GPT:
    model = scrambled(replace(CONFIG, softcap=softcap), 0, torch.float64)
    model.forbidden = torch.rand(VOCAB, VOCAB, generator=torch.Generator().manual_seed(1)) < 0.3
    return model


def tokens_of(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randint(VOCAB, (3, 24), generator=torch.Generator().manual_seed(seed))
    return rows[:, :-1], rows[:, 1:]


@torch.no_grad()
def test_a_forbidden_token_loses_its_probability_to_the_others_and_any_text_has_a_finite_loss() -> None:
    model = canonical_model()
    tokens, targets = tokens_of(0)
    found = model(tokens).log_softmax(-1)
    table = model.forbidden
    model.forbidden, model.config = None, replace(CONFIG, canonical=False)
    barred = table[tokens]
    expected = model(tokens).masked_fill(barred, -torch.inf).log_softmax(-1)
    assert torch.allclose(found[~barred], expected[~barred], atol=1e-8)
    assert found[barred].exp().max() < 1e-8
    assert found[barred].min() > -FORBIDDEN_NATS - 20  # the softcap's reach, and the sum
    assert barred.gather(-1, targets[..., None]).any()


def test_training_counts_every_token_and_needs_no_table() -> None:
    tokens, targets = tokens_of(2)
    plain = GPT(replace(CONFIG, canonical=False))
    model = GPT(CONFIG)
    model.load_state_dict(plain.state_dict())
    assert torch.equal(model.loss(tokens, targets), plain.loss(tokens, targets))


def test_without_a_table_nothing_is_predicted() -> None:
    model = GPT(CONFIG)
    tokens, _ = tokens_of(3)
    with pytest.raises(ValueError, match="canonical is true and the model has no table"):
        model(tokens)


def test_the_table_is_in_no_state_and_counts_as_memory() -> None:
    model = canonical_model()
    assert "forbidden" not in model.state_dict()
    plain = replace(CONFIG, canonical=False)
    peaks = [peak_bytes(training_parts(config, Trainer(), 2, 16)) for config in (CONFIG, plain)]
    assert peaks[0] - peaks[1] == VOCAB**2


def test_a_table_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(BadInput, match="16,384 or less, or canonical false"):
        build(ModelConfig, [Layer("test", {"canonical": True, "vocab_size": 65_536})])
