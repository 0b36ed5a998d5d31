"""Measure how fast the pipeline is here: encoding, training, scoring and the codec, as a Markdown table.

    make bench                                          (python -m tools.bench)
    python -m tools.bench --config configs/demo.yaml    (the run whose steps, score and codec are timed)

What a command does is measured by running that command. Compare figures as ratios within one run: a second busy process
makes every figure worthless.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from base.cli import Answer, OneLineParser, command, run
from base.errors import CheckFailed
from base.files import read_json_object
from base.run_folder import METRICS, read_metrics

ROOT = Path(__file__).parents[1]
STEPS = 30  # of training
SCORED_TOKENS = 20_000
CODED_TEXT = Path(argparse.__file__)  # about 100 kB
PRODUCT = 2048  # rows and columns of the matrices that a training step is compared with


def act(args: argparse.Namespace) -> Answer:
    config = Path(args.config).resolve()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        rows = [*measure_encoding(folder), *measure_run(folder, config)]
    machine = f"{len(os.sched_getaffinity(0))} cores, torch {torch.__version__} with {torch.get_num_threads()} threads"
    return {"machine": machine, "rows": [{"what": what, "figure": figure, "unit": unit} for what, figure, unit in rows]}


def measure_encoding(folder: Path) -> list[tuple[str, float, str]]:
    done = run_command("-m", "data.prep", "stdlib", "--vocab", "1024", "--out", str(folder / "encoded"))
    size = done["train_bytes"] + done["val_bytes"]
    return [("data.prep stdlib: split, tokenizer, encode and prove", size / done["seconds"] / 1e6, "MB/s")]


def measure_run(folder: Path, config: Path) -> list[tuple[str, float, str]]:
    """Compilation and warm-up are not in a step's time. The artifact is packed the quick way."""
    words = [str(ROOT / "train_gpt.py"), str(config), f"data.path={folder}/data"]
    words += [f"train.steps={STEPS}", "train.seconds=0", "eval.during=0"]
    words += ["quant.method=absmax", "quant.codec=zstd", "quant.cap_bytes=0"]
    sizes = run_command(*words, "--dry-run", cwd=folder)
    products = [time_product()]
    trained = run_command(*words, cwd=folder)
    products.append(time_product())
    metrics = read_metrics((Path(trained["run"]) / METRICS).read_text(), METRICS)
    step_s = statistics.median(row["step_s"] for row in metrics if "step_s" in row)
    speed = sizes["tokens_per_step"] / step_s
    rate = speed * sizes["flops_per_token"]  # as if every step had all logits: train.shortlist skips some
    peak = 2 * PRODUCT**3 / min(products)
    artifact = trained["artifact"]
    scored = run_command("-m", "eval.bpb", artifact, "--limit", str(SCORED_TOKENS))
    packed = folder / "text.glz"
    back = folder / "text"
    coded = run_command("-m", "eval.codec", "compress", artifact, str(CODED_TEXT), str(packed))
    decoded = run_command("-m", "eval.codec", "decompress", artifact, str(packed), str(back))
    if back.read_bytes() != CODED_TEXT.read_bytes():
        raise CheckFailed(f"{artifact}: {CODED_TEXT} did not come back from the codec")
    return [
        (f"{config.stem}: a training step of {sizes['tokens_per_step']:,} tokens", 1000 * step_s, "ms"),
        (f"{config.stem}: training", speed, "tokens/s"),
        (f"fp32 product, {PRODUCT:,} x {PRODUCT:,}", peak / 1e9, "GFLOP/s"),
        (f"{config.stem}: training, of the product's rate", 100 * rate / peak, "%"),
        (f"eval.bpb, context {scored['context']}, stride {scored['stride']}", scored["tokens_per_second"], "targets/s"),
        ("eval.codec compress", coded["tokens"] / coded["seconds"], "tokens/s"),
        ("eval.codec decompress", coded["tokens"] / decoded["seconds"], "tokens/s"),
    ]


def run_command(*words: str, cwd: Path | None = None) -> dict[str, Any]:
    """The JSON answer of a command of ours."""
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words, "--json"], cwd=cwd, env=path, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise CheckFailed(f"{' '.join(words)}: exit code {done.returncode}, for the reason above")
    return read_json_object(done.stdout, words[0])


def time_product() -> float:
    """Seconds of the best of several: what the machine can do when nothing disturbs it."""
    a, b = torch.randn(2, PRODUCT, PRODUCT)
    seconds = []
    for _ in range(12):
        started = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def show(answer: Answer) -> str:
    lines = [answer["machine"], "", "| what | measured |", "|---|---|"]
    return "\n".join(lines + [f"| {row['what']} | {row['figure']:,.4g} {row['unit']} |" for row in answer["rows"]])


def parser() -> OneLineParser:
    flags = command("tools.bench", __doc__ or "")
    flags.add_argument("--config", default="configs/cpu10.yaml", help="of a run, with a data.source (%(default)s)")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
