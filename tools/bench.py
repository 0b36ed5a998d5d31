"""Measure how fast the pipeline is here: encoding, loading, training, scoring and the codec, as a Markdown table.

    make bench                                                   (python -m tools.bench)
    python -m tools.bench --only training --config configs/cpu10.yaml
    python -m tools.bench --only codec --artifact runs/cpu10     (or scoring; default: the newest run's artifact)

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from base.cli import OneLineParser, command, run
from base.errors import CheckFailed
from base.files import read_json_object
from base.run_folder import ARTIFACT, METRICS, named_or_newest, read_metrics
from data.loader import Loader
from data.shards import TokenStream

ROOT = Path(__file__).parents[1]
STEPS = 30  # of training
SCORED_TOKENS = 20_000
CODED_TEXT = Path(argparse.__file__)  # about 100 kB
LOADER_BATCHES = 200
PRODUCT = 2048  # rows and columns of the matrices that the training step is compared with


@dataclass(frozen=True)
class Row:
    what: str
    figure: float
    unit: str


@dataclass(frozen=True)
class Report:
    machine: str
    rows: list[Row]


def act(args: argparse.Namespace) -> Report:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in PARTS.items():
            if args.only in (None, name):
                rows += measure(args, Path(folder))
    machine = f"{len(os.sched_getaffinity(0))} cores, torch {torch.__version__} with {torch.get_num_threads()} threads"
    return Report(machine, rows)


def measure_encoding(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    done = run_command("-m", "data.prep", "stdlib", "--vocab", "1024", "--out", str(folder / "encoded"))
    size = done["train_bytes"] + done["val_bytes"]
    yield Row("data.prep stdlib: split, tokenizer, encode and prove", size / done["seconds"] / 1e6, "MB/s")


def measure_loader(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    stream = TokenStream([np.random.default_rng(0).integers(0, 1024, 20_000_000, np.uint16)])
    loader = Loader(stream, "shuffled", 1024, 64, seed=1, data_sha256="")
    loader.next_batch()  # draws the first permutation
    started = time.perf_counter()
    tokens = sum(loader.next_batch()[0].numel() for _ in range(LOADER_BATCHES))
    yield Row("loader, shuffled, seq_len 1,024", tokens / (time.perf_counter() - started) / 1e6, "M tokens/s")


def measure_training(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Compilation and warm-up are not in a step's time. The artifact, packed the quick way, is for the parts below."""
    words = [str(ROOT / "train_gpt.py"), str(Path(args.config).resolve()), f"data.path={folder}/data"]
    words += [f"train.steps={STEPS}", "train.seconds=0", "eval.during=0"]
    words += ["quant.method=absmax", "quant.codec=zstd", "quant.cap_bytes=0"]
    sizes = run_command(*words, "--dry-run", cwd=folder)
    products = [time_product()]
    done = run_command(*words, "--name", "bench", cwd=folder)
    products.append(time_product())
    peak = 2 * PRODUCT**3 / min(products)
    metrics = read_metrics((Path(done["run"]) / METRICS).read_text(), METRICS)
    step_s = statistics.median(row["step_s"] for row in metrics if "step_s" in row)
    speed = sizes["tokens_per_step"] / step_s
    name = Path(args.config).stem
    yield Row(f"fp32 product, {PRODUCT:,} x {PRODUCT:,}", peak / 1e9, "GFLOP/s")
    yield Row(f"{name}: a training step of {sizes['tokens_per_step']:,} tokens", 1000 * step_s, "ms")
    yield Row(f"{name}: training", speed, "tokens/s")
    yield Row(f"{name}: training, of the product's rate", 100 * speed * sizes["flops_per_token"] / peak, "%")


def measure_scoring(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    done = run_command("-m", "eval.bpb", find_artifact(args, folder), "--limit", str(SCORED_TOKENS))
    yield Row(f"eval.bpb, context {done['context']}, stride {done['stride']}", done["tokens_per_second"], "targets/s")


def measure_codec(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    artifact = find_artifact(args, folder)
    packed = folder / "text.glz"
    back = folder / "text"
    done = run_command("-m", "eval.codec", "compress", artifact, str(CODED_TEXT), str(packed))
    tokens = done["tokens"]
    yield Row("eval.codec compress", tokens / done["seconds"], "tokens/s")
    done = run_command("-m", "eval.codec", "decompress", artifact, str(packed), str(back))
    yield Row("eval.codec decompress", tokens / done["seconds"], "tokens/s")
    if back.read_bytes() != CODED_TEXT.read_bytes():
        raise CheckFailed(f"{artifact}: {CODED_TEXT} did not come back from the codec")


PARTS: dict[str, Callable[[argparse.Namespace, Path], Iterator[Row]]] = {
    "encoding": measure_encoding,
    "loader": measure_loader,
    "training": measure_training,
    "scoring": measure_scoring,
    "codec": measure_codec,
}


def run_command(*words: str, cwd: Path | None = None) -> dict[str, Any]:
    """The JSON answer of a command of ours."""
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words, "--json"], cwd=cwd, env=path, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise CheckFailed(f"{' '.join(words)}: exit code {done.returncode}, for the reason above")
    return read_json_object(done.stdout, words[0])


def find_artifact(args: argparse.Namespace, folder: Path) -> str:
    made = folder / "runs" / "bench" / ARTIFACT  # by the training part
    return str(made if args.artifact is None and made.exists() else named_or_newest(args.artifact, ARTIFACT))


def time_product() -> float:
    """Seconds of the best of several: what the machine can do when nothing disturbs it."""
    a, b = torch.randn(2, PRODUCT, PRODUCT)
    seconds = []
    for _ in range(12):
        started = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def show(report: Report) -> str:
    lines = [report.machine, "", "| what | measured |", "|---|---|"]
    return "\n".join(lines + [f"| {row.what} | {row.figure:,.4g} {row.unit} |" for row in report.rows])


def parser() -> OneLineParser:
    flags = command("tools.bench", __doc__ or "")
    flags.add_argument("--only", choices=PARTS, help="one part of the table")
    flags.add_argument("--config", default="configs/cpu10.yaml", help="of training, with a data.source (%(default)s)")
    flags.add_argument("--artifact", help="of scoring and codec: a file or a run's folder")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
