"""Plan a run before it starts: parameters, FLOPs, memory by part, batch, time, cost, data. Needs no GPU and no data.

    python -m tools.plan configs/seeds/d52.yaml --gpu h100 --gpus 8
    python -m tools.plan configs/seeds/d52.yaml --gpu h100 --gpus 8 --shard ddp --check     (exit 1: no room)
    python -m tools.plan configs/depth.yaml model.depth=24 --gpu h200 train.micro_tokens=32768
    python -m tools.plan configs/seeds/d52.yaml --gpus 16 --nodes 2 --launch slurm > d52.sbatch     (docs/nodes.md)

Tokens come from --tokens, --ratio, or the run's own train.steps and train.seconds. Memory is that of train_gpt.py
(±25 %; docs/plan.md says how it is counted). MFU counts the model's FLOPs alone, attention as if not causal, and not
what checkpointing computes again. Imports no torch, so it answers in about a second.
"""

import argparse
import shlex
import sys
from dataclasses import fields, replace

from base.cli import OneLineParser, command, run
from base.config import Layer, build, load
from base.errors import BadInput, CheckFailed
from run_config import RunConfig
from tools.plan.corpus import find_corpus
from tools.plan.estimate import Plan, Setting, plan_run
from tools.plan.fit import find_gpu, known_gpus
from tools.plan.launch import KINDS, launch


def act(args: argparse.Namespace) -> Plan:
    overrides = [*args.overrides, f"train.shard={args.shard}"] if args.shard else args.overrides
    config = load(RunConfig, args.config, overrides)
    flags = {field.name: getattr(args, field.name) for field in fields(Setting)}
    setting = build(Setting, [Layer("the command line", flags)])
    if setting.gpus % setting.nodes:
        below = setting.gpus // setting.nodes * setting.nodes
        near = " or ".join(str(gpus) for gpus in (below, below + setting.nodes) if gpus)
        raise BadInput(f"--gpus {setting.gpus} do not divide over --nodes {setting.nodes}; use --gpus {near}")
    try:
        plan = plan_run(config, setting, find_gpu(setting.gpu), find_corpus(config))
    except OverflowError:
        raise BadInput("no machine could do it; lower the model's sizes, --tokens, --ratio or train.seconds") from None
    if (args.check or args.launch) and not plan.fits:
        raise CheckFailed(plan.warnings[0], plan)
    if args.launch is None:
        return plan
    if setting.tokens or setting.ratio:
        overrides = [*overrides, "train.seconds=0", f"train.steps={plan.steps}"]
    flags = {name: getattr(setting, name) for name in ("gpu", "gpus", "nodes", "mfu")} | {"launch": args.launch}
    flag_words = [word for name, value in flags.items() if value is not None for word in (f"--{name}", str(value))]
    made_by = shlex.join(["python", "-m", "tools.plan", args.config, *overrides, *flag_words])
    return replace(plan, launch=launch(args.launch, plan, args.config, overrides, made_by))


def show(plan: Plan) -> str:
    if plan.launch:
        return plan.launch
    later = ", ".join(f"{_time(hours)} by {method}" for method, hours in plan.pack_hours_by_method.items())
    data = "unknown: the dataset is not there"
    if plan.shards is not None:
        data = f"{plan.shards:,} shards: {plan.epochs:.3g} epochs"
    lines = [
        f"parameters      {plan.params:,} ({plan.params_tied:,} tied, {plan.params_untied:,} untied)",
        f"FLOPs per token {plan.flops_per_token:.4g} ({plan.flops_per_token_causal:.4g} causal)",
        f"tokens          {plan.tokens:,} ({plan.tokens / plan.params:.3g} per parameter)",
        f"FLOPs           {plan.total_flops:.4g}",
        f"batch           {plan.micro_batches} micro-batches of {plan.rows} rows per device; {plan.steps:,} steps",
        f"time            {_time(plan.hours)} on {plan.gpus} x {plan.gpu} at {plan.tokens_per_second:,.0f} tokens/s",
        f"MFU             {plan.mfu:.1%} ({plan.mfu_source})",
        f"packing         {_time(plan.pack_hours)} on two CPU cores (quant.pack: {later})",
        f"scoring         {_time(plan.score_hours)}, of {plan.val_tokens:,} validation tokens",
        f"cost            ${plan.cost_usd:,.0f} of training",
        f"data            {data}",
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


def _time(hours: float) -> str:
    return f"{60 * hours:,.1f} min" if hours < 1 else f"{hours:,.2f} h"


def _row(name: str, cells: list[str]) -> str:
    return f"{name:<18} " + " ".join(f"{cell:>11}" for cell in cells)


def parser() -> OneLineParser:
    flags = command("tools.plan", __doc__ or "")
    flags.add_argument("config", metavar="CONFIG.yaml")
    flags.add_argument("overrides", nargs="*", metavar="section.key=value")
    flags.add_argument("--gpu", default=Setting.gpu, help=f"{', '.join(known_gpus())} (default %(default)s)")
    flags.add_argument("--gpus", type=int, default=Setting.gpus, help="devices (default %(default)s)")
    flags.add_argument("--nodes", type=int, default=Setting.nodes, help="over which they divide (default %(default)s)")
    flags.add_argument("--mfu", type=float, help="share of the peak FLOP/s (default: by the width, as runs had it)")
    flags.add_argument("--rate", type=float, metavar="USD", help="per device and hour (default: tools/plan/gpus.yaml)")
    flags.add_argument("--shard", choices=("ddp", "fsdp"), help="default: the config's train.shard")
    length = flags.add_mutually_exclusive_group()
    length.add_argument("--tokens", type=int, help="of the run (default: train.steps, train.seconds)")
    length.add_argument("--ratio", type=float, help="tokens per parameter")
    flags.add_argument("--check", action="store_true", help="exit 1 if it does not fit")
    flags.add_argument("--launch", choices=KINDS, help="print the command or batch script that starts it, if it fits")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
