"""Seed 001's model (RSCaLM) under its own names: state dict and config, both ways. Tensors and dicts, no files.

It holds q, k and v in one matrix, and its RoPE rotates neighboring rows (2i, 2i + 1) where ours rotates (i, i + C/2),
so the rows of q and k are permuted head by head. Its table is tied to the head and stored under both names.
"""

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange

from base.config import Layer, build
from base.errors import BadInput
from model.config import ModelConfig
from tools.llama import Weights

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
# The rows of q and k: ours are paired across the halves of a head, theirs are neighbors.
OUR_ROWS, THEIR_ROWS = "(head two pair) dim", "(head pair two) dim"


def to_rscalm(weights: Mapping[str, torch.Tensor], config: ModelConfig) -> Weights:
    out = {rename(name, PARTS): tensor for name, tensor in weights.items()}
    for layer in range(config.layers):
        at = f"blocks.{layer}.attn."
        q, k, v = (out.pop(f"{at}{part}.weight") for part in "qkv")
        q, k = (rearrange(rows, f"{OUR_ROWS} -> {THEIR_ROWS}", head=config.heads, two=2) for rows in (q, k))
        out[f"{at}qkv.weight"] = torch.cat([q, k, v])
    out["lm_head.weight"] = out["tok_emb.weight"]
    return out


def from_rscalm(theirs: Mapping[str, torch.Tensor], heads: int, where: str) -> Weights:
    """Our names for their state dict, compiled or not; an unknown name stays, for the loader to refuse."""
    given = {name.removeprefix("_orig_mod."): tensor for name, tensor in theirs.items()}
    head = given.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, given.get("tok_emb.weight", head)):
        raise BadInput(f"{where}: lm_head differs from tok_emb, and seed 001's model ties them")
    ours = {part: name for name, part in PARTS.items()}
    out: Weights = {}
    for name, tensor in given.items():
        if not name.endswith("attn.qkv.weight"):
            out[rename(name, ours)] = tensor
            continue
        if tensor.ndim != 2 or len(tensor) % (6 * heads):
            raise BadInput(f"{where}: {name} of shape {tuple(tensor.shape)} does not split into {heads} heads")
        at = name.removesuffix("qkv.weight")
        q, k, v = tensor.chunk(3)
        out[f"{at}q.weight"] = rearrange(q, f"{THEIR_ROWS} -> {OUR_ROWS}", head=heads, two=2)
        out[f"{at}k.weight"] = rearrange(k, f"{THEIR_ROWS} -> {OUR_ROWS}", head=heads, two=2)
        out[f"{at}v.weight"] = v
    return out


def rename(name: str, parts: Mapping[str, str]) -> str:
    for old, new in parts.items():
        name = name.replace(old, new)
    return name


def to_rscalm_config(config: ModelConfig, seq_len: int) -> dict[str, Any]:
    kept = {theirs: getattr(config, ours) for theirs, ours in FIELDS.items()}
    return kept | {"ffn_mult": config.hidden_width / config.dim, "seq_len": seq_len}


def from_rscalm_config(values: Mapping[str, Any], where: str) -> ModelConfig:
    fields = {ours: values[theirs] for theirs, ours in FIELDS.items() if theirs in values}  # their defaults are ours
    fields |= {"heads": values.get("n_head"), "kv_heads": values.get("n_head"), "norm": "rms_weight"}
    return build(ModelConfig, [Layer(where, fields)])
