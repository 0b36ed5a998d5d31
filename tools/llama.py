"""The same model under three sets of names: ours, LlamaForCausalLM's, and seed 001's (rscalm). Pure: tensors and dicts.

Ours is LLaMA where every feature is plain: same pairs (i, i + C/2) in RoPE, same sign, same grouping of heads, so that
export is renaming. `plain` first turns into weights what can be: norms without weight, branch scales, the embedding's
norm, a query gain, the depth scale. Whatever else LLaMA has no place for is named by `forbidding`. Seed 001 has q, k
and v in one matrix and turns neighbouring rows (2i, 2i + 1): the rows of q and k are permuted, head by head.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from base.config import Layer, build
from base.errors import BadInput
from data.tokenizer import Tokenizer
from model.config import ModelConfig
from model.gpt import GPT
from model.norm import rms_norm

Weights = dict[str, torch.Tensor]

RSCALM_EPS = 1e-6  # that project's code has no field for it
OUTSIDE = {"embedding.table.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight",
           "head.weight": "lm_head.weight"}  # fmt: skip
BLOCK = {
    "attn_norm.weight": "input_layernorm.weight", "attn.q.weight": "self_attn.q_proj.weight",
    "attn.k.weight": "self_attn.k_proj.weight", "attn.v.weight": "self_attn.v_proj.weight",
    "attn.out.weight": "self_attn.o_proj.weight", "mlp_norm.weight": "post_attention_layernorm.weight",
    "mlp.gate.weight": "mlp.gate_proj.weight", "mlp.up.weight": "mlp.up_proj.weight",
    "mlp.down.weight": "mlp.down_proj.weight",
}  # fmt: skip
ROPE = ("rope_type", "type", "rope_theta", "factor", "attention_factor", "beta_fast", "beta_slow",
        "original_max_position_embeddings")  # fmt: skip
RSCALM_BLOCK = {
    "attn_norm.weight": "norm1.weight", "attn.out.weight": "attn.proj.weight", "mlp_norm.weight": "norm2.weight",
    "mlp.gate.weight": "mlp.w1.weight", "mlp.up.weight": "mlp.w2.weight", "mlp.down.weight": "mlp.w3.weight",
}  # fmt: skip


# -- what can be exported -------------------------------------------------------------------------------------------


def forbidding(config: ModelConfig) -> dict[str, Any]:
    """The fields, with their values, that no LLaMA has a place for."""
    can_be: dict[str, tuple[object, ...]] = {
        "mlp": ("swiglu",), "norm": ("rms", "rms_weight"), "norm_order": ("pre",), "pos": ("rope",),
        "rope_dims": (0, config.head_width), "qk_norm": (False,), "xsa": (0,), "doc_mask": (False,),
        "softcap": (0.0,), "smear": ("off",), "bigram_buckets": (0,), "skips": ("off",), "resid_mix": (False,),
        "parallel_from": (None,), "loop_repeats": (0,),
    }  # fmt: skip
    return _others(config, can_be)


def forbidding_rscalm(config: ModelConfig) -> dict[str, Any]:
    """The fields that seed 001's model has no place for; what LLaMA lacks, it lacks too."""
    can_be: dict[str, tuple[object, ...]] = {
        "tied": (True,), "kv_heads": (config.heads,), "head_dim": (0, config.dim / config.heads),
        "norm_eps": (RSCALM_EPS,), "yarn_factor": (1.0,), "embed_norm": (False,),
    }  # fmt: skip
    return forbidding(config) | _others(config, can_be)


def _others(config: ModelConfig, can_be: Mapping[str, tuple[object, ...]]) -> dict[str, Any]:
    return {name: getattr(config, name) for name, legal in can_be.items() if getattr(config, name) not in legal}


@torch.no_grad()
def plain(model: GPT) -> GPT:
    """The same function with every feature that can be folded into weights folded in; exact to rounding."""
    config = model.config
    tied = config.tied and not config.embed_norm
    folded = replace(
        config, norm="rms_weight", ln_scale=False, branch_scale=False, q_gain=None, embed_norm=False, tied=tied
    )
    if folded == config:
        return model
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    ones = torch.ones(config.dim, dtype=torch.float64)
    weights.setdefault("norm.weight", ones)
    for layer in range(config.layers):
        at, depth = f"blocks.{layer}.", (layer + 1) ** -0.5 if config.ln_scale else 1.0
        for norm in ("attn_norm", "mlp_norm"):
            weights[f"{at}{norm}.weight"] = weights.get(f"{at}{norm}.weight", ones) * depth
        for branch, rows in (("attn_scale", "attn.out.weight"), ("mlp_scale", "mlp.down.weight")):
            if (scale := weights.pop(at + branch, None)) is not None:
                weights[at + rows] = weights[at + rows] * scale[:, None]
        if (gain := weights.pop(f"{at}attn.q_gain", None)) is not None:
            weights[f"{at}attn.q.weight"] = (
                weights[f"{at}attn.q.weight"] * gain.repeat_interleave(config.head_width)[:, None]
            )
    if config.embed_norm:  # the head of a tied model keeps the rows as they are
        weights.setdefault("head.weight", weights["embedding.table.weight"])
        weights["embedding.table.weight"] = rms_norm(weights["embedding.table.weight"], config.norm_eps)
    same = GPT(folded).eval()
    same.load_state_dict(weights)
    return same


# -- LLaMA ----------------------------------------------------------------------------------------------------------


def llama_names(config: ModelConfig) -> dict[str, str]:
    """Our names -> theirs, for a plain model."""
    outside = {ours: theirs for ours, theirs in OUTSIDE.items() if ours != "head.weight" or not config.tied}
    return outside | {
        f"blocks.{layer}.{ours}": f"model.layers.{layer}.{theirs}"
        for layer in range(config.layers)
        for ours, theirs in BLOCK.items()
    }


def llama_config(config: ModelConfig, positions: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json for a plain model; RoPE in the spelling that every version of transformers reads."""
    scaling = None
    if config.yarn_factor > 1:
        scaling = {
            "rope_type": "yarn", "factor": config.yarn_factor, "beta_fast": config.yarn_beta_fast,
            "beta_slow": config.yarn_beta_slow, "original_max_position_embeddings": config.yarn_original,
        }  # fmt: skip
        if config.yarn_attention is not None:
            scaling["attention_factor"] = config.yarn_attention
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": config.vocab_size,
        "hidden_size": config.dim, "intermediate_size": config.hidden_width, "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads, "num_key_value_heads": config.kv_heads, "head_dim": config.head_width,
        "max_position_embeddings": positions, "rms_norm_eps": config.norm_eps, "hidden_act": "silu",
        "rope_theta": config.rope_base, "rope_scaling": scaling, "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": config.tied, "bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id if tokenizer.pad_id >= 0 else None, "torch_dtype": "float32",
    }  # fmt: skip


def from_llama_config(values: Mapping[str, Any], where: str) -> tuple[ModelConfig, int]:
    """(ours, the length it was trained with); a LLaMA that we have no place for is refused by what it is."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise BadInput(f"{where}: its RoPE is {rope!r:.60}, and no object")
    kind = rope.get("rope_type", rope.get("type", "default"))
    wanted = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    wrong = [f"{name}={values[name]}" for name, value in wanted.items() if values.get(name, value) != value]
    wrong += [f"rope_type={kind}"] if kind not in ("default", "yarn") else []
    wrong += [f"{name}={rope[name]} in RoPE" for name in rope if name not in ROPE]
    if wrong:
        raise BadInput(f"{where}: this project's model has no place for {', '.join(wrong)}")
    needed = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "max_position_embeddings")  # fmt: skip
    if missing := [name for name in needed if not isinstance(values.get(name), int)]:
        raise BadInput(f"{where}: says no {', '.join(missing)}; a LLaMA's config.json has them")
    heads = values["num_attention_heads"]
    fields: dict[str, Any] = {
        "vocab_size": values["vocab_size"], "layers": values["num_hidden_layers"], "dim": values["hidden_size"],
        "heads": heads, "kv_heads": values.get("num_key_value_heads") or heads,
        "head_dim": values.get("head_dim") or 0, "hidden": values["intermediate_size"], "norm": "rms_weight",
        "norm_eps": values.get("rms_norm_eps", RSCALM_EPS), "tied": values.get("tie_word_embeddings", False),
        "rope_base": rope.get("rope_theta", values.get("rope_theta", 10_000.0)),
        "bos_id": values.get("bos_token_id", 1),
    }  # fmt: skip
    if kind == "yarn":
        fields |= {
            "yarn_factor": rope.get("factor"), "yarn_attention": rope.get("attention_factor"),
            "yarn_original": rope.get("original_max_position_embeddings", values["max_position_embeddings"]),
            "yarn_beta_fast": rope.get("beta_fast") or 32.0, "yarn_beta_slow": rope.get("beta_slow") or 1.0,
        }  # fmt: skip
    config, positions = build(ModelConfig, [Layer(where, fields)]), values["max_position_embeddings"]
    return config, min(positions, config.yarn_original) if kind == "yarn" else positions


# -- seed 001 -------------------------------------------------------------------------------------------------------


def rscalm_weights(weights: Weights, config: ModelConfig) -> Weights:
    """Its state dict of a plain, tied, ungrouped model; the head is there under its own name, as the table."""
    out = {"tok_emb.weight": weights["embedding.table.weight"], "norm.weight": weights["norm.weight"],
           "lm_head.weight": weights["embedding.table.weight"]}  # fmt: skip
    for layer in range(config.layers):
        at = f"blocks.{layer}."
        out |= {at + theirs: weights[at + ours] for ours, theirs in RSCALM_BLOCK.items()}
        q, k, v = (weights[f"{at}attn.{part}.weight"] for part in "qkv")
        out[f"{at}attn.qkv.weight"] = torch.cat([neighbouring(q, config.heads), neighbouring(k, config.heads), v])
    return out


def from_rscalm_weights(weights: Mapping[str, torch.Tensor], config: ModelConfig, where: str) -> Weights:
    """Ours of its state dict, compiled or not; nothing is missing, nothing left over, and the head is the table."""
    left = {name.removeprefix("_orig_mod."): tensor for name, tensor in weights.items()}
    try:
        table, head = left.pop("tok_emb.weight"), left.pop("lm_head.weight", None)
        out = {"embedding.table.weight": table, "norm.weight": left.pop("norm.weight")}
        for layer in range(config.layers):
            at = f"blocks.{layer}."
            out |= {at + ours: left.pop(at + theirs) for ours, theirs in RSCALM_BLOCK.items()}
            q, k, v = left.pop(f"{at}attn.qkv.weight").chunk(3)
            out |= {f"{at}attn.q.weight": halved(q, config.heads), f"{at}attn.k.weight": halved(k, config.heads)}
            out[f"{at}attn.v.weight"] = v.clone()
    except KeyError as missing:
        raise BadInput(f"{where}: weight {missing.args[0]} is missing") from None
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"{where}: attn.qkv does not split into {config.heads} heads: {error!s:.100}") from None
    if left:
        raise BadInput(f"{where}: weight {min(left)} is not one of seed 001's model")
    if head is not None and not torch.equal(head, table):
        raise BadInput(f"{where}: lm_head differs from tok_emb, and seed 001's model ties them")
    return out


def rscalm_config(config: ModelConfig, positions: int) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size, "n_layer": config.layers, "n_head": config.heads, "d_model": config.dim,
        "ffn_mult": config.hidden_width / config.dim, "seq_len": positions, "dropout": config.dropout,
        "rope_base": config.rope_base,
    }  # fmt: skip


def from_rscalm_config(values: Mapping[str, Any], where: str) -> tuple[ModelConfig, int]:
    needed = ("vocab_size", "n_layer", "n_head", "d_model", "seq_len")
    if missing := [name for name in needed if not isinstance(values.get(name), int)]:
        raise BadInput(f"{where}: its config says no {', '.join(missing)}; a checkpoint of seed 001 has them")
    fields = {
        "vocab_size": values["vocab_size"], "layers": values["n_layer"], "dim": values["d_model"],
        "heads": values["n_head"], "kv_heads": values["n_head"], "mlp_mult": values.get("ffn_mult", 4.0),
        "dropout": values.get("dropout", 0.0), "rope_base": values.get("rope_base", 10_000.0),
        "norm": "rms_weight", "norm_eps": RSCALM_EPS,
    }  # fmt: skip
    return build(ModelConfig, [Layer(where, fields)]), values["seq_len"]


def neighbouring(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of q or k whose pairs are (i, i + C/2) in each head -> the same with pairs (2i, 2i + 1)."""
    width, columns = rows.shape
    return rows.view(heads, 2, width // heads // 2, columns).transpose(1, 2).reshape(width, columns)


def halved(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """The way back from `neighbouring`."""
    width, columns = rows.shape
    return rows.view(heads, width // heads // 2, 2, columns).transpose(1, 2).reshape(width, columns)
