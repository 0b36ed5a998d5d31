"""What the tests of the sweep stand on: a small dataset, a sweep file over it, and the stand-in for training."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from base.cli import run
from tests.conftest import prep
from tools import sweep
from tools.sweep.worker import Worker

SCRIPT = Path(__file__).parent / "sweep_script.py"
SMALL: dict[str, Any] = {
    "model.vocab_size": 400, "model.layers": 1, "model.dim": 16, "model.heads": 2, "model.kv_heads": 1,
    "train.seconds": 0, "train.steps": 4, "train.seq_len": 32, "train.batch_tokens": 64, "eval.stride": 32,
    "data.path": "data",
}  # fmt: skip


def set_up(jsonl: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`folder` as the working directory, with data, a base config, a sweep file and no special orders."""
    prep(jsonl, "--vocab", 400, "--val-fraction", 0.2, "--out", folder / "data", "--workers", 1)
    monkeypatch.chdir(folder)
    Path("none.yaml").write_text("")
    sheet()
    orders()
    return folder


def sheet(**changed: Any) -> None:
    variants = {"a": {}, "b": {"train.steps": 5}, "c": {"train.steps": 6}}
    plan = {"base": "none.yaml", "common": SMALL, "seeds": [1, 2], "variants": variants}
    Path("try.yaml").write_text(yaml.safe_dump({**plan, **changed}, sort_keys=False))


def orders(**given: Any) -> None:
    Path("orders.json").write_text(json.dumps(given))


def ledger(what: str) -> list[list[str]]:
    lines = Path("ledger.txt").read_text().splitlines() if Path("ledger.txt").exists() else []
    return [line.split()[1:] for line in lines if line.startswith(what)]


def begun() -> Counter[str]:
    return Counter(key for key, *_ in ledger("begin"))


def in_process(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sweep, "Worker", partial(Worker, script=SCRIPT))
    return run(sweep.parser(), sweep.act, sweep.show, ["try.yaml", *words])
