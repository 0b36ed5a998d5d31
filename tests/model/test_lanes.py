"""Two residual lanes and the gate on heads, against their formulas written out, a layer and a head at a time."""

import math

import torch

from model.attention import Attention, Given
from model.config import ModelConfig
from model.gpt import GPT
from model.norm import rms_norm
from model.rotary import rotation
from tests.model.test_gpt import scrambled

SHAPE = {"vocab_size": 50, "layers": 5, "dim": 32, "heads": 4, "kv_heads": 2}


def lanes_by_hand(model: GPT, tokens: torch.Tensor) -> torch.Tensor:
    """Layers 0, 1, 2, 2, 3, 4, of which 3 and 4 are in two lanes; skips into the second half, last first."""
    config = model.config
    lanes = model.lanes
    weights, gates = model.skip_weights, model.skip_gates
    assert lanes is not None
    assert weights is not None
    assert gates is not None
    x0 = model.embedding(tokens)
    rope = rotation(config, 0, tokens.shape[1], x0)

    def norm(x: torch.Tensor, layer: int) -> torch.Tensor:
        return rms_norm(x, config.norm_eps) / math.sqrt(layer + 1)

    def attend(x: torch.Tensor, layer: int, step: int) -> torch.Tensor:
        block = model.blocks[layer]
        return block.attn_scale * block.attn(
            norm(x, layer), Given(tokens, x0, rope, None, None, None), step, tokens.shape[1]
        )

    def think(x: torch.Tensor, layer: int) -> torch.Tensor:
        return model.blocks[layer].mlp_scale * model.blocks[layer].mlp(norm(x, layer))

    def mix(x: torch.Tensor, layer: int) -> torch.Tensor:
        return model.blocks[layer].resid_mix[0] * x + model.blocks[layer].resid_mix[1] * x0

    def skip(x: torch.Tensor, saved: torch.Tensor, number: int) -> torch.Tensor:
        gate = torch.sigmoid(gates[number])
        return gate * x + (1 - gate) * weights[number] * saved

    x, saved = x0, []
    for step, layer in enumerate((0, 1, 2, 2)):
        x = skip(x, saved.pop(), 0) if step == 3 else x
        x = mix(x, layer)
        x = x + attend(x, layer, step)
        x = x + think(x, layer)
        saved += [x] if step < 3 else []
    one, two = x, x
    for number, layer in ((1, 3), (2, 4)):
        one = skip(one, saved.pop(), number)
        a, m = attend(mix(one, layer), layer, number + 3), think(two, layer)
        (r1, a1, m1), (r2, a2, m2) = lanes[layer].view(2, 3).tolist()
        one, two = r1 * one + a1 * a + m1 * m, r2 * two + a2 * a + m2 * m
    return (one + two) / 2


@torch.no_grad()
def test_two_lanes_are_the_records_formula() -> None:
    config = ModelConfig(
        **SHAPE, parallel_from=3, parallel_lanes=True, ln_scale=True, resid_mix=True, branch_scale=True, skips="gated",
        loop_first=2, loop_last=2, loop_repeats=1, mlp="leaky_relu2",
    )  # fmt: skip
    model = scrambled(config, 0, torch.float64)
    tokens = torch.randint(50, (2, 9))
    expected = lanes_by_hand(model, tokens)
    assert (model.trunk(tokens) - expected).abs().max() < 1e-10 * expected.abs().max()
    first = GPT(config).lanes
    assert first is not None
    assert torch.equal(first, torch.tensor([[1.1, 1, 1, 1.1, 1, 1]] * 5))


@torch.no_grad()
def test_a_gate_scales_each_head_by_what_the_position_holds() -> None:
    torch.manual_seed(0)
    plain = Attention(ModelConfig(**SHAPE, pos="none"), 0).double()
    gated = Attention(ModelConfig(**SHAPE, pos="none", attn_gate=0.5), 0).double()
    gated.load_state_dict(plain.state_dict(), strict=False)
    for attention in (plain, gated):
        attention.out.weight.copy_(torch.eye(32))  # so that heads stay apart
    x = torch.randn(2, 7, 32, dtype=torch.float64)
    given = Given(torch.zeros(2, 7), x, None, torch.ones(3, 7).tril(4).bool(), None, None)
    heads = plain(x, given, 0, 3)
    assert gated.gate is not None
    assert torch.allclose(gated(x, given, 0, 3), heads / 2)  # zero weights
    gated.gate.normal_()
    found = gated(x, given, 0, 3)
    for row in range(2):
        for query in range(3):
            for head in range(4):
                score = sum(float(gated.gate[head, i] * x[row, 4 + query, i]) for i in range(12))
                part = slice(8 * head, 8 * head + 8)
                expected = heads[row, query, part] / (1 + math.exp(-0.5 * score))
                assert torch.allclose(found[row, query, part], expected, rtol=1e-12, atol=1e-14)
