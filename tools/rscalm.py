"""Seed 001's model (RSCaLM) under its own names: state dict and config, both ways. Tensors and dicts, no files.

It holds q, k and v in one matrix, and its RoPE rotates neighboring rows (2i, 2i + 1) where ours rotates (i, i + C/2),
so the rows of q and k are permuted head by head. Its table is tied to the head and stored under both names.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from base.config import Layer, build
from base.errors import BadInput
from model.config import ModelConfig
from tools.llama import LLAMA_FIELDS, Weights, unsupported_fields

# Parts of names of weights, ours -> theirs; the rest of a name is the same.
PARTS = {
    "embedding.table": "tok_emb", "attn_norm": "norm1", "mlp_norm": "norm2", "attn.out": "attn.proj",
    "mlp.gate": "mlp.w1", "mlp.up": "mlp.w2", "mlp.down": "mlp.w3",
}  # fmt: skip
# Fields of the config, theirs -> ours.
FIELDS = {
    "vocab_size": "vocab_size", "n_layer": "layers", "n_head": "heads", "d_model": "dim", "ffn_mult": "mlp_mult",
    "dropout": "dropout", "rope_base": "rope_base",
}  # fmt: skip
SUPPORTED = LLAMA_FIELDS - {"tied", "head_dim", "norm_eps", "bos_id", "yarn_factor", "embed_norm"}


def unsupported_in_rscalm(config: ModelConfig) -> dict[str, object]:
    """The fields, with their values, that seed 001's model has no place for."""
    found = unsupported_fields(config, SUPPORTED)
    if config.kv_heads != config.heads:
        found["kv_heads"] = config.kv_heads
    if config.head_dim == config.dim / config.heads:
        found.pop("head_dim", None)
    return found


def to_rscalm(weights: Weights, config: ModelConfig) -> Weights:
    """The state dict of a folded model (tools.llama.fold) as theirs."""
    out = {rename(name, PARTS): tensor for name, tensor in weights.items()}
    for layer in range(config.layers):
        at = f"blocks.{layer}.attn."
        q, k, v = (out.pop(f"{at}{part}.weight") for part in "qkv")
        out[f"{at}qkv.weight"] = torch.cat([interleave(q, config.heads), interleave(k, config.heads), v])
    out["lm_head.weight"] = out["tok_emb.weight"]
    return out


def from_rscalm(theirs: Mapping[str, torch.Tensor], heads: int, where: str) -> Weights:
    """Our names for their state dict, compiled or not; an unknown name stays, for the loader to refuse."""
    given = {name.removeprefix("_orig_mod."): tensor for name, tensor in theirs.items()}
    head = given.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, given.get("tok_emb.weight", head)):
        raise BadInput(f"{where}: lm_head differs from tok_emb, and seed 001's model ties them")
    ours = {part: name for name, part in PARTS.items()}
    out = {rename(name, ours): tensor for name, tensor in given.items()}
    for name in [name for name in out if name.endswith("attn.qkv.weight")]:
        at = name.removesuffix("qkv.weight")
        qkv = out.pop(name)
        if qkv.ndim != 2 or len(qkv) % (6 * heads):
            raise BadInput(f"{where}: {name} of shape {tuple(qkv.shape)} does not split into {heads} heads")
        q, k, v = qkv.chunk(3)
        out |= {f"{at}q.weight": deinterleave(q, heads), f"{at}k.weight": deinterleave(k, heads)}
        out[f"{at}v.weight"] = v.clone()
    return out


def rename(name: str, parts: Mapping[str, str]) -> str:
    for old, new in parts.items():
        name = name.replace(old, new)
    return name


def to_rscalm_config(config: ModelConfig, seq_len: int) -> dict[str, Any]:
    explicit = replace(config, mlp_mult=config.hidden_width / config.dim)
    return {theirs: getattr(explicit, ours) for theirs, ours in FIELDS.items()} | {"seq_len": seq_len}


def from_rscalm_config(values: Mapping[str, Any], where: str) -> ModelConfig:
    fields = {ours: values[theirs] for theirs, ours in FIELDS.items() if theirs in values}  # their defaults are ours
    fields |= {"heads": values.get("n_head"), "kv_heads": values.get("n_head"), "norm": "rms_weight"}
    return build(ModelConfig, [Layer(where, fields)])


def interleave(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of q or k whose pairs are (i, i + C/2) in each head -> the same rows with pairs (2i, 2i + 1)."""
    width, columns = rows.shape
    return rows.view(heads, 2, width // heads // 2, columns).transpose(1, 2).reshape(width, columns)


def deinterleave(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """The inverse of `interleave`."""
    width, columns = rows.shape
    return rows.view(heads, width // heads // 2, 2, columns).transpose(1, 2).reshape(width, columns)
