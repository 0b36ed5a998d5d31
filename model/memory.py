"""What training and decoding a ModelConfig take of a device's memory. Pure functions, no tensors.

What stays (weights, gradients, optimizer state, average), and the larger of what a micro-batch keeps for its backward
and what the optimizer's step works in. Activations are counted operation by operation, as eager autograd saves them
(tests hold the count to PyTorch's own); a compiled model saves some of it, a fragmented allocator takes more: an
estimate, ±25 %.
"""

from dataclasses import dataclass
from typing import Literal

from model.config import ModelConfig
from model.cost import causal_flops_per_token, flops_per_token, parameters, projections

Shard = Literal["ddp", "zero1", "zero2", "fsdp"]
# What each splits over devices. The trainer has ddp and fsdp; the other two are what others have.
SPLIT: dict[Shard, tuple[str, ...]] = {
    "ddp": (),
    "zero1": ("optimizer",),
    "zero2": ("optimizer", "gradients"),
    "fsdp": ("optimizer", "gradients", "weights", "average"),
}
LOGIT_BYTES = 12  # a token and vocabulary entry: log-softmax, its gradient, the logits' gradient, all fp32
MLP_KEEPS = {"swiglu": 4, "leaky_relu2": 3, "relu2": 2, "silu": 2, "gelu": 2}  # tensors of width F
TURNING_BYTES = 16  # a number of the matrices that Muon turns at once: their fp32 stack, and bf16 products
BF16, FP32 = 2, 4


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """How a trainer holds its numbers. The defaults are train_gpt.py's on GPUs."""

    devices: int = 1
    shard: Shard = "ddp"
    muon: bool = True  # for matrices; else AdamW for all
    average: bool = False  # fp32 sums of an EMA or SWA
    checkpointing: bool = False
    loss_chunk: int = 0  # tokens whose logits exist at a time; 0: all of a micro-batch
    mixed: bool = True  # bf16 products beside fp32 weights; else all fp32
    table_bytes: int = FP32  # of a number of the token table, of its gradient and of each of its two moments
    kept_widths: float = 0.0  # bytes over D that a block keeps a token, where somebody measured; 0: counted

    @property
    def value_bytes(self) -> int:
        return BF16 if self.mixed else FP32

    @property
    def stream_bytes(self) -> int:
        """Of a number of the residual stream: autocast leaves it fp32, FSDP2's policy casts it."""
        return BF16 if self.mixed and self.shard == "fsdp" and self.devices > 1 else FP32


# The layout that seed 004 trains with (optimizer state alone is split; a bf16 table), and 44.6·D bytes a token and
# layer, which foretells its one measured run (depth 32, batch 8 on 80 GB: 79.8 of 78 GB).
NANOCHAT = Trainer(shard="zero1", table_bytes=BF16, kept_widths=44.6)


def training_parts(config: ModelConfig, trainer: Trainer, rows: int, seq_len: int) -> dict[str, int]:
    """Bytes on one device by part, for micro-batches of so many rows; `peak_bytes` says which are there together."""
    counts, tokens = parameters(config), rows * seq_len
    total, matrices = sum(counts.values()), counts["attn"] + counts["mlp"]
    table, others = counts["embed"], total - counts["embed"]
    split = {part: trainer.devices if part in SPLIT[trainer.shard] else 1 for part in SPLIT["fsdp"]}
    held = FP32 * others + trainer.table_bytes * table
    moments = (
        2 * (FP32 * (others - matrices) + trainer.table_bytes * table) + (1 + (not trainer.muon)) * FP32 * matrices
    )
    chunk = min(tokens, trainer.loss_chunk or tokens)
    capped = FP32 * (config.softcap > 0 and not trainer.kept_widths)  # what tanh keeps, unless it was fused away
    # A chunked loss makes its gradients on the way: those of the head's input, and of the head in fp32.
    again = 2 * tokens * config.dim * trainer.stream_bytes + FP32 * config.vocab_size * config.dim
    return {
        "weights": held // split["weights"],
        "gradients": held // split["gradients"],
        "optimizer": moments // split["optimizer"],
        "average": FP32 * total // split["average"] if trainer.average else 0,
        "copies": _copies(config, trainer),
        "activations": _activations(config, trainer, tokens, seq_len),
        "logits": chunk * config.vocab_size * (LOGIT_BYTES + capped) + again * (chunk < tokens),
        "step": _step(config, trainer) if trainer.shard in ("ddp", "fsdp") else 0,
    }


def peak_bytes(parts: dict[str, int]) -> int:
    """What stays, and the micro-batch or the step, whichever is larger: they are never there together."""
    passing = parts["copies"] + parts["activations"] + parts["logits"]
    return parts["weights"] + parts["gradients"] + parts["optimizer"] + parts["average"] + max(passing, parts["step"])


def max_rows(config: ModelConfig, trainer: Trainer, seq_len: int, memory_bytes: float) -> int:
    """The largest micro-batch that fits a device; 0: not even one row does."""

    def fits(rows: int) -> bool:
        return peak_bytes(training_parts(config, trainer, rows, seq_len)) <= memory_bytes

    low, high = 0, 1
    while fits(high) and high < 1 << 24:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def cache_bytes_per_token(config: ModelConfig, value_bytes: int = BF16) -> int:
    """Of keys and values, for decoding."""
    return 2 * projections(config)[1] * len(config.order()) * value_bytes


def block_keeps(config: ModelConfig, seq_len: int) -> tuple[int, int]:
    """(numbers of the residual stream, other numbers) that a block keeps a token for its backward, on average."""
    width, queries, keys = config.dim, *projections(config)
    norms = 1 if config.parallel_from is not None else 2  # exact where all layers are alike
    stream = norms * width * (config.norm != "none") + width * config.resid_mix
    values = norms * width * (2 if config.norm == "rms_weight" else 1)  # what the matrices read
    values += (queries + keys) * config.qk_norm + queries * (config.q_gain is not None)
    values += queries + 2 * keys + queries * (2 if config.pos == "rope" else 1)  # attention's inputs and output
    values += queries * config.xsa // config.layers + seq_len * config.doc_mask
    values += 2 * width * config.branch_scale + 2 * width * (config.dropout > 0)
    values += width * (config.skips == "gated") + MLP_KEEPS[config.mlp] * config.hidden_width
    return stream, values


def summary(config: ModelConfig, trainer: Trainer, rows: int, seq_len: int) -> dict[str, int | dict[str, int]]:
    """All of the above for one training setting on one device, by the names that commands answer with."""
    counts, memory = parameters(config), training_parts(config, trainer, rows, seq_len)
    return {
        "params": sum(counts.values()),
        "params_by_kind": counts,
        "flops_per_token": flops_per_token(config, seq_len),
        "flops_per_token_causal": causal_flops_per_token(config, seq_len),
        "memory_bytes": peak_bytes(memory),
        "memory_by_part": memory,
    }


def _activations(config: ModelConfig, trainer: Trainer, tokens: int, seq_len: int) -> int:
    stream, values = block_keeps(config, seq_len)
    block = stream * trainer.stream_bytes + values * trainer.value_bytes
    if trainer.kept_widths:
        block = int(trainer.kept_widths * config.dim)
    bigram = config.bigram_dim + config.dim if config.bigram_buckets else 0
    once = config.dim * (config.embed_norm + {"off": 0, "static": 2, "gated": 3}[config.smear]) + bigram
    once += config.dim * (3 if config.norm == "rms_weight" else 2)  # the last norm and the head's input
    layers, kept = len(config.order()), trainer.stream_bytes * once * (not trainer.kept_widths)
    if trainer.checkpointing:  # every block's input, and one block at a time in full
        entry = BF16 if trainer.kept_widths else trainer.stream_bytes
        return int(tokens * (layers * config.dim * entry + block + kept))
    return int(tokens * (layers * block + kept))


def _copies(config: ModelConfig, trainer: Trainer) -> int:
    """bf16 weights beside the fp32 ones: all that products read, or what FSDP2 has gathered at a time."""
    counts = parameters(config)
    block = (counts["attn"] + counts["mlp"]) // config.layers
    rest = sum(counts.values()) - block * config.layers  # FSDP2's outermost unit
    if trainer.shard == "fsdp" and trainer.devices > 1:  # two blocks (one comes early), a gradient and its fp32 sum
        return trainer.value_bytes * (2 * block + rest) + (trainer.value_bytes + FP32) * max(block, rest)
    read = counts["attn"] + counts["mlp"] + counts["head"] + counts["embed"] * config.tied
    return BF16 * read if trainer.mixed else 0


def _step(config: ModelConfig, trainer: Trainer) -> int:
    """What averaging gradients and turning matrices works in, once a micro-batch's tensors are gone."""
    counts, devices = parameters(config), trainer.devices
    matrices = counts["attn"] + counts["mlp"] if trainer.muon else 0
    largest = max(counts["attn"], counts["mlp"]) // 2 if trainer.muon else 0  # matrices of one shape, turned at once
    turning = (FP32 * matrices + TURNING_BYTES * largest) // devices
    if trainer.shard == "fsdp" and devices > 1:  # updates, out, in, whole, back: each this device's share
        return 5 * FP32 * matrices // devices + turning
    averaging = FP32 * sum(counts.values()) if devices > 1 else 0
    return max(averaging, FP32 * matrices * (2 if devices > 1 else 1) + turning)
