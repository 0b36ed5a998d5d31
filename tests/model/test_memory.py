"""model.memory against what PyTorch saves for the backward, and against hand-computed figures of large models."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from model.config import ModelConfig
from model.gpt import GPT
from model.memory import Trainer, peak_bytes, training_parts
from tests.model.test_gpt import GOLF

LLAMA: dict[str, Any] = {"vocab_size": 256, "layers": 3, "dim": 64, "heads": 4, "kv_heads": 4, "norm": "rms_weight"}
SMALL_GOLF: dict[str, Any] = {
    **GOLF, "vocab_size": 256, "layers": 4, "dim": 64, "heads": 4, "kv_heads": 2, "hidden": 192, "bigram_dim": 16,
    "bigram_buckets": 64,
}  # fmt: skip
FEATURES: list[dict[str, Any]] = [
    {}, {"kv_heads": 1}, {"mlp": "relu2"}, {"mlp": "leaky_relu2"}, {"mlp": "silu"}, {"mlp": "gelu"}, {"norm": "rms"},
    {"norm": "none"}, {"norm_order": "post"}, {"qk_norm": True}, {"q_gain": 1.5}, {"pos": "none"}, {"xsa": 3},
    {"branch_scale": True}, {"resid_mix": True}, {"parallel_from": 0}, {"doc_mask": True}, {"skips": "gated"},
    {"parallel_from": 0, "parallel_lanes": True}, {"attn_gate": 0.5}, {"attn_gate": 0.5, "xsa": 3},
    {"softcap": 15.0}, {"embed_norm": True}, {"smear": "gated"}, {"tied": False}, {"loop_repeats": 1, "loop_last": 1},
]  # fmt: skip


def saved_bytes(config: ModelConfig, rows: int, length: int, checkpointing: bool = False) -> int:
    """What autograd holds between forward and backward, parameters apart, each storage once."""
    model = GPT(config)
    model.checkpointing = checkpointing
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: list[torch.Tensor] = []  # so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        return tensor

    tokens = torch.randint(config.vocab_size, (rows, length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(tokens)
        F.cross_entropy(logits.view(-1, config.vocab_size), tokens.view(-1))
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}
    return sum(size for pointer, size in storages.items() if pointer not in parameters)


def planned_bytes(config: ModelConfig, checkpointing: bool = False) -> int:
    """Activations, and of the logits what the forward pass saves."""
    parts = training_parts(config, Trainer(mixed=False, checkpointing=checkpointing), 4, 64)
    return parts["activations"] + 4 * 4 * 64 * config.vocab_size * (2 if config.softcap else 1)


def test_activations_match_what_autograd_saves() -> None:
    for base, feature in itertools.product((LLAMA, SMALL_GOLF), FEATURES):
        config = ModelConfig(**{**base, **feature})
        assert planned_bytes(config) == pytest.approx(saved_bytes(config, 4, 64), rel=0.1), (base, feature)


def test_checkpointing_keeps_one_block_input_per_layer() -> None:
    for base in (LLAMA, SMALL_GOLF):
        config = ModelConfig(**base)
        recomputed = planned_bytes(config) - planned_bytes(replace(config, layers=config.layers - 1))
        kept = saved_bytes(config, 4, 64, checkpointing=True)
        assert planned_bytes(config, checkpointing=True) - recomputed == pytest.approx(kept, rel=0.1)


# -- seed 004's models (GB = 1e9 bytes) -----------------------------------------------------------------------------


def deep(depth: int, **changes: Any) -> ModelConfig:
    heads = depth // 2
    sizes = {"vocab_size": 65_536, "layers": depth, "dim": 64 * depth, "heads": heads, "kv_heads": heads}
    return ModelConfig(**{**sizes, "mlp": "relu2", "tied": False, **changes})


def gigabytes(parts: dict[str, int], *names: str) -> float:
    return (sum(parts[name] for name in names) if names else peak_bytes(parts)) / 1e9


def test_weights_gradients_and_moments_are_split_under_fsdp_alone() -> None:
    for depth, muon, expected in ((38, True, 36), (38, False, 48), (52, True, 88), (52, False, 118)):
        for trainer, share in ((Trainer(muon=muon), 1), (Trainer(shard="fsdp", devices=16, replicate=2, muon=muon), 8)):
            parts = training_parts(deep(depth), trainer, 1, 2048)
            slack = 0.045 if muon else 0.006  # 12 bytes per parameter leave out AdamW's second moments of the tables
            found = gigabytes(parts, "weights", "gradients", "optimizer")
            assert found == pytest.approx(expected / share, rel=slack)


def test_checkpointing_and_a_chunked_loss_each_save_memory() -> None:
    trainer = Trainer(devices=8, checkpointing=True)
    for depth, rows, at_once, chunked in ((38, 48, 174.9, 77.8), (52, 24, 179.9, 153.3)):
        config = deep(depth, softcap=15.0, qk_norm=True, embed_norm=True)
        assert gigabytes(training_parts(config, trainer, rows, 2048)) == pytest.approx(at_once, rel=0.005)
        small = replace(trainer, loss_chunk=4096)
        assert gigabytes(training_parts(config, small, rows, 2048)) == pytest.approx(chunked, rel=0.005)


def test_seed_000s_350m_model_has_the_audited_sizes() -> None:
    albor = ModelConfig(
        vocab_size=32_768, layers=24, dim=1024, heads=16, kv_heads=4, hidden=4096, norm="rms_weight", tied=True
    )
    parts = training_parts(albor, Trainer(muon=False), 4, 2048)
    assert gigabytes(parts, "weights") == pytest.approx(1.59, rel=0.005)  # 2 x 797 MB: the fp32 masters it omits
    assert gigabytes(parts, "optimizer") == pytest.approx(3.19, rel=0.005)
    assert gigabytes(parts, "logits") == 3 * 2**30 / 1e9  # of 1 GiB each
