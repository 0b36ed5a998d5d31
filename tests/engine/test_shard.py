"""Ranks against one process: DDP is the doubled batch, FSDP2 is DDP, and a sharded run goes on unsharded."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from base.config import load
from engine.device import Device
from tests.conftest import prep
from train_gpt import RunConfig, whole_run

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]  # on a free port
# Odd sizes: 5 layers over 2 ranks, 33 rows that do not halve; features that hold vectors, scalars and untied heads.
WORDS = [
    "model.vocab_size=401", "model.layers=5", "model.dim=33", "model.heads=3", "model.kv_heads=1", "model.head_dim=10",
    "model.smear=static", "model.bigram_buckets=64", "model.bigram_dim=9", "model.skips=plain", "model.resid_mix=true",
    "model.branch_scale=true", "model.q_gain=1.5", "model.tied=false", "model.embed_norm=true", "train.seconds=0",
    "train.seq_len=32", "train.batch_tokens=256", "eval.stride=32", "average.decay=0.9",
]  # fmt: skip


@pytest.fixture
def work(jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prep(jsonl, "--vocab", 401, "--val-fraction", 0.2, "--out", tmp_path / "data", "--workers", 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.yaml").write_text("")
    return tmp_path


def on_two_ranks(work: Path, *words: str, name: str) -> dict[str, Any]:
    command = [*TORCHRUN, str(ROOT / "train_gpt.py"), "none.yaml", *WORDS, "data.path=data", *words]
    done = subprocess.run([*command, "--name", name, "--json"], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return answer


def weights(run: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(Path(run) / "model.pt", weights_only=True)["weights"]
    return found


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_one_step_on_two_ranks_is_the_step_of_one_rank_on_the_doubled_batch_and_fsdp_is_ddp(work: Path) -> None:
    one = whole_run(
        load(RunConfig, None, [*WORDS, "data.path=data", "train.steps=1", "average.kind=off"]), "one",
        Device(torch.device("cpu")),
    )  # fmt: skip
    replicated = on_two_ranks(work, "train.steps=1", "average.kind=off", name="ddp")
    sharded = on_two_ranks(work, "train.steps=1", "average.kind=off", "train.shard=fsdp", name="fsdp")
    # The optimizers' first steps have the size of their rates, 0.02 and 0.03: 1e-5 of rounding is a thousandth of one.
    assert furthest(weights(replicated["run"]), weights(one["run"])) < 1e-5
    assert furthest(weights(sharded["run"]), weights(replicated["run"])) < 1e-5


def test_fsdp_with_a_chunked_loss_trains_averages_validates_and_clips_as_ddp_does(work: Path) -> None:
    words = ("train.steps=8", "optim.clip=0.1", "eval.during=0.2")
    replicated = on_two_ranks(work, *words, name="ddp")
    sharded = on_two_ranks(work, *words, "train.shard=fsdp", "train.loss_tokens=24", name="fsdp")
    assert furthest(weights(sharded["run"]), weights(replicated["run"])) < 2e-4
    assert sharded["val_bpb"] == pytest.approx(replicated["val_bpb"], abs=1e-4)


def rank_of(launcher: int, rank: int) -> int:
    """The process of this rank."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    environments = {int(child): Path(f"/proc/{child}/environ").read_bytes().split(b"\0") for child in children}
    return next(child for child, variables in environments.items() if f"RANK={rank}".encode() in variables)


HELD = """
import os, sys
from pathlib import Path
from base.config import load
from data.dataset import open_dataset
from engine.device import run_rank, gather, joined
from train_gpt import RunConfig, Training

def work():
    with joined() as device:
        training = Training(load(RunConfig, None, sys.argv[1:]), open_dataset("data"), device)
        training.step(0.0)
        whole = list(training.state_dict()["weights"].values())
        sizes = gather([tensor.numel() for tensor in whole], device)
        assert not any(sizes[1]) and sum(sizes[0]) == sum(weight.numel() for weight in training.weights), sizes
        assert all(tensor.device.type == "cpu" for tensor in whole)
    return 0

run_rank(work)
"""


def test_whole_weights_for_a_checkpoint_are_the_main_ranks_alone(work: Path) -> None:
    (work / "held.py").write_text(HELD)
    command = [*TORCHRUN, "held.py", *WORDS, "data.path=data", "train.steps=1", "train.shard=fsdp"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_sharded_run_that_is_told_to_stop_saves_and_goes_on_from_there(work: Path) -> None:
    words = ("train.steps=30", "train.shard=fsdp", "train.checkpoint_s=1e9", "eval.during=0")
    through = on_two_ranks(work, *words, name="through")
    run = work / "runs" / "cut"
    command = [*TORCHRUN, str(ROOT / "train_gpt.py"), "none.yaml", *WORDS, "data.path=data", *words, "--name", "cut"]
    running = subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, text=True)
    while not (run / "metrics.jsonl").exists() or len((run / "metrics.jsonl").read_text().splitlines()) < 4:
        assert running.poll() is None
        time.sleep(0.01)
    os.kill(rank_of(running.pid, 1), signal.SIGTERM)  # not the one that writes, and all the others hear of it
    _, said = running.communicate(timeout=60)
    assert "saved; the same command goes on from there" in said
    assert not (run / "result.json").exists()
    done = on_two_ranks(work, *words, name="cut")
    assert Path(done["run"]) == run
    assert furthest(weights(done["run"]), weights(through["run"])) < 1e-5
