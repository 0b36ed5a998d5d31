"""A run's config and a number of devices -> what it will take. Pure: tools.plan has read whatever had to be read.

    answer = plan(config, Plan(gpu=gpu_named("h100"), gpus=8))

MFU counts the model's FLOPs alone, attention as if not causal; what checkpointing computes again is not among them.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from base.cli import Answer
from base.errors import BadInput
from engine.config import micro_rows
from model.config import ModelConfig
from model.cost import causal_flops_per_token, flops_per_token, parameters
from model.gpt import GPT, parameter_kind
from model.memory import (
    NANOCHAT,
    SPLIT,
    Shard,
    Trainer,
    cache_bytes_per_token,
    max_rows,
    peak_bytes,
    training_parts,
)
from quant.bits import parse_bits
from run_config import RunConfig
from tools.planning.gpus import Gpu

LOSS_CHUNK = 4096  # tokens whose logits exist at a time, where the loss is chunked
STEP_BYTES = 2  # of the fp16 step that each row of integers has
WAYS = ((False, False), (True, False), (True, True))  # checkpointing, chunked loss


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a config does not say."""

    gpu: Gpu
    gpus: int = 1
    mfu: float = 0.5
    usd_per_hour: float | None = None  # of one device; None: the table's
    shard: Shard | None = None  # None: the config's
    nanochat: bool = False  # the memory layout of seed 004's trainer, not of ours
    tokens: int | None = None
    ratio: float | None = None  # tokens a parameter
    shard_tokens: float = 250e6 / 4.8  # of a data shard: seed 004's 250 million characters, 4.8 of them a token
    shards: int = 1822  # that there are: seed 004's
    epochs: int | None = None  # at most so many passes over them

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise BadInput(f"--gpus {self.gpus}: a run needs at least one; use 1 or more")
        if not 0 < self.mfu <= 1:
            raise BadInput(f"--mfu {self.mfu:g}: a share of the peak; use more than 0 and at most 1, such as 0.5")
        for flag, value in (
            ("--rate", self.usd_per_hour), ("--tokens", self.tokens), ("--ratio", self.ratio),
            ("--shard-tokens", self.shard_tokens), ("--shards", self.shards), ("--epochs", self.epochs),
        ):  # fmt: skip
            if value is not None and not 0 < value < math.inf:
                raise BadInput(f"{flag} {value:g}: must be a number above 0")


def plan(config: RunConfig, wanted: Plan) -> Answer:
    model, train = config.model, config.train
    counts, gpu, gpus = parameters(model), wanted.gpu, wanted.gpus
    rows, micro_batches = micro_rows(train, gpus)
    trainer = _trainer(config, wanted)
    _require_even(model, trainer)
    flops = flops_per_token(model, train.seq_len)
    speed = gpus * gpu.flops * wanted.mfu / flops  # tokens a second
    tokens, because = _tokens(config, wanted, speed)
    steps = math.ceil(tokens / train.batch_tokens)
    _require_reachable(config, wanted, steps)
    hours = tokens / speed / 3600
    rate = wanted.usd_per_hour or gpu.usd_per_hour
    layouts = [_layout(model, t, rows, train.seq_len, gpu) for t in _layouts(trainer)]
    own, sharded = _layout(model, trainer, rows, train.seq_len, gpu), layouts[-1]
    params = sum(counts.values())
    tied = params - counts["head"]
    data_shards = tokens / wanted.shard_tokens
    return {
        "params": params,
        "params_tied": tied,
        "params_untied": tied + counts["embed"],
        "params_by_kind": counts,
        "flops_per_token": flops,
        "flops_per_token_causal": causal_flops_per_token(model, train.seq_len),
        "tokens": tokens,
        "tokens_from": because,
        "tokens_per_param": tokens / params,
        "total_flops": flops * tokens,
        "tokens_per_step": train.batch_tokens,
        "sequences_per_step": train.batch_tokens // train.seq_len,
        "rows": rows,
        "micro_batches": micro_batches,
        "steps": steps,
        "gpus": gpus,
        "mfu": wanted.mfu,
        "tokens_per_second": speed,
        "step_seconds": train.batch_tokens / speed,
        "hours": hours,
        "usd_per_gpu_hour": rate,
        "cost_usd": hours * rate * gpus,
        "device_bytes": gpu.memory_bytes,
        **own,
        "fits_sharded": sharded["fits"],
        "layouts": layouts,
        "shards": math.ceil(data_shards),
        "shards_available": wanted.shards,
        "epochs": data_shards / wanted.shards,
        "cache_bytes_per_token": cache_bytes_per_token(model),
        "bits": config.quant.bits,
        "artifact_bytes": artifact_bytes(model, config.quant.bits),
        "warnings": _warnings(config, own, sharded, gpu, rows * micro_batches),
    }


def artifact_bytes(model: ModelConfig, bits: str) -> int:
    """Every weight at its width and a step for each row, before an entropy coder takes off what it can."""
    with torch.device("meta"):
        tensors = dict(GPT(model).named_parameters())
    kinds = {name: str(parameter_kind(name, tensor)) for name, tensor in tensors.items()}
    plan = parse_bits(bits)
    plan.require(kinds)
    total = 0
    for name, tensor in tensors.items():
        width = plan.bits(name, kinds[name])
        rows = tensor.shape[0] if tensor.ndim == 2 else 1
        total += math.ceil(width * tensor.numel() / 8) + STEP_BYTES * rows * (width <= 8)
    return total


def _trainer(config: RunConfig, wanted: Plan) -> Trainer:
    muon, again = config.optim.matrix == "muon", config.train.checkpointing
    if wanted.nanochat:
        shard = wanted.shard or NANOCHAT.shard
        return replace(NANOCHAT, devices=wanted.gpus, shard=shard, muon=muon, checkpointing=again)
    shard, average = wanted.shard or config.train.shard, config.average.kind != "off"
    return Trainer(
        devices=wanted.gpus, shard=shard, muon=muon, average=average, checkpointing=again,
        loss_chunk=config.train.loss_tokens,
    )  # fmt: skip


def _layouts(trainer: Trainer) -> list[Trainer]:
    """Every way to split, plain, with checkpointing, and with a chunked loss as well; FSDP2 with both comes last."""
    shards: list[Shard] = list(SPLIT)
    return [
        replace(trainer, shard=shard, checkpointing=again, loss_chunk=LOSS_CHUNK * chunked)
        for shard in shards
        for again, chunked in WAYS
    ]


def _layout(model: ModelConfig, trainer: Trainer, rows: int, seq_len: int, gpu: Gpu) -> dict[str, Any]:
    parts = training_parts(model, trainer, rows, seq_len)
    return {
        "shard": trainer.shard,
        "checkpointing": trainer.checkpointing,
        "chunked_loss": bool(trainer.loss_chunk),
        "memory_bytes": peak_bytes(parts),
        "memory_by_part": parts,
        "fits": peak_bytes(parts) <= gpu.memory_bytes,
        "max_batch": max_rows(model, trainer, seq_len, gpu.memory_bytes),
    }


def _tokens(config: RunConfig, wanted: Plan, speed: float) -> tuple[int, str]:
    """How many, and who says so: a flag, or the first of the run's own limits that is reached."""
    train = config.train
    if wanted.tokens is not None:
        return wanted.tokens, "--tokens"
    if wanted.ratio is not None:
        return round(wanted.ratio * sum(parameters(config.model).values())), f"--ratio {wanted.ratio:g}"
    limits = []
    if train.steps:
        limits.append((train.steps * train.batch_tokens, "train.steps"))
    if train.seconds:
        steps = max(1, int((train.seconds - train.reserve_s) * speed / train.batch_tokens))
        limits.append((steps * train.batch_tokens, f"train.seconds at {100 * wanted.mfu:g} % MFU"))
    if not limits:
        raise BadInput("train.steps 0 and train.seconds 0 leave no end; give one of them, --tokens or --ratio")
    return min(limits)


def _require_even(model: ModelConfig, trainer: Trainer) -> None:
    """ZeRO as seed 004 has it splits AdamW's tensors by rows, evenly; FSDP2 may leave the last device less."""
    if trainer.shard not in ("zero1", "zero2"):
        return
    for name, value in (("vocab_size", model.vocab_size), ("bigram_buckets", model.bigram_buckets)):
        if value % trainer.devices:
            below = value // trainer.devices * trainer.devices
            near = [n for n in (below, below + trainer.devices) if n]
            raise BadInput(
                f"model.{name} {value} does not split over {trainer.devices} devices, as --shard {trainer.shard} "
                f"splits AdamW's tensors; use {' or '.join(map(str, near))}, or fsdp"
            )


def _require_reachable(config: RunConfig, wanted: Plan, steps: int) -> None:
    if wanted.epochs is None:
        return
    sequences = int(wanted.shards * wanted.shard_tokens) // config.train.seq_len
    step = config.train.batch_tokens // config.train.seq_len
    an_epoch = sequences // step
    if not an_epoch:
        most = sequences * config.train.seq_len
        raise BadInput(f"all the data is {sequences} sequences, a step {step}; lower train.batch_tokens to {most}")
    if steps > wanted.epochs * an_epoch:
        raise BadInput(
            f"{steps} steps are not reached: an epoch of {sequences} sequences is {an_epoch} steps of {step}; "
            f"use at most {wanted.epochs * an_epoch} steps, or --epochs {math.ceil(steps / an_epoch)}"
        )


def _warnings(config: RunConfig, own: dict[str, Any], sharded: dict[str, Any], gpu: Gpu, share: int) -> list[str]:
    """`share`: rows that a device has a step; a micro-batch has to divide them."""
    found = []
    if not own["fits"]:
        need, most = own["memory_bytes"] / 1e9, sharded["max_batch"]
        batch = max((n for n in range(1, min(share, own["max_batch"]) + 1) if share % n == 0), default=0)
        way = f"FSDP2, checkpointing and a chunked loss hold {most} rows" if most else "take more or larger devices"
        way = f"{batch} rows would: train.micro_tokens={batch * config.train.seq_len}" if batch else way
        found.append(f"does not fit: {need:.1f} GB of {gpu.memory_gb:g} GB a device; {way}")
    if config.optim.warmup > 0.1:
        found.append(f"optim.warmup {config.optim.warmup:g} is more than a tenth of the run")
    return found
