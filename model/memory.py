"""Estimate the device memory that training a ModelConfig takes. Pure functions, no tensors.

The peak is what stays (weights, gradients, optimizer state, average) plus the larger of a micro-batch's tensors and
the optimizer step's. Activations are counted operation by operation, as eager autograd saves them; tests compare the
count with PyTorch's own. A compiled model saves less, a fragmented allocator takes more: an estimate, ±25 %.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

from model.config import ModelConfig
from model.cost import parameters, projections

Shard = Literal["ddp", "fsdp"]
MOST_ROWS = 1 << 24
BF16 = 2
FP32 = 4
LOGIT_BYTES = 3 * FP32  # per logit: log-softmax, its gradient, the logits' gradient
MUON_BYTES = 16  # per number of the largest stack of matrices that Muon orthogonalizes: fp32 stack and bf16 products
MLP_KEEPS = {"swiglu": 4, "leaky_relu2": 3, "relu2": 2, "silu": 2, "gelu": 2}  # tensors of width F


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """How train_gpt.py holds its numbers; the defaults are one GPU's."""

    devices: int = 1
    shard: Shard = "ddp"
    replicate: int = 1  # under fsdp: groups of devices, each of which splits all weights over its own
    muon: bool = True  # for matrices; else AdamW for everything
    average: bool = False  # fp32 sums of an EMA or SWA
    checkpointing: bool = False
    loss_chunk: int = 0  # tokens whose logits exist at a time; 0: all of a micro-batch
    mixed: bool = True  # bf16 products beside fp32 weights; else all fp32

    @property
    def shards(self) -> int:
        """Devices that one copy of the weights is split over."""
        return self.devices // self.replicate if self.shard == "fsdp" else 1

    @property
    def is_split(self) -> bool:
        return self.shards > 1

    @property
    def value_bytes(self) -> int:
        return BF16 if self.mixed else FP32


def training_parts(config: ModelConfig, trainer: Trainer, rows: int, seq_len: int) -> dict[str, int]:
    """Bytes on one device by part, for micro-batches of `rows`; `peak_bytes` knows which exist at the same time."""
    counts = parameters(config)
    total = sum(counts.values())
    matrices = counts["attn"] + counts["mlp"]
    moments = 2 * (total - matrices) + (1 if trainer.muon else 2) * matrices
    devices = trainer.shards
    return {
        "weights": FP32 * total // devices,
        "gradients": FP32 * total // devices,
        "optimizer": FP32 * moments // devices,
        "average": FP32 * total // devices if trainer.average else 0,
        "forbidden": config.vocab_size**2 if config.canonical else 0,
        "copies": _copies(config, trainer),
        "activations": _activations(config, trainer, rows * seq_len, seq_len),
        "logits": _logits(config, trainer, rows * seq_len),
        "step": _step(config, trainer),
    }


def peak_bytes(parts: dict[str, int]) -> int:
    """What stays, plus the micro-batch or the optimizer step, whichever is larger: they never exist together."""
    stays = sum(parts[name] for name in ("weights", "gradients", "optimizer", "average", "forbidden"))
    return stays + max(parts["copies"] + parts["activations"] + parts["logits"], parts["step"])


def max_rows(config: ModelConfig, trainer: Trainer, seq_len: int, memory_bytes: float) -> int:
    """The largest micro-batch that fits on a device; 0: not even one row does."""

    def peak(rows: int) -> int:
        return peak_bytes(training_parts(config, trainer, rows, seq_len))

    return bisect_right(range(1, MOST_ROWS), memory_bytes, key=peak)


def _activations(config: ModelConfig, trainer: Trainer, tokens: int, seq_len: int) -> int:
    """What blocks save for their backward: numbers of the residual stream, and others, per token."""
    width = config.dim
    queries, keys = projections(config)
    normed = width * (len(config.attending) + config.layers - len(config.sharing_norms)) // config.layers
    stream = normed if config.norm != "none" else 0
    stream += width if config.resid_mix else 0
    values = normed + 2 * queries + 2 * keys + MLP_KEEPS[config.mlp] * config.hidden_width
    values += normed if config.norm == "rms_weight" else 0
    values += queries if config.pos == "rope" else 0
    values += queries + keys if config.qk_norm else 0
    values += queries if config.q_gain is not None else 0
    values += queries * config.xsa // config.layers
    values += config.heads + queries * config.xsa // config.layers if config.attn_gate else 0
    if config.parallel_lanes:
        values += 2 * width * (config.layers - (config.parallel_from or 0)) // config.layers
    values += seq_len if config.doc_mask else 0
    values += 2 * width if config.branch_scale else 0
    values += 2 * width if config.dropout else 0
    values += width if config.skips == "gated" else 0
    block = stream * trainer.value_bytes + values * trainer.value_bytes  # as if every layer had attention
    layers = len(config.order())
    once = width * {"off": 0, "static": 2, "gated": 3}[config.smear]
    once += width * (3 if config.norm == "rms_weight" else 2)  # the last norm and the head's input
    once += width if config.embed_norm else 0
    once += config.bigram_dim + width if config.bigram_buckets else 0
    if trainer.checkpointing:  # every block's input, and one block at a time in full
        return tokens * ((layers * width + once) * trainer.value_bytes + block)
    return tokens * (layers * block + once * trainer.value_bytes)


def _logits(config: ModelConfig, trainer: Trainer, tokens: int) -> int:
    per_logit = LOGIT_BYTES + FP32 if config.softcap else LOGIT_BYTES  # tanh keeps its output
    chunk = min(tokens, trainer.loss_chunk or tokens)
    size = chunk * config.vocab_size * per_logit
    if chunk < tokens:  # a chunked loss makes its gradients on the way: of the head's input, and the head's own in fp32
        size += 2 * tokens * config.dim * trainer.value_bytes + FP32 * config.vocab_size * config.dim
    return size


def _copies(config: ModelConfig, trainer: Trainer) -> int:
    """bf16 weights beside the fp32 ones: all that products read, or what FSDP2 has gathered at a time."""
    counts = parameters(config)
    matrices = counts["attn"] + counts["mlp"]
    if trainer.is_split:  # two blocks (the next comes early), a gradient and its fp32 sum
        block = matrices // config.layers
        rest = sum(counts.values()) - block * config.layers  # FSDP2's outermost unit
        return trainer.value_bytes * (2 * block + rest) + (trainer.value_bytes + FP32) * max(block, rest)
    head = config.vocab_size * config.dim
    return BF16 * (matrices + head) if trainer.mixed else 0


def _step(config: ModelConfig, trainer: Trainer) -> int:
    """What averaging gradients and Muon work in, once a micro-batch's tensors are gone."""
    counts = parameters(config)
    devices = trainer.shards if trainer.is_split else trainer.devices
    averaging = FP32 * sum(counts.values()) if devices > 1 and not trainer.is_split else 0
    if not trainer.muon:
        return averaging
    matrices = counts["attn"] + counts["mlp"]
    largest = max(counts["attn"], counts["mlp"]) // 2  # matrices of one shape, orthogonalized together
    muon = (FP32 * matrices + MUON_BYTES * largest) // devices
    if trainer.is_split:  # updates, out, in, complete, back: each this device's share
        return muon + 5 * FP32 * matrices // devices
    return max(averaging, muon + FP32 * matrices * (2 if devices > 1 else 1))
