"""How much of the machine a training step uses, and on what: rows for tools/bench.py.

The yardstick is the machine's own matrix product, timed before and after the steps in the same process; FLOPs are
counted as everywhere (docs/model.md). Compilation and warm-up are not in the figures.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from base.config import load
from data.dataset import open_dataset
from data.ensure import ensure_dataset
from engine.device import Device
from model.cost import flops_per_token
from run_config import RunConfig
from tools.bench_row import Row, since
from train_gpt import Training

STEPS = 20
PRODUCT = 2048  # rows and columns of the yardstick's matrices


def training_rows(config_path: str, corpus: str) -> list[Row]:
    config: RunConfig = load(RunConfig, config_path, ["train.seconds=0", f"train.steps={10 * STEPS}"])
    with tempfile.TemporaryDirectory() as folder:
        ensure_dataset(corpus, config.model.vocab_size, Path(folder) / "data")
        training = Training(config, open_dataset(Path(folder) / "data"), Device(torch.device("cpu")))
        training.prime()
        training.step(0.0)
        spent = {"loading": 0.0, "optimizer": 0.0}
        _timed(training.loader, "next_batch", spent, "loading")
        for optimizer in training.optimizers:
            _timed(optimizer, "step", spent, "optimizer")
        _timed(training.average, "follow", spent, "optimizer")
        before = product_flops()
        started = time.perf_counter()
        for step in range(STEPS):
            training.step(step / (10 * STEPS))
        elapsed_s = since(started)
        peak = max(before, product_flops())
    speed = STEPS * config.train.batch_tokens / elapsed_s
    flops = speed * flops_per_token(config.model, config.train.seq_len)
    name = Path(config_path).stem
    return [
        Row(f"fp32 product, {PRODUCT:,} x {PRODUCT:,}", peak / 1e9, "GFLOP/s"),
        Row(f"{name}: training", speed, "tokens/s"),
        Row(f"{name}: training", flops / 1e9, "GFLOP/s"),
        Row(f"{name}: of the product's rate", 100 * flops / peak, "%", 45),
        Row(f"{name}: optimizer and averaging, of a step", 100 * spent["optimizer"] / elapsed_s, "%", 8, at_most=True),
        Row(f"{name}: loading, of a step", 100 * spent["loading"] / elapsed_s, "%", 1, at_most=True),
    ]


def product_flops() -> float:
    """The best of several: what the machine can do when nothing disturbs it."""
    a, b = torch.randn(PRODUCT, PRODUCT), torch.randn(PRODUCT, PRODUCT)
    out = torch.empty(PRODUCT, PRODUCT)
    best = float("inf")
    for _ in range(12):
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, since(started))
    return 2 * PRODUCT**3 / best


def _timed(owner: object, method: str, spent: dict[str, float], name: str) -> None:
    plain: Callable[..., Any] = getattr(owner, method)

    def timed(*args: Any) -> Any:
        started = time.perf_counter()
        result = plain(*args)
        spent[name] += since(started)
        return result

    setattr(owner, method, timed)
