"""What the tests of the sweep share: a sweep file and the stand-in for training, in the working directory."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "model.vocab_size": 400, "model.layers": 1, "model.dim": 16, "model.heads": 2, "model.kv_heads": 1,
    "train.seconds": 0, "train.steps": 4, "train.seq_len": 32, "train.batch_tokens": 64, "eval.stride": 32,
    "data.path": "data",
}  # fmt: skip
KEYS = [f"{variant}-s{seed}" for seed in (1, 2) for variant in "abc"]
DRIVER = (
    "import sys; from functools import partial; from pathlib import Path; from base.cli import run; "
    "from tools.sweep import __main__ as sweep; from tools.sweep.worker import work; "
    "sweep.work = partial(work, script=Path(sys.argv[1])); "
    "sys.exit(run(sweep.parser(), sweep.act, sweep.show, sys.argv[2:]))"
)


def sheet(**changed: Any) -> None:
    Path("none.yaml").write_text("")
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


def started(*words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", DRIVER, str(ROOT / "tests/tools/sweep_script.py"), "try.yaml", "--json", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
