"""The records' later features, each against its formula written out: a position, a head or a layer at a time."""

import math
from typing import Any

import pytest
import torch

from model.attention import Attention, Given
from model.config import ModelConfig
from model.embedding import Embedding
from model.gpt import GPT
from model.rotary import rotation
from tests.model.plain import Weights, attend, block, mirror, part, project, rms_norm, think
from tests.model.test_gpt import BOS, scrambled

HEADS, KV_HEADS, WIDTH = 4, 2, 8
SHAPE: dict[str, Any] = {
    "vocab_size": 50, "dim": 32, "heads": HEADS, "kv_heads": KV_HEADS, "mlp": "relu2", "qk_norm": True, "q_gain": 1.5,
    "resid_mix": True, "branch_scale": True,
}  # fmt: skip
LAYER = {"heads": HEADS, "kv_heads": KV_HEADS, "rotated": WIDTH}


def model_and_weights(rotated: int = WIDTH, **features: Any) -> tuple[GPT, Weights]:
    model = scrambled(ModelConfig(**SHAPE, **features), 0, torch.float64)
    return model, mirror(model.state_dict(), WIDTH, rotated)


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (found - expected).abs().max() < 1e-11 * expected.abs().max()


def run_attention(model: GPT, layer: int, n: torch.Tensor) -> torch.Tensor:
    attention: Attention = model.blocks[layer].attn
    length = n.shape[1]
    rope = rotation(model.config, 0, length, n)
    return attention(n, Given(torch.zeros(2, length), n, rope, None, None, None), 0, length)


@pytest.mark.parametrize("rotated", [4, WIDTH])
@torch.no_grad()
def test_rope_rotates_the_first_dimensions_alone(rotated: int) -> None:
    model, weights = model_and_weights(rotated, layers=1, rope_dims=rotated)
    n = torch.randn(2, 11, 32, dtype=torch.float64)
    w = part(weights, "blocks.0.attn.")
    assert_equal(run_attention(model, 0, n), project(w, attend(w, n, HEADS, KV_HEADS, rotated)[0]))


@torch.no_grad()
def test_xsa_takes_out_the_part_along_the_own_value_in_the_last_layers() -> None:
    model, weights = model_and_weights(layers=3, xsa=2)
    n = torch.randn(2, 11, 32, dtype=torch.float64)
    for layer in range(3):
        w = part(weights, f"blocks.{layer}.attn.")
        y, v = attend(w, n, **LAYER)
        if layer > 0:
            along = v / v.norm(dim=-1, keepdim=True)
            y = y - (y * along).sum(-1, keepdim=True) * along
        assert_equal(run_attention(model, layer, n), project(w, y))


@torch.no_grad()
def test_a_gate_scales_each_head_by_what_the_position_holds() -> None:
    model, weights = model_and_weights(layers=1, attn_gate=0.5)
    n = torch.randn(2, 11, 32, dtype=torch.float64)
    w = part(weights, "blocks.0.attn.")
    y, _ = attend(w, n, **LAYER)
    for head in range(HEADS):
        score = (w["gate"][head] * n[..., :12]).sum(-1)  # (B, T)
        y[:, head] /= (1 + torch.exp(-0.5 * score))[..., None]
    assert_equal(run_attention(model, 0, n), project(w, y))


@torch.no_grad()
def test_a_gated_smear_adds_the_raw_vector_before_but_not_across_documents() -> None:
    torch.manual_seed(0)
    embedding = Embedding(ModelConfig(**SHAPE, smear="gated", smear_bos_mask=True, bos_id=BOS, embed_norm=True))
    w = {name: value.double() for name, value in embedding.state_dict().items()}
    w["smear"] = torch.randn(13, dtype=torch.float64)
    embedding.double().load_state_dict(w)
    tokens = [7, 8, BOS, 9, 9, BOS]
    strength, gate = w["smear"][0], w["smear"][1:]
    rows = [w["table.weight"][token] for token in tokens]
    expected = []
    for place, (token, row) in enumerate(zip(tokens, rows, strict=True)):
        before = rows[place - 1] if place and token != BOS else torch.zeros(32)
        expected.append(rms_norm(row + strength * torch.sigmoid(gate @ row[:12]) * before))
    assert_equal(embedding(torch.tensor([tokens]))[0], torch.stack(expected))


@torch.no_grad()
def test_ln_scale_divides_what_a_layer_reads_by_the_root_of_its_number() -> None:
    model, weights = model_and_weights(layers=3, ln_scale=True)
    tokens = torch.randint(50, (2, 11))
    x = x0 = weights["embedding.table.weight"][tokens]
    for layer in range(3):
        x = block(part(weights, f"blocks.{layer}."), x, x0, **LAYER, depth_scale=1 / math.sqrt(layer + 1))
    assert_equal(model.trunk(tokens), x)
    assert_equal(model(tokens), rms_norm(x) @ weights["embedding.table.weight"].T)  # the last norm is not scaled


# The records' loop: layers 3 to 5 twice more, U-Net halves of what is executed; the one in the middle has no skip.
FIRST_HALF, SECOND_HALF = [0, 1, 2, 3, 4, 5, 3, 4], [5, 3, 4, 5, 6, 7, 8, 9, 10]


@torch.no_grad()
def test_loops_run_their_layers_again_and_gated_skips_pair_what_is_executed() -> None:
    loop = {"loop_first": 3, "loop_last": 5, "loop_repeats": 2, "loop_start": 0.35}
    model, weights = model_and_weights(layers=11, skips="gated", **loop)
    assert model.config.order(0.34) == list(range(11))
    assert model.config.order(0.35) == model.order == FIRST_HALF + SECOND_HALF
    tokens = torch.randint(50, (2, 11))
    x = x0 = weights["embedding.table.weight"][tokens]
    saved = []
    for layer in FIRST_HALF:
        x = block(part(weights, f"blocks.{layer}."), x, x0, **LAYER)
        saved.append(x)
    for number, layer in enumerate(SECOND_HALF):
        if saved:
            gate = torch.sigmoid(weights["skip_gates"][number])
            x = gate * x + (1 - gate) * weights["skip_weights"][number] * saved.pop()
        x = block(part(weights, f"blocks.{layer}."), x, x0, **LAYER)
    assert_equal(model.trunk(tokens), x)


@torch.no_grad()
def test_two_lanes_are_the_records_formula() -> None:
    """Layers 2 and 3 of 4: attention reads lane one, the MLP lane two, and both write to both (PR #1530)."""
    model, weights = model_and_weights(layers=4, parallel_from=2, parallel_lanes=True, skips="plain")
    tokens = torch.randint(50, (2, 11))
    x0 = weights["embedding.table.weight"][tokens]
    first = block(part(weights, "blocks.0."), x0, x0, **LAYER)
    second = block(part(weights, "blocks.1."), first, x0, **LAYER)
    one = two = second
    for number, saved in enumerate((second, first)):
        w = part(weights, f"blocks.{number + 2}.")
        one = one + weights["skip_weights"][number] * saved  # into the first lane alone
        read = w["resid_mix"][0] * one + w["resid_mix"][1] * x0
        attn = part(w, "attn.")
        a = w["attn_scale"] * project(attn, attend(attn, rms_norm(read), **LAYER)[0])
        m = w["mlp_scale"] * think(part(w, "mlp."), rms_norm(two))
        (r1, a1, m1), (r2, a2, m2) = weights["lanes"][number + 2].view(2, 3)
        one, two = r1 * one + a1 * a + m1 * m, r2 * two + a2 * a + m2 * m
    assert_equal(model.trunk(tokens), (one + two) / 2)


def test_lanes_begin_as_the_record_has_them() -> None:
    lanes = GPT(ModelConfig(**SHAPE, layers=2, parallel_from=1, parallel_lanes=True)).lanes
    assert torch.equal(lanes, torch.tensor([[1.1, 1, 1, 1.1, 1, 1]] * 2))
