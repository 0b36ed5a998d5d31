"""Two ranks against one process: DDP is the doubled batch, FSDP2 is DDP, and a sharded run stops and resumes.

All slow: each starts a process per rank.
"""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from base.config import load
from run_config import RunConfig
from tests.runs import CPU, ROOT, make_dataset, metrics, start_and_wait, train_command, weights
from train_gpt import train_pack_score

pytestmark = pytest.mark.slow

# Odd sizes: 5 layers over 2 ranks, 33 rows that do not halve; features that hold vectors, scalars and untied heads.
ODD = [
    "model.vocab_size=401", "model.layers=5", "model.dim=33", "model.heads=3", "model.kv_heads=1", "model.head_dim=10",
    "model.bigram_dim=9", "model.resid_mix=true", "model.branch_scale=true", "model.q_gain=1.5", "model.tied=false",
    "model.canonical=true", "average.decay=0.9",
]  # fmt: skip


@pytest.fixture
def work(jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_dataset(jsonl, tmp_path / "data", vocab=401)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def on_two_ranks(*words: str, name: str) -> dict[str, Any]:
    command = train_command(*ODD, *words, "--name", name, "--json", ranks=2)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return answer


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_one_step_on_two_ranks_is_one_ranks_on_the_doubled_batch(work: Path) -> None:
    words = ("train.steps=1", "average.kind=off")
    command = train_command(*ODD, *words)
    overrides = [word for word in command if "=" in word]
    one = train_pack_score(load(RunConfig, ROOT / "configs" / "demo.yaml", overrides), "one", CPU)
    replicated = on_two_ranks(*words, name="ddp")
    sharded = on_two_ranks(*words, "train.shard=fsdp", name="fsdp")
    # The optimizers' first steps have the size of their rates, 0.02 and 0.03: 1e-5 of rounding is a thousandth of one.
    assert largest_difference(weights(replicated["run"]), weights(one.run)) < 1e-5
    assert largest_difference(weights(sharded["run"]), weights(replicated["run"])) < 1e-5
    assert replicated["val_bpb"] == pytest.approx(one.val_bpb, abs=1e-4)


def test_fsdp_with_a_chunked_loss_trains_averages_validates_and_clips_as_ddp_does(work: Path) -> None:
    words = ("train.steps=8", "optim.clip=0.1", "eval.during=0.2")
    replicated = on_two_ranks(*words, name="ddp")
    sharded = on_two_ranks(*words, "train.shard=fsdp", "train.loss_tokens=24", name="fsdp")
    assert largest_difference(weights(sharded["run"]), weights(replicated["run"])) < 2e-4
    assert sharded["float_bpb"] == pytest.approx(replicated["float_bpb"], abs=1e-4)


def test_ranks_whose_clocks_differ_validate_together_and_end_together(work: Path) -> None:
    answer = on_two_ranks("train.steps=0", "train.seconds=2", "eval.during=0.05", name="timed")
    assert len([row for row in metrics(answer["run"]) if "float_bpb" in row]) >= 3


def test_a_sharded_run_stops_at_a_signal_to_any_rank_and_resumes(work: Path) -> None:
    words = ("train.steps=30", "train.shard=fsdp", "train.checkpoint_s=1e9", "eval.during=0")
    through = on_two_ranks(*words, name="through")
    run = work / "runs" / "cut"
    command = train_command(*ODD, *words, "--name", "cut", ranks=2)
    running = start_and_wait(command, run, 4)
    os.kill(process_of_rank(running.pid, 1), signal.SIGTERM)  # not the rank that writes
    _, stderr = running.communicate(timeout=60)
    assert "saved; the same command resumes from there" in stderr
    assert not (run / "result.json").exists()
    done = on_two_ranks(*words, name="cut")
    assert Path(done["run"]) == run
    assert largest_difference(weights(run), weights(through["run"])) < 1e-5


def process_of_rank(launcher: int, rank: int) -> int:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    environments = {int(child): Path(f"/proc/{child}/environ").read_bytes().split(b"\0") for child in children}
    return next(child for child, variables in environments.items() if f"RANK={rank}".encode() in variables)


GATHERS = """
import sys
from base.config import load
from data.dataset import open_dataset
from engine.device import run_rank, gather, joined
from engine.shard import gather_weights
from run_config import RunConfig
from training import Training

def work():
    with joined() as device:
        training = Training(load(RunConfig, sys.argv[1], sys.argv[2:]), open_dataset("data"), device)
        training.step(0.0)
        gathered = list(gather_weights(training.model).values())
        sizes = gather([tensor.numel() for tensor in gathered], device)
        assert not any(sizes[1]) and sum(sizes[0]) == sum(weight.numel() for weight in training.weights), sizes
        assert all(tensor.device.type == "cpu" for tensor in gathered)
    return 0

run_rank(work)
"""


def run_script(script: Path, code: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """This code on two ranks, in the place of train_gpt.py."""
    script.write_text(code)
    command = train_command(*words, ranks=2)
    command[command.index(str(ROOT / "train_gpt.py"))] = str(script)
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_complete_weights_are_gathered_on_the_main_rank_alone(work: Path) -> None:
    done = run_script(work / "gathers.py", GATHERS, *ODD, "train.steps=1", "train.shard=fsdp")
    assert done.returncode == 0, done.stderr


SCORES = """
import sys
import numpy as np
import torch
from torch.distributed.tensor import DTensor
from base.config import load
from data.dataset import open_dataset
from engine.device import Device, joined, run_rank
from eval.protocol import Protocol
from eval.score import score
from model.gpt import GPT
from quant.unpack import attach_table
from run_config import RunConfig
from training import Training

def work():
    torch.set_default_dtype(torch.float64)
    with joined() as device:
        dataset = open_dataset("data")
        training = Training(load(RunConfig, sys.argv[1], sys.argv[2:]), dataset, device)
        model, gathered = training.model, set()
        model.blocks[-1].register_forward_pre_hook(
            lambda *_: gathered.add(sum(not isinstance(next(block.parameters()), DTensor) for block in model.blocks)))
        for limit in (None, 5, 300):  # of 5 targets there is one window
            training.step(0.0)
            found = score(model, dataset, Protocol(32, 7, batch_tokens=64), device, limit)
            plain = attach_table(GPT(training.config.model), dataset.tokenizer)
            plain.load_state_dict({name: weight.full_tensor() for name, weight in model.state_dict().items()})
            alone = score(plain, dataset, Protocol(32, 7), Device(torch.device("cpu")), limit)
            assert found.tokens == alone.tokens
            np.testing.assert_allclose(found.block_nats, alone.block_nats, rtol=1e-9)
        assert max(gathered) <= 2, gathered  # of five blocks: one at work and one on its way
    return 0

run_rank(work)
"""


def test_a_split_model_is_scored_block_by_block_whatever_each_rank_has_to_do(work: Path) -> None:
    done = run_script(work / "scores.py", SCORES, *ODD, "train.shard=fsdp")
    assert done.returncode == 0, done.stderr


# The interpreter of a rank must not be taken down: threads of gloo that outlive the group abort it then.
ENDS = """
import atexit, sys
from engine.device import run_rank, gather, joined

def work():
    with joined() as device:
        assert gather(device.rank, device) == [0, 1]
        sys.stdout.write(f"from rank {device.rank}")
    return int(sys.argv[-1]) if device.main else 0

atexit.register(lambda: sys.stderr.write("taken down"))
run_rank(work)
"""


@pytest.mark.parametrize("code", [0, 3])
def test_ranks_give_one_answer_and_one_exit_code(tmp_path: Path, code: int) -> None:
    done = run_script(tmp_path / "ends.py", ENDS, str(code))
    assert (done.returncode == 0) == (code == 0)
    if code == 0:
        assert done.stdout == "from rank 0", done.stderr
        assert "taken down" not in done.stderr
    else:
        assert f"exitcode  : {code}" in done.stderr
