"""Plan a run before it starts: parameters, FLOPs, memory by part, batch, time, cost, data. Needs no GPU and no data.

    python -m tools.plan configs/seeds/d52.yaml --gpu h100 --gpus 8
    python -m tools.plan configs/seeds/d38.yaml --gpu 1.5TB/8 --gpus 8 --shard fsdp --check    (exit 1: no room)
    python -m tools.plan configs/depth.yaml model.depth=24 --gpu h200 train.micro_tokens=32768

Tokens come from --tokens, --ratio, or the run's own train.steps and train.seconds. Memory is that of train_gpt.py
(±25 %; docs/plan.md says how it is counted). MFU counts the model's FLOPs alone, attention as if not causal, and not
what checkpointing computes again. Imports no torch, so it answers in a second.
"""

import argparse
import math
import re
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Le

from base.cli import OneLineParser, command, run
from base.config import Layer, build, load, parse_yaml
from base.errors import BadInput, CheckFailed
from data.bare import is_bare, list_shards
from data.manifest import MANIFEST, read_manifest
from data.shards import open_shard
from engine.config import micro_rows
from model.cost import causal_flops_per_token, flops_per_token, parameters, projections
from model.memory import BF16, Trainer, max_rows, peak_bytes, training_parts
from quant.bits import parse_bits
from run_config import RunConfig

GPUS = Path(__file__).with_name("gpus.yaml")
LOSS_CHUNK = 4096  # tokens whose logits exist at a time, in the layouts that save memory
SHARDS = (1822, 250e6 / 4.8)  # seed 004's data: how many, and tokens in each (250 million characters, 4.8 per token)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    memory_gb: Annotated[float, Gt(0)]
    tflops: Annotated[float, Gt(0)]  # dense bf16
    usd_per_hour: Annotated[float, Gt(0)]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the command line adds to a config."""

    gpu: str = "h100"
    gpus: Annotated[int, Ge(1)] = 1
    mfu: Annotated[float, Gt(0), Le(1)] = 0.5  # share of the peak FLOP/s
    rate: Annotated[float, Gt(0)] | None = None  # USD per device and hour; None: the table's
    tokens: Annotated[int, Gt(0)] | None = None
    ratio: Annotated[float, Gt(0)] | None = None  # tokens per parameter


@dataclass(frozen=True)
class Layout:
    """One way to hold the training state, and whether it fits on a device."""

    trainer: Trainer
    memory_by_part: dict[str, int]
    memory_bytes: int  # at the peak
    fits: bool
    max_batch: int  # rows of the largest micro-batch that fits


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The answer. `memory_bytes`, `fits` and `max_batch` are the first layout's: the run's own."""

    params: int
    params_tied: int
    params_untied: int
    flops_per_token: int
    flops_per_token_causal: int
    tokens: int
    total_flops: int
    rows: int
    micro_batches: int
    steps: int
    gpu: str
    gpus: int
    tokens_per_second: float
    hours: float
    cost_usd: float
    memory_bytes: int
    fits: bool
    fits_sharded: bool  # under FSDP2 with checkpointing and a chunked loss
    max_batch: int
    layouts: list[Layout]
    shards: int
    epochs: float
    cache_bytes_per_token: int  # keys and values, for decoding
    artifact_bytes: int  # every weight at the width of its kind, before entropy coding
    warnings: list[str]


def plan_run(config: RunConfig, setting: Setting, gpu: Gpu, shards: tuple[int, float]) -> Plan:
    train = config.train
    counts = parameters(config.model)
    params = sum(counts.values())
    rows, micro_batches = micro_rows(train, setting.gpus)
    flops = flops_per_token(config.model, train.seq_len)
    tokens_per_second = setting.gpus * gpu.tflops * 1e12 * setting.mfu / flops
    tokens = count_tokens(config, setting, tokens_per_second)
    hours = tokens / tokens_per_second / 3600
    layouts = [measure(config, trainer, rows, gpu) for trainer in trainers(config, setting.gpus)]
    own = layouts[0]
    widths = parse_bits(config.quant.bits)
    available, tokens_each = shards
    warnings = []
    if not own.fits:
        short = f"does not fit: {own.memory_bytes / 1e9:.1f} GB of {gpu.memory_gb:g} GB per device"
        most = own.max_batch * train.seq_len
        way_out = f"lower train.micro_tokens to {most} or less" if most else "take another layout or larger devices"
        warnings.append(f"{short}; {way_out}")
    if widths.globs:
        warnings.append("quant.bits names single tensors: artifact_bytes has them at the width of their kind")
    return Plan(
        params=params,
        params_tied=params - counts["head"],
        params_untied=params - counts["head"] + config.model.vocab_size * config.model.dim,
        flops_per_token=flops,
        flops_per_token_causal=causal_flops_per_token(config.model, train.seq_len),
        tokens=tokens,
        total_flops=flops * tokens,
        rows=rows,
        micro_batches=micro_batches,
        steps=math.ceil(tokens / train.batch_tokens),
        gpu=setting.gpu,
        gpus=setting.gpus,
        tokens_per_second=tokens_per_second,
        hours=hours,
        cost_usd=hours * (setting.rate or gpu.usd_per_hour) * setting.gpus,
        memory_bytes=own.memory_bytes,
        fits=own.fits,
        fits_sharded=layouts[-1].fits,
        max_batch=own.max_batch,
        layouts=layouts,
        shards=math.ceil(tokens / tokens_each),
        epochs=tokens / tokens_each / available,
        cache_bytes_per_token=2 * BF16 * projections(config.model)[1] * len(config.model.order()),
        artifact_bytes=sum(math.ceil(widths.kinds[kind] * count / 8) for kind, count in counts.items()),
        warnings=warnings,
    )


def count_tokens(config: RunConfig, setting: Setting, tokens_per_second: float) -> int:
    """By a flag, or by the first of the run's own limits that is reached."""
    train = config.train
    if setting.tokens is not None:
        return setting.tokens
    if setting.ratio is not None:
        return round(setting.ratio * sum(parameters(config.model).values()))
    limits = []
    if train.steps:
        limits.append(train.steps * train.batch_tokens)
    if train.seconds:
        steps = int((train.seconds - train.reserve_s) * tokens_per_second / train.batch_tokens)
        limits.append(max(1, steps) * train.batch_tokens)
    if not limits:
        raise BadInput("train.steps 0 and train.seconds 0 give no end; set one of them, --tokens or --ratio")
    return min(limits)


def trainers(config: RunConfig, gpus: int) -> list[Trainer]:
    """The run's own, then both ways to split it with all that saves memory."""
    own = Trainer(
        devices=gpus,
        shard=config.train.shard,
        replicate=config.train.replicate,
        muon=config.optim.matrix == "muon",
        average=config.average.kind != "off",
        checkpointing=config.train.checkpointing,
        loss_chunk=config.train.loss_tokens,
    )
    saving = replace(own, checkpointing=True, loss_chunk=LOSS_CHUNK)
    return [own, replace(saving, shard="ddp", replicate=1), replace(saving, shard="fsdp")]


def measure(config: RunConfig, trainer: Trainer, rows: int, gpu: Gpu) -> Layout:
    seq_len = config.train.seq_len
    available = gpu.memory_gb * 1e9
    parts = training_parts(config.model, trainer, rows, seq_len)
    peak = peak_bytes(parts)
    return Layout(trainer, parts, peak, peak <= available, max_rows(config.model, trainer, seq_len, available))


def known_gpus() -> dict[str, Gpu]:
    table = parse_yaml(GPUS.read_text(encoding="utf-8"), str(GPUS))
    return {name: build(Gpu, [Layer(f"{GPUS.name}: {name}", values)]) for name, values in table.items()}


def find_gpu(name: str) -> Gpu:
    """By name, spelled as people do: `RTX-4090`, `rtx_4090` or `rtx 4090`."""
    gpus = known_gpus()
    plain = re.sub(r"[\s_-]", "", name).lower()
    if plain not in gpus:
        raise BadInput(f"--gpu {name:.60}: not in {GPUS.name}, which has {', '.join(gpus)}; use one or add a line")
    return gpus[plain]


def read_shards(config: RunConfig) -> tuple[int, float]:
    """How many training shards the run's dataset has, and tokens in each; seed 004's while there is none."""
    folder = Path(config.data.path)
    if is_bare(folder):
        tokens = [len(open_shard(path)) for path in list_shards(folder, "train")]
        return len(tokens), sum(tokens) / max(len(tokens), 1)
    if not (folder / MANIFEST).is_file():
        return SHARDS
    manifest = read_manifest(folder)
    pieces = manifest.tokenizer.vocab_size
    vocab = config.model.vocab_size
    if pieces != vocab:
        raise BadInput(f"{folder}: its tokenizer has {pieces} pieces, not {vocab}; use model.vocab_size={pieces}")
    count = sum(entry.split == "train" for entry in manifest.shards)
    return count, manifest.train.tokens / count


def act(args: argparse.Namespace) -> Plan:
    overrides = [*args.overrides, f"train.shard={args.shard}"] if args.shard else args.overrides
    config = load(RunConfig, args.config, overrides)
    flags = {field.name: getattr(args, field.name) for field in fields(Setting)}
    setting = build(Setting, [Layer("the command line", flags)])
    try:
        plan = plan_run(config, setting, find_gpu(setting.gpu), read_shards(config))
    except OverflowError:
        raise BadInput("no machine could do it; lower the model's sizes, --tokens, --ratio or train.seconds") from None
    if args.check and not plan.fits:
        raise CheckFailed(plan.warnings[0], plan)
    return plan


def show(plan: Plan) -> str:
    lines = [
        f"parameters      {plan.params:,} ({plan.params_tied:,} tied, {plan.params_untied:,} untied)",
        f"FLOPs per token {plan.flops_per_token:.4g} ({plan.flops_per_token_causal:.4g} causal)",
        f"tokens          {plan.tokens:,} ({plan.tokens / plan.params:.3g} per parameter)",
        f"FLOPs           {plan.total_flops:.4g}",
        f"batch           {plan.micro_batches} micro-batches of {plan.rows} rows per device; {plan.steps:,} steps",
        f"time            {plan.hours:,.2f} h on {plan.gpus} x {plan.gpu} at {plan.tokens_per_second:,.0f} tokens/s",
        f"cost            ${plan.cost_usd:,.0f}",
        f"data            {plan.shards:,} shards: {plan.epochs:.3g} epochs",
        f"KV cache        {plan.cache_bytes_per_token:,} bytes per token (bf16)",
        f"artifact        {plan.artifact_bytes:,} bytes before entropy coding",
        "",
        f"GB per device, with micro-batches of {plan.rows} rows (the peak has its tensors or the step's):",
        "",
        _row("layout", [*plan.layouts[0].memory_by_part, "peak", "fits", "max rows"]),
    ]
    for number, layout in enumerate(plan.layouts):
        name: str = "run" if number == 0 else layout.trainer.shard
        name += ", ckpt" if layout.trainer.checkpointing else ""
        name += ", chunk" if layout.trainer.loss_chunk else ""
        sizes = [f"{size / 1e9:.2f}" for size in layout.memory_by_part.values()]
        sizes += [f"{layout.memory_bytes / 1e9:.1f}", "yes" if layout.fits else "no", f"{layout.max_batch:,}"]
        lines.append(_row(name, sizes))
    return "\n".join([*lines, *[f"\n! {warning}" for warning in plan.warnings]])


def _row(name: str, cells: list[str]) -> str:
    return f"{name:<18} " + " ".join(f"{cell:>11}" for cell in cells)


def parser() -> OneLineParser:
    flags = command("tools.plan", __doc__ or "")
    flags.add_argument("config", metavar="CONFIG.yaml")
    flags.add_argument("overrides", nargs="*", metavar="section.key=value")
    flags.add_argument("--gpu", default=Setting.gpu, help=f"{', '.join(known_gpus())} (default %(default)s)")
    flags.add_argument("--gpus", type=int, default=Setting.gpus, help="devices (default %(default)s)")
    flags.add_argument("--mfu", type=float, default=Setting.mfu, help="share of the peak FLOP/s (default %(default)s)")
    flags.add_argument("--rate", type=float, metavar="USD", help="per device and hour (default: tools/gpus.yaml)")
    flags.add_argument("--shard", choices=("ddp", "fsdp"), help="default: the config's train.shard")
    length = flags.add_mutually_exclusive_group()
    length.add_argument("--tokens", type=int, help="of the run (default: train.steps, train.seconds)")
    length.add_argument("--ratio", type=float, help="tokens per parameter")
    flags.add_argument("--check", action="store_true", help="exit 1 if it does not fit")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
