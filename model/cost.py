"""What a ModelConfig costs: exact parameters and FLOPs per token. Pure functions, no tensors. Memory: model/memory.py.

FLOPs per token: 6·(N - input embedding) + 12·layers·D·T, attention counted as if it were not causal (the field's
convention; the causal figure beside it). The head's product counts, tied or not; looped layers as often as they run.
"""

from model.config import ModelConfig


def parameters(config: ModelConfig) -> dict[str, int]:
    """By kind, as `model.gpt.parameter_kind` names them; their sum is the model's exact number."""
    width = config.dim
    queries, keys = projections(config)
    matrices = 3 if config.mlp == "swiglu" else 2
    buckets = config.bigram_buckets
    control = len(config.order()) // 2 * width * {"off": 0, "plain": 1, "gated": 2}[config.skips]
    control += {"off": 0, "static": width, "gated": 1 + config.gate_width}[config.smear]
    control += 1 if buckets else 0
    control += (2 * config.match_count + 1) * (config.match + 1) * width if config.match else 0
    attending = len(config.attending)
    control += (attending + config.layers) * width if config.branch_scale else 0
    control += 2 * config.layers * width if config.resid_mix else 0
    control += attending * config.heads if config.q_gain is not None else 0
    control += attending * _gate(config)
    control += len(config.value_tables) * config.kv_heads * config.gate_width
    control += 6 * config.layers if config.parallel_lanes else 0
    if config.norm == "rms_weight":
        control += (attending + config.layers - len(config.sharing_norms) + 1) * width
    return {
        "embed": config.vocab_size * (width + len(config.value_tables) * keys),
        "head": 0 if config.tied else config.vocab_size * width,
        "bigram": buckets * config.bigram_dim + config.bigram_dim * width if buckets else 0,
        "attn": attending * width * (2 * queries + 2 * keys),
        "mlp": config.layers * matrices * width * config.hidden_width,
        "control": control,
    }


def flops_per_token(config: ModelConfig, seq_len: int) -> int:
    """Forward and backward, attention as if not causal."""
    return _matrix_flops(config) + 2 * _attention_flops(config, seq_len)


def causal_flops_per_token(config: ModelConfig, seq_len: int) -> int:
    """The same with attention's upper half left out."""
    return _matrix_flops(config) + _attention_flops(config, seq_len)


def scoring_flops(config: ModelConfig, context: int, last: int) -> int:
    """Forward, of one window of which only the last positions are scored, causal attention."""
    width = config.dim
    queries, keys = projections(config)
    products = context * config.bigram_dim * width if config.bigram_buckets else 0
    if config.match:
        products += ((context + last) * config.match_count + context) * (config.match + 1) * width
    order = config.order()
    final = config.final_attention(order)
    mlp = parameters(config)["mlp"] // config.layers
    for step, layer in enumerate(order):
        positions = context if step < final else last
        products += positions * mlp
        if layer in config.attending:
            pairs = positions * (2 * context - positions + 1) // 2  # of a query and a key that it sees
            products += 2 * width * (positions * queries + context * keys) + 2 * pairs * queries
            products += positions * _gate(config)
        if layer in config.value_tables:
            products += context * config.kv_heads * config.gate_width
    return 2 * (products + last * config.vocab_size * width)


def projections(config: ModelConfig) -> tuple[int, int]:
    return config.heads * config.head_width, config.kv_heads * config.head_width


def _gate(config: ModelConfig) -> int:
    """Weights of a layer's gate on its heads."""
    return config.heads * config.gate_width if config.attn_gate else 0


def _matrix_flops(config: ModelConfig) -> int:
    counts = parameters(config)
    repeats = len(config.order()) - config.layers  # of layers, by loops
    attending = _attentions(config) - len(config.attending)
    looped = counts["mlp"] // config.layers * repeats
    looped += (counts["attn"] // max(1, len(config.attending)) + _gate(config)) * attending
    head = config.vocab_size * config.dim if config.tied else 0  # the table once more, as the head
    tables = counts["embed"] + config.bigram_buckets * config.bigram_dim  # rows are looked up, not multiplied
    return 6 * (sum(counts.values()) - tables + head + looped)


def _attention_flops(config: ModelConfig, seq_len: int) -> int:
    return 6 * _attentions(config) * projections(config)[0] * seq_len


def _attentions(config: ModelConfig) -> int:
    """How many attentions run, loops included."""
    return sum(layer in config.attending for layer in config.order())
