"""Tiny datasets, training runs and commands for tests: in this process, or in one of their own."""

import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from base.cli import run
from base.config import load
from data import prep as data_prep
from data.shards import header
from data.tokenizer import Tokenizer
from engine.device import Device
from run_config import RunConfig

ROOT = Path(__file__).parents[1]
CPU = Device(torch.device("cpu"))
SMALL = [
    "model.vocab_size=400", "model.layers=2", "model.dim=32", "model.heads=2", "model.kv_heads=1", "model.smear=static",
    "model.bigram_buckets=64", "model.bigram_dim=8", "model.skips=plain", "model.embed_norm=true", "train.seconds=0",
    "train.steps=12", "train.seq_len=32", "train.batch_tokens=256", "train.checkpoint_s=1e-9", "eval.stride=16",
    "model.rope_dims=8", "model.attention=null", "model.value_tables=[0]", "data.path=data",
]  # fmt: skip


def prep(*words: object) -> dict[str, Any]:
    """`python -m data.prep …` in this process: its answer."""
    return data_prep.act(data_prep.parser().parse_args([str(word) for word in words]))


def write_texts(path: Path, texts: Iterable[str]) -> Path:
    """As data.prep reads them, a document a line."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def make_dataset(jsonl: Path, out: Path, vocab: int = 400) -> None:
    """A dataset that fits `small()`, if the vocabulary is not another."""
    prep(jsonl, "--vocab", vocab, "--val-fraction", 0.2, "--out", out, "--workers", 1)


def lay_bare(root: Path, tokenizer: Tokenizer, texts: Sequence[str], train: int, val: int) -> Path:
    """Texts as the contest publishes them: so many shards of either side in root/datasets, the tokenizer in
    root/tokenizers, no manifest. A fifth of the texts are for validation."""
    folder = root / "datasets" / "fineweb10B_sp1024"
    folder.mkdir(parents=True)
    (root / "tokenizers").mkdir()
    (root / "tokenizers" / "fineweb_1024_bpe.model").write_bytes(tokenizer.model)
    cut = len(texts) // 5
    for split, part, count in (("val", texts[:cut], val), ("train", texts[cut:], train)):
        for number, shard in enumerate(shards_of(tokenizer, part, count)):
            (folder / f"fineweb_{split}_{number:06d}.bin").write_bytes(shard)
    return folder


def shards_of(tokenizer: Tokenizer, texts: Sequence[str], cuts: int) -> list[bytes]:
    """Documents end to end as BOS + tokens, cut into files with no regard to documents, as the export is."""
    ids = np.concatenate([part for text in texts for part in ([tokenizer.bos_id], tokenizer.encode(text))])
    return [header(len(part)) + part.astype("<u2").tobytes() for part in np.array_split(ids, cuts)]


def entry(name: str) -> Any:
    """What `python -m name` runs: of a package, its __main__."""
    module = import_module(name)
    return import_module(f"{name}.__main__") if hasattr(module, "__path__") else module


def command(name: str, *words: str) -> int:
    """`python -m name …` in this process: its exit code."""
    program = entry(name)
    return run(program.parser(), program.act, getattr(program, "show", str), words)


def printed(name: str, *words: object, code: int = 0) -> tuple[str, str]:
    """What it prints on stdout and stderr, if it ends with this exit code."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        found = command(name, *map(str, words))
    assert found == code, (name, words, err.getvalue()[-2000:])
    return out.getvalue(), err.getvalue()


def answer(name: str, *words: object) -> Any:
    """Its answer as a program reads it, alone on stdout."""
    return json.loads(printed(name, *words, "--json")[0])


def refusal(name: str, *words: object) -> str:
    """The one line with which it refuses bad input, and says nothing else."""
    out, err = printed(name, *words, code=2)
    assert (out, err.count("\n")) == ("", 1), (out, err)
    return err


def small(*words: str) -> RunConfig:
    return load(RunConfig, None, [*SMALL, *words])


def train_command(*words: str, ranks: int = 1) -> list[str]:
    """`train_gpt.py` with the small config; for ranks, under torchrun on a free port."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    return [sys.executable, *torchrun, str(ROOT / "train_gpt.py"), str(ROOT / "configs" / "demo.yaml"), *SMALL, *words]


def start_and_wait(line: list[str], run_folder: Path, rows: int) -> "subprocess.Popen[str]":
    """The command, running, once its metrics have that many rows."""
    running = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    path = run_folder / "metrics.jsonl"
    while not path.exists() or len(path.read_text().splitlines()) < rows:
        assert running.poll() is None
        time.sleep(0.005)
    return running


def weights(run: str | Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(Path(run) / "model.pt", weights_only=True)["weights"]
    return found


def metrics(run: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def losses(run: str | Path) -> list[float]:
    return [row["loss"] for row in metrics(run) if "loss" in row]
