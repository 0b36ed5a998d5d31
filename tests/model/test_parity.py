"""configs/golf465.yaml is the contest's pull request 465: its forward pass, written out from its description."""

import pytest
import torch

from model.config import ModelConfig
from tests.model.plain import Weights, block, mirror, part, rms_norm
from tests.model.test_gpt import GOLF, scrambled


def forward_465(w: Weights, tokens: torch.Tensor, layers: int, heads: int, kv_heads: int) -> torch.Tensor:
    table = w["embedding.table.weight"]
    x = smear(w, rms_norm(table[tokens] + bigram(part(w, "embedding.bigram."), tokens)))
    x0, saved = x, []
    rotated = table.shape[1] // heads
    for layer in range(layers):
        number = layer - layers // 2
        if number >= 0 and saved:  # U-Net: the second half takes what the first left, last first
            x = x + w["skip_weights"][number] * saved.pop()
        x = block(part(w, f"blocks.{layer}."), x, x0, heads, kv_heads, rotated)
        if number < 0:
            saved.append(x)
    return 30 * torch.tanh(rms_norm(x) @ table.T / 30)


def bigram(w: Weights, tokens: torch.Tensor) -> torch.Tensor:
    buckets = len(w["table.weight"])
    bucket = torch.full_like(tokens, buckets - 1)  # the last is the first position's alone
    bucket[:, 1:] = ((36313 * tokens[:, 1:]) ^ (27191 * tokens[:, :-1])) % (buckets - 1)
    return w["scale"] * (w["table.weight"][bucket] @ w["proj.weight"].T)


def smear(w: Weights, x: torch.Tensor) -> torch.Tensor:
    gate = torch.sigmoid(w["embedding.smear"])
    before = torch.zeros_like(x)
    before[:, 1:] = x[:, :-1]
    return (1 - gate) * x + gate * before


@pytest.mark.parametrize("layers", [4, 5])  # with an odd count the last layer has no skip
@torch.no_grad()
def test_the_preset_is_pull_request_465(layers: int) -> None:
    size = {"vocab_size": 96, "layers": layers, "dim": 64, "hidden": 192, "bigram_buckets": 50, "bigram_dim": 16}
    model = scrambled(ModelConfig(**GOLF | size), 0, torch.float64)
    tokens = torch.randint(96, (2, 40))
    weights = mirror(model.state_dict(), head_width=8, rotated=8)
    expected = forward_465(weights, tokens, layers, heads=8, kv_heads=4)
    assert (model(tokens) - expected).abs().max() <= 1e-12
    assert expected.std() > 1  # not by logits of nothing
