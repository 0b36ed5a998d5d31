"""model.memory: what PyTorch saves for the backward, counted; and the audited figures of seed 004."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from model.config import ModelConfig
from model.gpt import GPT
from model.memory import NANOCHAT, Shard, Trainer, cache_bytes_per_token, max_rows, peak_bytes, training_parts
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


@pytest.mark.parametrize("base", [LLAMA, SMALL_GOLF], ids=["llama", "golf465"])
@pytest.mark.parametrize("feature", FEATURES, ids=str)
def test_activations_are_what_autograd_saves(base: dict[str, Any], feature: dict[str, Any]) -> None:
    config, rows, length = ModelConfig(**{**base, **feature}), 4, 64
    planned = training_parts(config, Trainer(mixed=False), rows, length)["activations"]
    loss = 4 * rows * length * config.vocab_size * (2 if config.softcap else 1)  # of LOGIT_BYTES, what forward saves
    assert planned + loss == pytest.approx(saved_bytes(config, rows, length), rel=0.1)


@pytest.mark.parametrize("base", [LLAMA, SMALL_GOLF], ids=["llama", "golf465"])
def test_checkpointing_keeps_a_block_input_a_layer(base: dict[str, Any]) -> None:
    config, rows, length = ModelConfig(**base), 4, 64
    parts = training_parts(config, Trainer(mixed=False, checkpointing=True), rows, length)
    one = training_parts(replace(config, layers=config.layers - 1), Trainer(mixed=False), rows, length)["activations"]
    recomputed = training_parts(config, Trainer(mixed=False), rows, length)["activations"] - one
    loss = 4 * rows * length * config.vocab_size * (2 if config.softcap else 1)
    kept = saved_bytes(config, rows, length, checkpointing=True)
    assert parts["activations"] - recomputed + loss == pytest.approx(kept, rel=0.1)


# -- the audited figures (GB = 1e9 bytes) ---------------------------------------------------------------------------


def deep(depth: int, **changes: Any) -> ModelConfig:
    heads = depth // 2
    sizes = {"vocab_size": 65_536, "layers": depth, "dim": 64 * depth, "heads": heads, "kv_heads": heads}
    return ModelConfig(**{**sizes, "mlp": "relu2", "tied": False, **changes})


def gigabytes(parts: dict[str, int], *names: str) -> float:
    return (sum(parts[name] for name in names) if names else peak_bytes(parts)) / 1e9


@pytest.mark.parametrize(
    ("depth", "batch", "total", "masters", "moments", "shared", "at_187", "at_80"),
    [(38, 48, 513, 11.7, 12.7, 1.6, 15, 4), (52, 24, 494, 29.0, 30.3, 3.8, 6, 0), (50, 20, 392, 25.8, 27.1, 3.4, 7, 0)],
)
def test_seed_004_needs_what_the_audit_says(
    depth: int, batch: int, total: float, masters: float, moments: float, shared: float, at_187: int, at_80: int
) -> None:
    config, eight = deep(depth), replace(NANOCHAT, devices=8)
    parts = training_parts(config, eight, batch, 2048)
    assert gigabytes(parts) == pytest.approx(total, rel=0.002)
    assert gigabytes(parts, "weights") == gigabytes(parts, "gradients") == pytest.approx(masters, rel=0.005)
    assert gigabytes(parts, "optimizer") == pytest.approx(shared, rel=0.03)
    assert gigabytes(training_parts(config, NANOCHAT, batch, 2048), "optimizer") == pytest.approx(moments, rel=0.005)
    assert max_rows(config, eight, 2048, 187.5e9) == at_187
    assert max_rows(config, eight, 2048, 80e9) == at_80


def test_the_one_measured_run_of_seed_004_is_foretold() -> None:
    config, eight = deep(32), replace(NANOCHAT, devices=8)
    assert gigabytes(training_parts(config, eight, 8, 2048)) == pytest.approx(79.8, rel=0.002)
    assert 8 <= max_rows(config, eight, 2048, 80e9) < 16


@pytest.mark.parametrize(("depth", "batch", "again", "chunked"), [(38, 48, 137, 67), (52, 24, 139, 104)])
def test_checkpointing_and_a_chunked_loss_bring_the_seed_batches_down(
    depth: int, batch: int, again: float, chunked: float
) -> None:
    trainer = replace(NANOCHAT, devices=8, checkpointing=True)
    assert gigabytes(training_parts(deep(depth), trainer, batch, 2048)) == pytest.approx(again, rel=0.005)
    small = replace(trainer, loss_chunk=4096)
    assert gigabytes(training_parts(deep(depth), small, batch, 2048)) == pytest.approx(chunked, rel=0.05)


@pytest.mark.parametrize(
    ("shard", "devices", "muon", "depth", "expected"),
    [
        ("ddp", 1, True, 38, 36), ("ddp", 1, False, 38, 48), ("ddp", 1, True, 52, 88), ("ddp", 1, False, 52, 118),
        ("zero1", 8, False, 38, 27), ("zero1", 8, False, 52, 66), ("zero2", 8, False, 38, 16.6),
        ("zero2", 8, False, 52, 40.4), ("fsdp", 8, True, 38, 4.5), ("fsdp", 8, False, 38, 6.0),
        ("fsdp", 8, True, 52, 11.0), ("fsdp", 8, False, 52, 14.7),
    ],
)  # fmt: skip
def test_what_stays_on_a_device_is_split_as_the_layout_says(
    shard: Shard, devices: int, muon: bool, depth: int, expected: float
) -> None:
    parts = training_parts(deep(depth), Trainer(shard=shard, devices=devices, muon=muon), 1, 2048)
    slack = 0.045 if muon else 0.006  # the audit's 12 bytes a parameter leave AdamW's second moments of the tables out
    assert gigabytes(parts, "weights", "gradients", "optimizer") == pytest.approx(expected, rel=slack)


@pytest.mark.parametrize(("depth", "muon", "batches"), [(38, True, {9, 10}), (52, True, {2}), (52, False, {0, 1})])
def test_one_h200_holds_what_the_audit_says(depth: int, muon: bool, batches: set[int]) -> None:
    trainer = replace(NANOCHAT, muon=muon)
    assert {max_rows(deep(depth), trainer, 2048, memory) for memory in (141e9, 149.6e9)} == batches


def test_a_cache_takes_what_the_audit_says() -> None:
    assert cache_bytes_per_token(deep(38)) == 369_664
    assert cache_bytes_per_token(deep(52)) == 692_224
    assert cache_bytes_per_token(ModelConfig(layers=8, dim=512, heads=8, kv_heads=2)) == 4096
    assert cache_bytes_per_token(ModelConfig(layers=24, dim=1024, heads=16, kv_heads=4)) == 24_576


def test_the_seed_350m_model_weighs_what_it_says() -> None:
    albor = ModelConfig(
        vocab_size=32_768, layers=24, dim=1024, heads=16, kv_heads=4, hidden=4096, norm="rms_weight", tied=True
    )
    parts = training_parts(albor, Trainer(muon=False), 4, 2048)
    assert gigabytes(parts, "weights") == pytest.approx(1.59, rel=0.005)  # 2 x 797 MB: the fp32 masters it omits
    assert gigabytes(parts, "optimizer") == pytest.approx(3.19, rel=0.005)
    assert gigabytes(parts, "logits") == 3 * 2**30 / 1e9  # of 1 GiB each


def test_more_rows_take_more_and_the_largest_batch_is_the_largest() -> None:
    config = ModelConfig(**GOLF)
    for trainer in (Trainer(), Trainer(checkpointing=True), Trainer(shard="fsdp", devices=4, loss_chunk=4096)):
        most = max_rows(config, trainer, 2048, 24e9)
        assert peak_bytes(training_parts(config, trainer, most, 2048)) <= 24e9
        assert peak_bytes(training_parts(config, trainer, most + 1, 2048)) > 24e9
