"""A plain model of ours as LlamaForCausalLM: names of weights and config.json. Tensors and dicts, no files.

Where every feature is plain, our model is a LLaMA: the same pairs (i, i + C/2) in RoPE, the same sign, the same
grouping of heads. So an export only renames weights, and writes ones for a norm that has none.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from base.config import Layer, build
from base.errors import BadInput
from data.tokenizer import Tokenizer
from model.config import ModelConfig

Weights = dict[str, torch.Tensor]

# Names of weights outside and inside a block, ours -> LLaMA's.
OUTSIDE = {
    "embedding.table": "model.embed_tokens", "norm": "model.norm", "head": "lm_head",
}  # fmt: skip
BLOCK = {
    "attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm",
    "attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj",
    "attn.out": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj",
}  # fmt: skip
# Fields of config.json and of its rope_scaling, LLaMA's -> ours.
FIELDS = {
    "vocab_size": "vocab_size", "num_hidden_layers": "layers", "hidden_size": "dim", "intermediate_size": "hidden",
    "num_attention_heads": "heads", "num_key_value_heads": "kv_heads", "head_dim": "head_dim",
    "rms_norm_eps": "norm_eps", "rope_theta": "rope_base", "tie_word_embeddings": "tied", "bos_token_id": "bos_id",
}  # fmt: skip
YARN_FIELDS = {
    "factor": "yarn_factor", "original_max_position_embeddings": "yarn_original", "attention_factor": "yarn_attention",
    "beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow",
}  # fmt: skip
# Of training, or parts of a feature that has a switch of its own: a trained model's function does not depend on them.
NO_EFFECT = frozenset({
    "dropout", "init", "init_std", "embed_std", "mlp_mult", "bigram_dim", "smear_bos_mask", "loop_first", "loop_last",
    "loop_start", "match_count", "yarn_original", "yarn_attention", "yarn_beta_fast", "yarn_beta_slow",
})  # fmt: skip


def write_out_sizes(config: ModelConfig) -> ModelConfig:
    """The same model with the sizes that zeros default to."""
    rotated = config.rope_dims or config.head_width
    return replace(config, head_dim=config.head_width, hidden=config.hidden_width, rope_dims=rotated)


def require_supported(config: ModelConfig, kept: ModelConfig, where: str, whose: str) -> None:
    """Refuse a model of which a format keeps less than matters: a feature that is new to us is refused, not lost."""
    values = vars(write_out_sizes(config))
    others = vars(write_out_sizes(kept))
    lost = [f"{name}={values[name]}" for name in values if name not in NO_EFFECT and values[name] != others[name]]
    if lost:
        raise BadInput(f"{where}: {whose} has no place for {', '.join(lost)}; only a model without can be written")


def kept_by_llama(config: ModelConfig, where: str) -> ModelConfig:
    fields = {name: getattr(config, name) for name in (*FIELDS.values(), *YARN_FIELDS.values())}
    norm = "rms" if config.norm == "rms" else "rms_weight"
    return build(ModelConfig, [Layer(where, fields | {"norm": norm})])


def llama_weights(weights: Mapping[str, torch.Tensor], config: ModelConfig) -> Weights:
    """The state dict of a supported model under LLaMA's names. A tied head has no weight of its own."""
    names = dict(OUTSIDE)
    if config.tied:
        del names["head"]
    for layer in range(config.layers):
        names |= {f"blocks.{layer}.{ours}": f"model.layers.{layer}.{theirs}" for ours, theirs in BLOCK.items()}
    ones = torch.ones(config.dim)  # for norm=rms, which has no weights
    return {f"{theirs}.weight": weights.get(f"{ours}.weight", ones).clone() for ours, theirs in names.items()}


def llama_config(config: ModelConfig, positions: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json of a supported model, with RoPE in the spelling that every version of transformers reads."""
    explicit = write_out_sizes(config)
    scaling = None
    if config.yarn_factor > 1:
        yarn = {theirs: getattr(config, ours) for theirs, ours in YARN_FIELDS.items()}
        scaling = {"rope_type": "yarn"} | {name: value for name, value in yarn.items() if value is not None}
    return {theirs: getattr(explicit, ours) for theirs, ours in FIELDS.items()} | {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float32",
        "attention_bias": False, "mlp_bias": False, "max_position_embeddings": positions, "rope_scaling": scaling,
        "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id if tokenizer.pad_id >= 0 else None,
    }  # fmt: skip
