"""What a run will take, before it takes it: parameters, FLOPs, batch, memory by part, time, cost, data. Needs no GPU.

    python -m tools.plan configs/d52.yaml --gpu h100 --gpus 8
    python -m tools.plan configs/d38.yaml --gpu 1.5TB/8 --gpus 8 --shard fsdp --ratio 20 --check    (exit 1: no room)
    python -m tools.plan configs/depth.yaml model.depth=24 --gpu h200 train.micro_tokens=32768
    python -m tools.plan configs/d38.yaml --gpu h100 --gpus 8 --trainer nanochat train.micro_tokens=0

Tokens come from --tokens, --ratio, or the run's own train.steps and train.seconds. Memory is that of train_gpt.py
(±25 %; docs/plan.md says how it is counted); zero1 and zero2 are there to compare with, it has ddp and fsdp. If the
run's dataset is there, its size and its tokenizer's vocabulary are taken; else a shard is what seed 004's are.
"""

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from base.cli import Answer, OneLineParser, command, run
from base.config import load
from base.errors import BadInput, CheckFailed
from data.manifest import MANIFEST, read_manifest
from model.cost import parameters
from model.memory import SPLIT
from run_config import RunConfig
from tools.planning.arithmetic import Plan, plan
from tools.planning.gpus import gpu_named, known_gpus

MOST_PARAMS = 1e15
PARTS = ("weights", "gradients", "optimizer", "average", "copies", "activations", "logits", "step")


def act(args: argparse.Namespace) -> Answer:
    words = [*args.overrides, *([f"quant.bits={args.bits}"] if args.bits is not None else [])]
    config = load(RunConfig, args.config, words)
    wanted = Plan(
        gpu=gpu_named(args.gpu), gpus=args.gpus, mfu=args.mfu, usd_per_hour=args.rate, shard=args.shard,
        nanochat=args.trainer == "nanochat", tokens=args.tokens, ratio=args.ratio, epochs=args.epochs,
    )  # fmt: skip
    given = {"shard_tokens": args.shard_tokens, "shards": args.shards}
    known = {**_dataset(config), **{name: value for name, value in given.items() if value is not None}}
    if (params := sum(parameters(config.model).values())) > MOST_PARAMS:
        raise BadInput(f"a model of {float(params):.3g} parameters is beyond all machines; use smaller sizes")
    try:
        answer = {"config": args.config, "gpu": args.gpu, **plan(config, replace(wanted, **known))}
        if not math.isfinite(float(answer["total_flops"]) + answer["cost_usd"]):
            raise OverflowError
    except OverflowError:
        raise BadInput("a run beyond all numbers; use less of --tokens, --ratio, --rate or train.seconds") from None
    if args.check and not answer["fits"]:
        raise CheckFailed(answer["warnings"][0], answer)
    return answer


def _dataset(config: RunConfig) -> dict[str, Any]:
    """The shards of the run's dataset, if it is there; one of another vocabulary is refused."""
    folder = Path(config.data.path)
    if not (folder / MANIFEST).is_file():
        return {}
    manifest = read_manifest(folder)
    pieces, vocab = manifest.tokenizer.vocab_size, config.model.vocab_size
    if pieces != vocab:
        raise BadInput(
            f"{folder}: its tokenizer has {pieces} pieces, model.vocab_size is {vocab}; "
            f"use model.vocab_size={pieces} or another data.path"
        )
    shards = sum(entry.split == "train" for entry in manifest.shards)
    if not shards:
        raise BadInput(f"{folder}: its manifest lists no training shard; prepare the dataset again")
    return {"shards": shards, "shard_tokens": manifest.train.tokens / shards}


def show(answer: Answer) -> str:
    a = answer
    tied = f"{a['params_tied']:,} tied, {a['params_untied']:,} untied"
    lines = [
        f"{a['config']} on {a['gpus']} x {a['gpu']}",
        f"  parameters      {a['params']:,} ({tied})",
        f"  FLOPs a token   {a['flops_per_token']:.4g} ({a['flops_per_token_causal']:.4g} causal)",
        f"  tokens          {a['tokens']:,} ({a['tokens_per_param']:.3g} a parameter; {a['tokens_from']})",
        f"  FLOPs           {a['total_flops']:.4g}",
        f"  batch           {a['tokens_per_step']:,} tokens = {a['sequences_per_step']:,} sequences: "
        f"{a['rows']} rows x {a['micro_batches']} micro-batches x {a['gpus']} devices; {a['steps']:,} steps",
        f"  time            {a['hours']:,.2f} h at {100 * a['mfu']:g} % MFU: {a['tokens_per_second']:,.0f} tokens/s, "
        f"{a['step_seconds']:.3g} s a step",
        f"  cost            ${a['cost_usd']:,.0f} at ${a['usd_per_gpu_hour']:.2f} a device and hour",
        f"  data            {a['shards']:,} shards of {a['shards_available']:,}: {a['epochs']:.3g} epochs",
        f"  cache           {a['cache_bytes_per_token']:,} bytes a token (bf16)",
        f"  artifact        {a['artifact_bytes']:,} bytes before entropy coding ({a['bits'] or 'default bits'})",
        "",
        f"GB a device of {a['device_bytes'] / 1e9:g}, with micro-batches of {a['rows']} rows "
        f"(a peak has either the micro-batch's tensors or the step's):",
        "",
        _row("layout", [part[:9] for part in PARTS], "peak", "fits", "max rows"),
        _row("-" * 26, ["-" * 9] * len(PARTS), "-" * 7, "----", "-" * 8),
        _memory(a, "this run, "),
        *[_memory(layout, "") for layout in a["layouts"]],
        *[f"\n! {warning}" for warning in a["warnings"]],
    ]
    return "\n".join(lines)


def _memory(layout: dict[str, Any], mark: str) -> str:
    name = layout["shard"] + ", ckpt" * layout["checkpointing"] + ", chunk" * layout["chunked_loss"]
    sizes = [f"{layout['memory_by_part'][part] / 1e9:.2f}" for part in PARTS]
    fits = "yes" if layout["fits"] else "no"
    return _row(mark + name, sizes, f"{layout['memory_bytes'] / 1e9:.1f}", fits, f"{layout['max_batch']:,}")


def _row(name: str, sizes: list[str], peak: str, fits: str, most: str) -> str:
    return f"  {name:<26} " + " ".join(f"{size:>9}" for size in sizes) + f" {peak:>7} {fits:>4} {most:>8}"


def parser() -> OneLineParser:
    flags = command("tools.plan", __doc__ or "")
    flags.add_argument("config", metavar="CONFIG.yaml")
    flags.add_argument("overrides", nargs="*", metavar="section.key=value")
    flags.add_argument("--gpu", required=True, metavar="NAME", help=", ".join(known_gpus()))
    flags.add_argument("--gpus", type=int, default=1, help="devices (default %(default)s)")
    flags.add_argument("--mfu", type=float, default=Plan.mfu, help="share of the peak FLOP/s (default %(default)s)")
    flags.add_argument("--rate", type=float, metavar="USD", help="a device and hour (default: the table's example)")
    flags.add_argument("--shard", choices=tuple(SPLIT), help="default: the config's train.shard")
    flags.add_argument(
        "--trainer", choices=("bitgolf", "nanochat"), default="bitgolf", help="whose memory (default %(default)s)"
    )
    length = flags.add_mutually_exclusive_group()
    length.add_argument("--tokens", type=int, help="of the whole run (default: train.steps, train.seconds)")
    length.add_argument("--ratio", type=float, help="tokens a parameter")
    flags.add_argument("--bits", help="widths of the artifact, as quant.pack has them (default: the config's)")
    flags.add_argument("--shard-tokens", type=float, help="of a data shard (default: the dataset's, or seed 004's)")
    flags.add_argument("--shards", type=int, help="that there are (default: the dataset's, or seed 004's)")
    flags.add_argument("--epochs", type=int, help="refuse a run that needs more passes over them")
    flags.add_argument("--check", action="store_true", help="exit 1 if it does not fit")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
