"""Nodes whose folders and datasets are their own check each other, are killed, resume; checkpoints fit other layouts.

All slow: each starts a process per rank. The nodes are this machine; what they do not share is their current folder.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from engine.saver import find_checkpoints
from tests.contract.test_ranks import ODD
from tests.runs import ROOT, SMALL, make_dataset, weights, write_texts

pytestmark = pytest.mark.slow

WORDS = [
    str(ROOT / "configs" / "demo.yaml"), *SMALL, *ODD, "train.steps=20", "train.batch_tokens=384", "eval.during=0",
    "quant.method=absmax",
]  # fmt: skip
HSDP = ["train.shard=fsdp", "train.replicate=2"]
SCRIPT = """
import sys
from pathlib import Path
import torch
from torch.distributed.tensor import DTensor
from base.cli import OneLineParser, run
from base.config import load
from data.dataset import open_dataset
from engine.device import joined, run_rank
from engine.nodes import find_sharers
from engine.saver import Saver
from run_config import RunConfig
from training import Training

def begin(device, *words):
    return Training(load(RunConfig, sys.argv[2], [*sys.argv[3:], *words]), open_dataset("data"), device)

def whole(tensors):
    return {name: t.full_tensor() if isinstance(t, DTensor) else t.clone() for name, t in tensors.items()}

def save(device, saver):
    training = begin(device)
    for _ in range(2):
        training.step(0.5)
    training.save(saver)
    saver.wait()
    torch.save(whole(training.tensors()), f"expected{device.rank}.pt")

def load_again(device, saver):
    training = begin(device)
    assert training.resume(saver) and training.clock.step == 2
    found, expected = whole(training.tensors()), torch.load("expected0.pt")
    shared = {name for name in expected if not name.startswith("random")}
    assert len(shared) > 100 and shared <= found.keys()
    assert [name for name in shared if not torch.equal(found[name], expected[name])] == []

def compare(device, saver):
    grads, logits = [], []
    for words in (["train.shard=ddp"], ["train.shard=fsdp", "train.replicate=2"]):
        training = begin(device, "train.micro_tokens=32", *words)
        for optimizer in training.optimizers:
            optimizer.step = optimizer.zero_grad = lambda *_, **__: None
        training.prime()
        training.step(0.0)
        grads.append(whole({name: weight.grad for name, weight in training.named.items()}))
        with torch.no_grad():
            logits.append(training.model.eval()(torch.arange(32)[None]))
    assert torch.equal(*logits)
    assert all(torch.allclose(grads[0][name], grads[1][name], rtol=1e-4, atol=1e-7) for name in grads[0])

def work(_):
    with joined() as device:
        do = {"save": save, "load": load_again, "compare": compare}[sys.argv[1]]
        do(device, Saver(Path("run"), find_sharers(Path("run"), device), device))
        print("done", file=sys.stderr)

parser = OneLineParser(prog="script")
parser.add_argument("words", nargs="*")
run_rank(lambda: run(parser, work, str))
"""


@pytest.fixture
def nodes(jsonl: Path, tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("a", "b")]
    for folder in made:
        make_dataset(jsonl, folder / "data", vocab=401)
    (tmp_path / "script.py").write_text(SCRIPT)
    return made


def start(nodes: list[Path], *words: str, ranks: int = 2) -> list["subprocess.Popen[str]"]:
    """`torchrun … train_gpt.py WORDS` on each node, of its own code if it has a copy; a mode of SCRIPT in its place."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for folder in nodes:
        code = folder / "code" if (folder / "code").exists() else ROOT
        script = code / "train_gpt.py" if words[0].startswith("--") else folder.parent / "script.py"
        line = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(nodes)}", "--rdzv_backend=c10d"]
        line += [f"--rdzv_endpoint=127.0.0.1:{port}", "--rdzv_id=test", f"--nproc_per_node={ranks}", str(script)]
        line += [*WORDS, *words] if words[0].startswith("--") else [words[0], *WORDS, *words[1:]]
        environment = {**os.environ, "PYTHONPATH": str(code)}
        started.append(subprocess.Popen(line, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True))
    return started


def end(running: list["subprocess.Popen[str]"], is_good: bool = True) -> str:
    """What all of them print."""
    printed = "".join(process.communicate(timeout=300)[1] for process in running)
    assert all((process.returncode == 0) == is_good for process in running), printed
    return printed


def kill_once_saved(running: list["subprocess.Popen[str]"], runs: list[Path]) -> None:
    while not all(map(find_checkpoints, runs)):
        assert [process.poll() for process in running] == [None] * len(running)
        time.sleep(0.005)
    for process in running:
        of_ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for number in (process.pid, *map(int, of_ranks)):
            os.kill(number, signal.SIGKILL)
    for process in running:
        process.communicate()


@pytest.mark.parametrize("layout", [["train.shard=ddp"], HSDP])
def test_two_nodes_that_share_no_folder_resume_bit_for_bit(nodes: list[Path], layout: list[str]) -> None:
    words = [*layout, "model.dropout=0.1"]
    end(start(nodes, "--name=through", *words))
    runs = [folder / "runs" / "cut" for folder in nodes]
    kill_once_saved(start(nodes, "--name=cut", *words), runs)
    assert not (runs[0] / "model.pt").exists()
    assert "resuming at step" in end(start(nodes, "--name=cut", *words))
    through, cut = (weights(nodes[0] / "runs" / name) for name in ("through", "cut"))
    assert all(torch.equal(through[name], cut[name]) for name in through)
    files = [{path.name for path in run.iterdir()} for run in runs]
    assert {"config.yaml", "model.golf"} <= files[0] & files[1]
    assert "train.log" in files[0] - files[1]
    (runs[0] / "result.json").unlink()
    (runs[1] / "config.yaml").write_text("seed: 1\n")
    assert "have different runs/cut/config.yaml: " in end(start(nodes, "--name=cut", *words), is_good=False)


def test_a_checkpoint_of_two_sharded_ranks_is_read_by_any_number_of_ranks(nodes: list[Path]) -> None:
    one = nodes[:1]
    end(start(one, "save", "train.shard=fsdp"))
    assert [path.name for path in (nodes[0] / "run" / "checkpoint-2").iterdir()] == ["part-0"]
    for ranks, layout in ((1, ["train.shard=fsdp"]), (2, ["train.shard=ddp"]), (3, ["train.shard=fsdp"]), (4, HSDP)):
        end(start(one, "load", *layout, ranks=ranks))


def test_nodes_that_are_split_over_resume_alone_and_elsewhere_with_all_parts(nodes: list[Path]) -> None:
    end(start(nodes, "save", "train.shard=fsdp"))
    shutil.copy(nodes[0] / "expected0.pt", nodes[1])
    end(start(nodes, "load", "train.shard=fsdp"))
    printed = end(start(nodes[:1], "load", "train.shard=fsdp"), is_good=False)
    assert "checkpoint-2: not a checkpoint that can be read: parts of" in printed
    shutil.copytree(nodes[1] / "run", nodes[0] / "run", dirs_exist_ok=True)
    end(start(nodes[:1], "load", "train.shard=fsdp"))


def test_logits_and_gradients_of_replicated_shards_are_those_of_whole_weights(nodes: list[Path]) -> None:
    end(start(nodes[:1], "compare", ranks=4))


def test_a_node_with_other_data_or_other_code_is_refused_by_what_differs(nodes: list[Path], jsonl: Path) -> None:
    shutil.copytree(
        ROOT, nodes[1] / "code", ignore=shutil.ignore_patterns(".*", "records", "tests", "runs", "datasets")
    )
    with (nodes[1] / "code" / "optim" / "muon.py").open("a") as source:
        source.write("# changed\n")
    host = socket.gethostname()
    printed = end(start(nodes, "--name=r"), is_good=False)
    assert f"rank 0 ({host}) and rank 2 ({host}) have different code or data: 'sources_sha256: " in printed
    shutil.rmtree(nodes[1] / "code")
    shutil.rmtree(nodes[1] / "data")
    make_dataset(
        write_texts(nodes[1] / "other.jsonl", jsonl.read_text().split('"')[3::4][:100]), nodes[1] / "data", 401
    )
    printed = end(start(nodes, "--name=r"), is_good=False)
    assert f"rank 2 ({host}) and rank 0 ({host}) have different code or data: 'data_sha256: " in printed
    assert "give all nodes one commit and one data" in printed
    assert not (nodes[0] / "runs").exists()
