"""A run that was killed or stopped resumes bit for bit; one that left no checkpoint begins anew. Starts processes."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from base.config import to_yaml
from engine.saver import find_checkpoints
from tests.runs import CPU, losses, small, start_and_wait, train_command, weights
from train_gpt import train_pack_score


@pytest.mark.slow
@pytest.mark.parametrize(("average", "dropout"), [("ema", 0.1), ("swa", 0.0), ("off", 0.0)])
def test_a_run_killed_with_signal_9_resumes_bit_for_bit(work: Path, average: str, dropout: float) -> None:
    words = [f"average.kind={average}", "average.start=0.3", "average.every=0.1", "train.steps=120"]
    words += [f"model.dropout={dropout}"]
    command = train_command(*words, "--json")
    through = json.loads(subprocess.run([*command, "--name", "through"], check=True, capture_output=True).stdout)
    run = work / "runs" / "killed"
    running = start_and_wait([*command, "--name", "killed"], run, 9)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert 0 < max(find_checkpoints(run)) < 120
    done = subprocess.run([*command, "--name", "killed"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert Path(answer["run"]) == run
    assert answer["val_bpb"] == through["val_bpb"]
    for name, weight in weights(run).items():
        assert torch.equal(weight, weights(through["run"])[name]), name
    assert losses(run) == losses(through["run"])


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_saves_and_ends_with_130(work: Path, sent: signal.Signals) -> None:
    run = work / "runs" / "r"
    words = ("train.steps=100000", "train.checkpoint_s=1e9", "eval.during=0", "--name", "r")
    running = start_and_wait(train_command(*words), run, 4)
    running.send_signal(sent)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "saved; the same command resumes from there" in stderr
    assert list(find_checkpoints(run)) == [len(losses(run))]


def test_a_run_stopped_before_its_first_checkpoint_leaves_nothing_in_the_next_ones_files(work: Path) -> None:
    config, folder = small("train.steps=2", "eval.precision=fp32"), work / "runs" / "anew"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(config))
    (folder / "train.log").write_text("of the one before\n")
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 9.0}\n')
    assert train_pack_score(config, "anew", CPU).run == str(folder)
    assert len(losses(folder)) == 2
    assert "of the one before" not in (folder / "train.log").read_text()
