"""A plain model of ours as LlamaForCausalLM: names of weights and config.json, both ways. Tensors and dicts, no files.

Where every feature is plain, our model is a LLaMA: the same pairs (i, i + C/2) in RoPE, the same sign, the same
grouping of heads, so an export only renames weights. `fold` first moves into weights what can be moved there: norms
without weight, branch scales, the embedding's norm, a query gain, the depth scale. `unsupported_fields` names the rest.
"""

from collections.abc import Mapping, Set
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
FOLDED = frozenset({"norm", "ln_scale", "branch_scale", "q_gain", "embed_norm"})  # into weights, by `fold`
# Of training, or parts of a feature that is off.
NO_EFFECT = frozenset({
    "dropout", "init", "init_std", "embed_std", "mlp_mult", "bigram_dim", "smear_bos_mask", "loop_first", "loop_last",
    "loop_start",
})  # fmt: skip
LLAMA_FIELDS = frozenset({*FIELDS.values(), *YARN_FIELDS.values(), *FOLDED, *NO_EFFECT})


def unsupported_fields(config: ModelConfig, supported: Set[str] = LLAMA_FIELDS) -> dict[str, object]:
    """The fields outside `supported` that are not off, with their values: a feature new to us is refused, not lost."""
    off = vars(ModelConfig())
    found = {name: value for name, value in vars(config).items() if name not in supported and value != off[name]}
    if config.rope_dims == config.head_width:
        found.pop("rope_dims", None)
    if config.norm == "none":  # `fold` makes weights of ones for a norm, and here there is no norm
        found["norm"] = "none"
    return found


@torch.no_grad()
def fold(model: GPT) -> GPT:
    """The same function, exact to rounding, by a model whose scales, gains and embedding norm are in its weights."""
    config = model.config
    plain = replace(
        config, norm="rms_weight", ln_scale=False, branch_scale=False, q_gain=None, embed_norm=False,
        tied=config.tied and not config.embed_norm,
    )  # fmt: skip
    if plain == config:
        return model
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    ones = torch.ones(config.dim, dtype=torch.float64)
    weights.setdefault("norm.weight", ones)
    for layer in range(config.layers):
        at = f"blocks.{layer}."
        depth_scale = (layer + 1) ** -0.5 if config.ln_scale else 1.0
        for norm in ("attn_norm.weight", "mlp_norm.weight"):
            weights[at + norm] = weights.get(at + norm, ones) * depth_scale
        if config.branch_scale:  # a scale per output channel is a scale of the last matrix's rows
            scale_rows(weights, f"{at}attn.out.weight", weights.pop(f"{at}attn_scale"))
            scale_rows(weights, f"{at}mlp.down.weight", weights.pop(f"{at}mlp_scale"))
        if config.q_gain is not None:  # one gain per head
            gain = weights.pop(f"{at}attn.q_gain")
            scale_rows(weights, f"{at}attn.q.weight", gain.repeat_interleave(config.head_width))
    if config.embed_norm:  # the head of a tied model keeps the rows without the norm
        weights.setdefault("head.weight", weights["embedding.table.weight"])
        weights["embedding.table.weight"] = rms_norm(weights["embedding.table.weight"], config.norm_eps)
    folded = GPT(plain).eval()
    folded.load_state_dict(weights)
    return folded


def scale_rows(weights: Weights, name: str, scales: torch.Tensor) -> None:
    weights[name] = weights[name] * scales[:, None]


def llama_names(config: ModelConfig) -> dict[str, str]:
    """Names of a folded model's weights, ours -> LLaMA's. A tied head has no weight of its own."""
    names = dict(OUTSIDE)
    if config.tied:
        del names["head"]
    for layer in range(config.layers):
        names |= {f"blocks.{layer}.{ours}": f"model.layers.{layer}.{theirs}" for ours, theirs in BLOCK.items()}
    return {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in names.items()}


def llama_config(config: ModelConfig, positions: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json of a folded model, with RoPE in the spelling that every version of transformers reads."""
    explicit = replace(config, head_dim=config.head_width, hidden=config.hidden_width)
    scaling = None
    if config.yarn_factor > 1:
        yarn = {theirs: getattr(config, ours) for theirs, ours in YARN_FIELDS.items()}
        scaling = {"rope_type": "yarn"} | {name: value for name, value in yarn.items() if value is not None}
    return {theirs: getattr(explicit, ours) for theirs, ours in FIELDS.items()} | {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float32",
        "attention_bias": False, "mlp_bias": False, "max_position_embeddings": positions, "rope_scaling": scaling,
        "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id if tokenizer.pad_id >= 0 else None,
    }  # fmt: skip


def read_llama_config(values: Mapping[str, Any], tokenizer: Tokenizer, where: str) -> tuple[ModelConfig, int]:
    """(our config, the length it was trained with) of a config.json that `llama_config` wrote.

    Any other is refused: what the config read from it would not write again is a feature that we might miss.
    """
    scaling = values.get("rope_scaling")
    yarn = scaling if isinstance(scaling, dict) else {}
    fields = {ours: values[theirs] for theirs, ours in FIELDS.items() if theirs in values}
    fields |= {ours: yarn[theirs] for theirs, ours in YARN_FIELDS.items() if theirs in yarn}
    config = build(ModelConfig, [Layer(where, {"norm": "rms_weight", **fields})])
    positions = values.get("max_position_embeddings")
    if not isinstance(positions, int) or positions < 1:
        raise BadInput(f"{where}: max_position_embeddings is {positions!r:.40}; a LLaMA has 1 or more")
    expected = llama_config(config, positions, tokenizer)
    other = sorted(name for name in {*expected, *values} if values.get(name) != expected.get(name))
    if other:
        found = ", ".join(f"{name}={values.get(name)!r:.60}" for name in other)
        raise BadInput(f"{where}: {found}: tools.export_llama does not write this, and only its folders are read")
    return config, min(positions, config.yarn_original) if yarn else positions
