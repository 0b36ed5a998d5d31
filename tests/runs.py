"""Tiny training runs for tests: a config of two layers, and the command that trains it in a process of its own."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from base.config import load
from engine.device import Device
from run_config import RunConfig

ROOT = Path(__file__).parents[1]
CPU = Device(torch.device("cpu"))
SMALL = [
    "model.vocab_size=400", "model.layers=2", "model.dim=32", "model.heads=2", "model.kv_heads=1", "model.smear=static",
    "model.bigram_buckets=64", "model.bigram_dim=8", "model.skips=plain", "model.embed_norm=true", "train.seconds=0",
    "train.steps=12", "train.seq_len=32", "train.batch_tokens=256", "train.checkpoint_s=1e-9", "eval.stride=16",
    "data.path=data",
]  # fmt: skip


def small(*words: str) -> RunConfig:
    return load(RunConfig, None, [*SMALL, *words])


def train_command(*words: str, ranks: int = 1) -> list[str]:
    """`train_gpt.py` with the small config; for ranks, under torchrun on a free port."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    return [sys.executable, *torchrun, str(ROOT / "train_gpt.py"), str(ROOT / "configs" / "demo.yaml"), *SMALL, *words]


def weights(run: str | Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(Path(run) / "model.pt", weights_only=True)["weights"]
    return found


def metrics(run: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def losses(run: str | Path) -> list[float]:
    return [row["loss"] for row in metrics(run) if "loss" in row]
