"""The small world of text that the tests of the probes share, and a tiny network over bytes for those of scoring."""

import pytest
import torch

from model.config import ModelConfig
from model.gpt import GPT
from tests.eval.cheaters import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=260, layers=2, dim=32, heads=2, kv_heads=1, skips="plain", smear="static")
    return GPT(config).double()
