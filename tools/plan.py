"""Plan a run before it starts: parameters, FLOPs, memory by part, batch, time, cost, data. Needs no GPU and no data.

    python -m tools.plan configs/seeds/d52.yaml --gpu h100 --gpus 8
    python -m tools.plan configs/seeds/d38.yaml --gpu 1.5TB/8 --gpus 8 --shard fsdp --ratio 20 --check    (exit 1: no room)
    python -m tools.plan configs/depth.yaml model.depth=24 --gpu h200 train.micro_tokens=32768

Tokens come from --tokens, --ratio, or the run's own train.steps and train.seconds. Memory is that of train_gpt.py
(±25 %; docs/plan.md says how it is counted). MFU counts the model's FLOPs alone, attention as if not causal, and not
what checkpointing computes again. Imports no torch, so it answers in a second.
"""

import argparse
import math
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

from annotated_types import Ge, Gt, Le

from base.cli import OneLineParser, command, run
from base.config import Layer, build, load, parse_yaml
from base.errors import BadInput, CheckFailed
from data.manifest import MANIFEST, read_manifest
from engine.config import micro_rows
from model.cost import causal_flops_per_token, flops_per_token, parameters
from model.memory import Shard, Trainer, cache_bytes_per_token, max_rows, peak_bytes, training_parts
from quant.bits import parse_bits
from run_config import RunConfig

GPUS = Path(__file__).with_name("gpus.yaml")
LOSS_CHUNK = 4096  # tokens whose logits exist at a time, in the layouts with a chunked loss
LONGEST_WARMUP = 0.1  # share of the run


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


class Shards(NamedTuple):
    """Training data as it is cut: seed 004's, unless the run's own dataset exists."""

    available: int = 1822
    tokens_each: float = 250e6 / 4.8  # per shard: 250 million characters, 4.8 per token


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
    tokens_from: str
    total_flops: int
    rows: int
    micro_batches: int
    steps: int
    gpu: str
    gpus: int
    tokens_per_second: float
    hours: float
    usd_per_gpu_hour: float
    cost_usd: float
    memory_bytes: int
    fits: bool
    fits_sharded: bool  # under FSDP2 with checkpointing and a chunked loss
    max_batch: int
    layouts: list[Layout]
    shards: int
    shards_available: int
    epochs: float
    cache_bytes_per_token: int
    artifact_bytes: int  # every weight at its width, before entropy coding
    warnings: list[str]


def plan_run(config: RunConfig, gpu: Gpu, setting: Setting, shards: Shards) -> Plan:
    train, gpus = config.train, setting.gpus
    counts = parameters(config.model)
    params = sum(counts.values())
    rows, micro_batches = micro_rows(train, gpus)
    flops = flops_per_token(config.model, train.seq_len)
    tokens_per_second = gpus * gpu.tflops * 1e12 * setting.mfu / flops
    tokens, tokens_from = count_tokens(config, setting, tokens_per_second)
    hours = tokens / tokens_per_second / 3600
    layouts = [measure(config, trainer, rows, gpu) for trainer in trainers(config, gpus)]
    usd_per_hour = setting.rate or gpu.usd_per_hour
    needed = tokens / shards.tokens_each
    return Plan(
        params=params,
        params_tied=params - counts["head"],
        params_untied=params - counts["head"] + counts["embed"],
        flops_per_token=flops,
        flops_per_token_causal=causal_flops_per_token(config.model, train.seq_len),
        tokens=tokens,
        tokens_from=tokens_from,
        total_flops=flops * tokens,
        rows=rows,
        micro_batches=micro_batches,
        steps=math.ceil(tokens / train.batch_tokens),
        gpu=setting.gpu,
        gpus=gpus,
        tokens_per_second=tokens_per_second,
        hours=hours,
        usd_per_gpu_hour=usd_per_hour,
        cost_usd=hours * usd_per_hour * gpus,
        memory_bytes=layouts[0].memory_bytes,
        fits=layouts[0].fits,
        fits_sharded=layouts[-1].fits,
        max_batch=layouts[0].max_batch,
        layouts=layouts,
        shards=math.ceil(needed),
        shards_available=shards.available,
        epochs=needed / shards.available,
        cache_bytes_per_token=cache_bytes_per_token(config.model),
        artifact_bytes=artifact_bytes(counts, config.quant.bits),
        warnings=list_warnings(config, layouts, gpu, rows * micro_batches),
    )


def count_tokens(config: RunConfig, setting: Setting, tokens_per_second: float) -> tuple[int, str]:
    """How many, and what decides it: a flag, or the first of the run's own limits that is reached."""
    train = config.train
    if setting.tokens is not None:
        return setting.tokens, "--tokens"
    if setting.ratio is not None:
        return round(setting.ratio * sum(parameters(config.model).values())), f"--ratio {setting.ratio:g}"
    limits = []
    if train.steps:
        limits.append((train.steps * train.batch_tokens, "train.steps"))
    if train.seconds:
        steps = max(1, int((train.seconds - train.reserve_s) * tokens_per_second / train.batch_tokens))
        limits.append((steps * train.batch_tokens, f"train.seconds at {100 * setting.mfu:g} % MFU"))
    if not limits:
        raise BadInput("train.steps 0 and train.seconds 0 give no end; set one of them, --tokens or --ratio")
    return min(limits)


def trainers(config: RunConfig, gpus: int) -> list[Trainer]:
    """The run's own, then both ways to split: plain, with checkpointing, and with a chunked loss as well."""
    own = Trainer(
        devices=gpus,
        shard=config.train.shard,
        muon=config.optim.matrix == "muon",
        average=config.average.kind != "off",
        checkpointing=config.train.checkpointing,
        loss_chunk=config.train.loss_tokens,
    )
    shards: tuple[Shard, ...] = ("ddp", "fsdp")
    ways = ((False, 0), (True, 0), (True, LOSS_CHUNK))
    return [own] + [
        replace(own, shard=s, checkpointing=again, loss_chunk=chunk) for s in shards for again, chunk in ways
    ]


def measure(config: RunConfig, trainer: Trainer, rows: int, gpu: Gpu) -> Layout:
    seq_len = config.train.seq_len
    available = gpu.memory_gb * 1e9
    parts = training_parts(config.model, trainer, rows, seq_len)
    peak = peak_bytes(parts)
    return Layout(trainer, parts, peak, peak <= available, max_rows(config.model, trainer, seq_len, available))


def artifact_bytes(counts: dict[str, int], bits: str) -> int:
    """By kind: words of `bits` that name single tensors are left out."""
    widths = parse_bits(bits).kinds
    return sum(math.ceil(widths[kind] * count / 8) for kind, count in counts.items())


def list_warnings(config: RunConfig, layouts: list[Layout], gpu: Gpu, rows_per_step: int) -> list[str]:
    found = []
    own, sharded = layouts[0], layouts[-1]
    if not own.fits:
        legal = [n for n in range(1, min(rows_per_step, own.max_batch) + 1) if rows_per_step % n == 0]
        if legal:
            way_out = f"{legal[-1]} rows would: train.micro_tokens={legal[-1] * config.train.seq_len}"
        elif sharded.max_batch:
            way_out = f"FSDP2, checkpointing and a chunked loss hold {sharded.max_batch} rows"
        else:
            way_out = "take more or larger devices"
        found.append(f"does not fit: {own.memory_bytes / 1e9:.1f} GB of {gpu.memory_gb:g} GB per device; {way_out}")
    if config.optim.warmup > LONGEST_WARMUP:
        found.append(f"optim.warmup {config.optim.warmup:g} is more than a tenth of the run")
    if globs := parse_bits(config.quant.bits).globs:
        found.append(f"quant.bits: {', '.join(name for name, _ in globs)}: not a kind, so not in artifact_bytes")
    return found


# -- what is read ---------------------------------------------------------------------------------------------------


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


def read_shards(config: RunConfig) -> Shards:
    folder = Path(config.data.path)
    if not (folder / MANIFEST).is_file():
        return Shards()
    manifest = read_manifest(folder)
    pieces, vocab = manifest.tokenizer.vocab_size, config.model.vocab_size
    if pieces != vocab:
        raise BadInput(
            f"{folder}: its tokenizer has {pieces} pieces, model.vocab_size is {vocab}; "
            f"use model.vocab_size={pieces} or another data.path"
        )
    count = sum(entry.split == "train" for entry in manifest.shards)
    return Shards(count, manifest.train.tokens / count)


def act(args: argparse.Namespace) -> Plan:
    overrides = [*args.overrides, f"train.shard={args.shard}"] if args.shard else args.overrides
    config = load(RunConfig, args.config, overrides)
    flags = {name: getattr(args, name) for name in ("gpu", "gpus", "mfu", "rate", "tokens", "ratio")}
    setting = build(Setting, [Layer("the command line", flags)])
    try:
        plan = plan_run(config, find_gpu(setting.gpu), setting, read_shards(config))
        if not math.isfinite(float(plan.total_flops) + plan.cost_usd):
            raise OverflowError
    except OverflowError:
        raise BadInput("no machine could do it; lower the model's sizes, --tokens, --ratio or train.seconds") from None
    if args.check and not plan.fits:
        raise CheckFailed(plan.warnings[0], plan)
    return plan


def show(plan: Plan) -> str:
    lines = [
        f"parameters      {plan.params:,} ({plan.params_tied:,} tied, {plan.params_untied:,} untied)",
        f"FLOPs per token {plan.flops_per_token:.4g} ({plan.flops_per_token_causal:.4g} causal)",
        f"tokens          {plan.tokens:,} ({plan.tokens / plan.params:.3g} per parameter; {plan.tokens_from})",
        f"FLOPs           {plan.total_flops:.4g}",
        f"batch           {plan.micro_batches} micro-batches of {plan.rows} rows per device; {plan.steps:,} steps",
        f"time            {plan.hours:,.2f} h on {plan.gpus} x {plan.gpu} at {plan.tokens_per_second:,.0f} tokens/s",
        f"cost            ${plan.cost_usd:,.0f} at ${plan.usd_per_gpu_hour:.2f} per device and hour",
        f"data            {plan.shards:,} shards of {plan.shards_available:,}: {plan.epochs:.3g} epochs",
        f"KV cache        {plan.cache_bytes_per_token:,} bytes per token (bf16)",
        f"artifact        {plan.artifact_bytes:,} bytes before entropy coding",
        "",
        f"GB per device, with micro-batches of {plan.rows} rows (the peak has its tensors or the step's):",
        "",
        _row("layout", [part[:9] for part in plan.layouts[0].memory_by_part], "peak", "fits", "max rows"),
    ]
    for number, layout in enumerate(plan.layouts):
        words: list[str] = ["run" if number == 0 else layout.trainer.shard]
        words += ["ckpt"] if layout.trainer.checkpointing else []
        words += ["chunk"] if layout.trainer.loss_chunk else []
        sizes = [f"{size / 1e9:.2f}" for size in layout.memory_by_part.values()]
        fits = "yes" if layout.fits else "no"
        lines.append(_row(", ".join(words), sizes, f"{layout.memory_bytes / 1e9:.1f}", fits, f"{layout.max_batch:,}"))
    return "\n".join([*lines, *[f"\n! {warning}" for warning in plan.warnings]])


def _row(name: str, sizes: list[str], peak: str, fits: str, most: str) -> str:
    return f"{name:<18} " + " ".join(f"{size:>9}" for size in sizes) + f" {peak:>7} {fits:>4} {most:>8}"


def parser() -> OneLineParser:
    flags = command("tools.plan", __doc__ or "")
    flags.add_argument("config", metavar="CONFIG.yaml")
    flags.add_argument("overrides", nargs="*", metavar="section.key=value")
    flags.add_argument(
        "--gpu", default=Setting.gpu, metavar="NAME", help=f"{', '.join(known_gpus())} (default %(default)s)"
    )
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
