"""model.cost: exact against the model itself, and against the seeds' audited figures."""

import random

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.config import ModelConfig
from model.cost import parameters, scoring_flops
from model.gpt import GPT, parameter_kind
from tests.model.test_gpt import GOLF, any_config


def counted(config: ModelConfig) -> dict[str, int]:
    with torch.device("meta"):
        model = GPT(config)
    found = dict.fromkeys(("embed", "head", "bigram", "attn", "mlp", "control"), 0)
    for name, parameter in model.named_parameters():
        found[parameter_kind(name, parameter)] += parameter.numel()
    return found


def test_every_kind_is_counted_exactly_for_any_config() -> None:
    for seed in range(100):
        config = any_config(random.Random(seed))
        assert parameters(config) == counted(config), config
    golf = ModelConfig(**GOLF)
    assert sum(parameters(golf).values()) == sum(counted(golf).values()) == 24_730_705


def test_a_scored_window_costs_what_pytorch_counts_and_the_pairs_that_attention_sees() -> None:
    length = 12
    for seed in range(30):
        last = (1, 5, 12)[seed % 3]
        config = any_config(random.Random(seed))
        with torch.device("meta"):
            model, tokens = GPT(config), torch.zeros(1, length, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model.logits(model.trunk(tokens, last=last), tokens[:, -last:])
        counted = counter.get_flop_counts()["Global"]
        products = sum(flops for op, flops in counted.items() if str(op) in ("aten.mm", "aten.addmm"))
        attentions = sum(layer in config.attending for layer in config.order())
        queried = [*[range(length)] * (attentions - 1), range(length - last, length)] if attentions else []
        pairs = sum(query + 1 for queries in queried for query in queries)
        expected = products + 2 * 2 * pairs * config.heads * config.head_width
        assert scoring_flops(config, length, last) == expected, config
