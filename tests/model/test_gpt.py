"""model.gpt: equal to itself however a sequence is cut, and what each feature does. LLaMA: test_export_llama.py."""

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from base.config import load
from model.cache import Cache
from model.config import ModelConfig
from model.embedding import bigram_bucket
from model.gpt import GPT
from run_config import RunConfig
from tests.runs import ROOT

BOS = 1
GOLF = vars(load(RunConfig, ROOT / "configs/golf465.yaml").model)

CHOICES = {
    "layers": [1, 2, 3, 4, 5], "kv_heads": [1, 2, 4], "mlp": ["relu2", "leaky_relu2", "swiglu", "silu", "gelu"],
    "norm": ["rms", "rms_weight", "none"], "norm_order": ["pre", "post"], "pos": ["rope", "none"], "rope_dims": [0, 4],
    "key_offset": [True, False], "match": [0, 3], "match_count": [1, 2],
    "yarn_factor": [1.0, 4.0], "qk_norm": [True, False], "q_gain": [None, 1.5], "xsa": [0, 1], "head_dim": [0, 12],
    "doc_mask": [True, False], "softcap": [0.0, 5.0], "smear": ["off", "static", "gated"], "tied": [True, False],
    "smear_bos_mask": [True, False], "bigram_buckets": [0, 17], "skips": ["off", "plain", "gated"],
    "embed_norm": [True, False], "resid_mix": [True, False], "branch_scale": [True, False], "ln_scale": [True, False],
    "loop_repeats": [0, 1, 2], "parallel_from": [None, 0, 1], "parallel_lanes": [True, False], "attn_gate": [0.0, 0.5],
    "attention": [None, None, (), (0,)],
}  # fmt: skip


def scrambled(config: ModelConfig, seed: int, dtype: torch.dtype) -> GPT:
    """A model none of whose parameters is a zero or a one that would hide a fault."""
    torch.manual_seed(seed)
    model = GPT(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.1 if config.norm == "none" else 0.3))
    return model


def any_config(picks: random.Random) -> ModelConfig:
    chosen = {name: picks.choice(values) for name, values in CHOICES.items()}
    chosen["key_offset"] &= chosen["pos"] == "rope" and chosen["rope_dims"] > 0
    if chosen["norm_order"] == "post" or chosen["parallel_from"] == chosen["layers"]:
        chosen["parallel_from"] = None
    chosen["parallel_lanes"] &= chosen["parallel_from"] is not None
    if chosen["norm_order"] == "post" or chosen["parallel_lanes"]:
        chosen["attention"] = None
    if chosen["attention"] is None and picks.random() < 0.5:
        chosen["value_tables"] = (0,)
    return ModelConfig(vocab_size=50, dim=32, heads=4, bigram_dim=8, bos_id=BOS, **chosen)


def tokens_with_documents(seed: int, rows: int = 3, length: int = 23) -> torch.Tensor:
    torch.manual_seed(seed)
    tokens = torch.randint(2, 50, (rows, length))
    tokens[torch.rand(rows, length) < 0.15] = BOS
    return tokens


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 22), max_size=6))
@torch.no_grad()
def test_cached_decoding_equals_the_full_forward_for_every_split_and_feature(seed: int, cuts: list[int]) -> None:
    config = any_config(random.Random(seed))
    tokens = tokens_with_documents(seed)
    edges = [0, *sorted(set(cuts)), 23]
    pieces = [b - a for a, b in zip(edges, edges[1:], strict=False)]
    for sizes, dtype, close in ((pieces, torch.float64, 1e-10), ([1] * 23, torch.float64, 1e-10),
                                (pieces, torch.float32, 1e-4)):  # fmt: skip
        model = scrambled(config, seed, dtype)
        full = model(tokens)
        cache = Cache()
        found = torch.cat([model(part, cache) for part in tokens.split(sizes, dim=1)], dim=1)
        assert (found - full).abs().max() < close * full.abs().max().clamp(min=1), (config, sizes)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), last=st.integers(1, 13), cached=st.booleans())
@torch.no_grad()
def test_the_last_positions_alone_equal_those_of_the_full_forward(seed: int, last: int, cached: bool) -> None:
    config = any_config(random.Random(seed))
    model = scrambled(config, seed, torch.float64)
    tokens = tokens_with_documents(seed)
    full, cache = model.trunk(tokens)[:, -last:], Cache()
    if cached:
        model.trunk(tokens[:, :10], cache, last=1)
    tail = model.trunk(tokens[:, 10:], cache, last) if cached else model.trunk(tokens, last=last)
    assert tail.shape == full.shape
    assert (tail - full).abs().max() < 1e-10 * full.abs().max().clamp(min=1), config


@torch.no_grad()
def test_document_masks_keep_a_document_to_itself() -> None:
    config = ModelConfig(
        vocab_size=50, dim=32, heads=4, layers=3, pos="none", doc_mask=True, smear="static", smear_bos_mask=True
    )
    model = scrambled(config, 0, torch.float64)
    first, other, second = (torch.randint(2, 50, (1, 8)) for _ in range(3))
    first[:, 0] = other[:, 0] = second[:, 0] = BOS
    for before in (first, other):
        after = model(torch.cat([before, second], dim=1))[:, -8:]
        assert torch.allclose(model(second), after, atol=1e-12)
    unmasked = scrambled(ModelConfig(vocab_size=50, dim=32, heads=4, layers=3, pos="none"), 0, torch.float64)
    assert not torch.allclose(unmasked(second), unmasked(torch.cat([first, second], dim=1))[:, -8:])


def test_ortho_init_is_orthogonal_with_zero_outputs() -> None:
    model = GPT(ModelConfig(**{**GOLF, "layers": 2}))
    for block in model.blocks:
        assert not block.attn.out.weight.any()
        assert not block.mlp.down.weight.any()
        q = block.attn.q.weight
        assert torch.allclose(q @ q.T, torch.eye(len(q)), atol=1e-4)
    proj = model.embedding.bigram.proj.weight  # (512, 128) scaled by 1/sqrt(2 * layers)
    assert torch.allclose(proj.T @ proj, torch.eye(128) / 4, atol=1e-4)
    assert not model.embedding.bigram.table.weight.any()


def test_the_bigram_hash_is_frozen() -> None:
    tokens, previous = torch.tensor([[5, 1023, 65535]]), torch.tensor([[7, 0, 65535]])
    expected = [[((36313 * a) ^ (27191 * b)) % 4095 for a, b in ((5, 7), (1023, 0), (65535, 65535))]]
    assert bigram_bucket(tokens, previous, 4096).tolist() == expected
    assert bigram_bucket(torch.tensor([[2, 3]]), torch.tensor([[1, 2]]), 4096).tolist() == [[412, 3580]]


def test_activation_checkpointing_changes_neither_loss_nor_gradients() -> None:
    lanes = {"parallel_from": 1, "parallel_lanes": True, "attn_gate": 0.5}
    config = ModelConfig(vocab_size=50, dim=32, heads=4, layers=3, skips="plain", resid_mix=True, **lanes)
    tokens = tokens_with_documents(0)
    grads = []
    for checkpointing in (False, True):
        model = scrambled(config, 1, torch.float64).train()
        model.checkpointing = checkpointing
        model(tokens).square().mean().backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, again in zip(*grads, strict=True):
        assert torch.allclose(plain, again, rtol=1e-12, atol=1e-14)
