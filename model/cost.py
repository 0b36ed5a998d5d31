"""What a ModelConfig costs: exact parameters and FLOPs a token. Pure functions, no tensors. Memory: model/memory.py.

FLOPs a token: 6·(N - input embedding) + 12·layers·D·T, attention counted as if it were not causal (the field's
convention; the causal figure beside it). The head's product counts, tied or not; looped layers as often as they run.
"""

from model.config import ModelConfig


def parameters(config: ModelConfig) -> dict[str, int]:
    """By kind, as `model.gpt.parameter_kind` names them; their sum is the model's exact number."""
    width, heads, queries, keys = config.dim, config.heads, *projections(config)
    matrices = 3 if config.mlp == "swiglu" else 2
    parallel = range(config.layers) if config.parallel_from is None else range(config.parallel_from)
    sequential = len(parallel)  # layers with a norm of their own before the MLP
    control = config.layers * (2 * width * config.branch_scale + 2 * width * config.resid_mix)
    control += config.layers * heads if config.q_gain is not None else 0
    control += (config.layers + sequential + 1) * width if config.norm == "rms_weight" else 0
    control += len(config.order()) // 2 * width * {"off": 0, "plain": 1, "gated": 2}[config.skips]
    control += {"off": 0, "static": width, "gated": 1 + min(12, width)}[config.smear]
    buckets = config.bigram_buckets
    return {
        "embed": config.vocab_size * width,
        "head": 0 if config.tied else config.vocab_size * width,
        "bigram": buckets * config.bigram_dim + config.bigram_dim * width if buckets else 0,
        "attn": config.layers * width * (2 * queries + 2 * keys),
        "mlp": config.layers * matrices * width * config.hidden_width,
        "control": control + (1 if buckets else 0),
    }


def flops_per_token(config: ModelConfig, seq_len: int) -> int:
    """Forward and backward, attention as if not causal."""
    return _matrix_flops(config) + 2 * _attention_flops(config, seq_len)


def causal_flops_per_token(config: ModelConfig, seq_len: int) -> int:
    """The same with attention's upper half left out."""
    return _matrix_flops(config) + _attention_flops(config, seq_len)


def scoring_flops(config: ModelConfig, context: int, last: int) -> int:
    """Forward, of one window, its last positions alone scored: the others are keys and values to them. Causal."""
    width, (queries, keys), counts = config.dim, projections(config), parameters(config)
    asking, asked = 2 * width * queries + counts["mlp"] // config.layers, 2 * width * keys  # products a position
    products = context * config.bigram_dim * width if config.bigram_buckets else 0
    for positions in [context] * (len(config.order()) - 1) + [last]:
        pairs = positions * (2 * context - positions + 1) // 2  # of a query and a key that it sees
        products += positions * asking + context * asked + 2 * pairs * queries
    return 2 * (products + last * config.vocab_size * width)


def projections(config: ModelConfig) -> tuple[int, int]:
    return config.heads * config.head_width, config.kv_heads * config.head_width


def _matrix_flops(config: ModelConfig) -> int:
    counts = parameters(config)
    again = len(config.order()) - config.layers  # layers run once more by loops
    looped = (counts["attn"] + counts["mlp"]) // config.layers * again
    head = counts["embed"] if config.tied else 0  # the table once more, as the head
    looked_up = counts["embed"] + config.bigram_buckets * config.bigram_dim
    return 6 * (sum(counts.values()) - looked_up + head + looped)


def _attention_flops(config: ModelConfig, seq_len: int) -> int:
    return 6 * len(config.order()) * projections(config)[0] * seq_len
