"""quant.method none: a run that ends with its float weights and their score; what can be done with it, and what not."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from base.errors import BadInput
from base.result_file import read_result
from tests.runs import CPU, answer, losses, printed, refusal, small, start_and_wait, train_command, weights
from tools.record.runs import read_run
from train_gpt import train_pack_score

NONE = "quant.method=none"


def test_it_ends_with_float_weights_and_their_score(work: Path) -> None:
    found = train_pack_score(small(NONE), "none", CPU)
    packed = train_pack_score(small(), "packed", CPU)
    assert (found.val_bpb, found.artifact, found.artifact_bytes, found.total_bytes) == (None, None, None, None)
    assert (found.float_bpb, found.val_tokens, found.val_bytes) == (
        packed.float_bpb,
        packed.val_tokens,
        packed.val_bytes,
    )
    assert found.eval_seconds > found.calibration_seconds == 0
    names = {path.name for path in Path(found.run).iterdir()}
    assert "model.golf" not in names
    assert {"model.pt", "result.json", "loss.png"} <= names
    result = json.loads((work / "runs" / "none" / "result.json").read_text())
    assert result.keys() == json.loads((work / "runs" / "packed" / "result.json").read_text()).keys()


@pytest.mark.slow
def test_it_resumes_after_signal_9_as_any_other(work: Path) -> None:
    command = train_command(NONE, "train.steps=60", "--json")
    through = json.loads(subprocess.run([*command, "--name", "through"], check=True, capture_output=True).stdout)
    run = work / "runs" / "killed"
    running = start_and_wait([*command, "--name", "killed"], run, 5)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    resumed = json.loads(subprocess.run([*command, "--name", "killed"], check=True, capture_output=True).stdout)
    assert (resumed["float_bpb"], resumed["val_bpb"]) == (through["float_bpb"], None)
    assert losses(run) == losses(through["run"])
    assert all(torch.equal(weight, weights(through["run"])[name]) for name, weight in weights(run).items())


def test_it_can_be_packed_afterwards_and_is_no_record_before_or_after(work: Path) -> None:
    train_pack_score(small(NONE, "train.steps=3", "quant.bits=mlp=5"), "r", CPU)
    assert "model.golf: no such file; pack it: python -m quant.pack runs/r" in refusal("eval.bpb", "runs/r")
    report = answer("quant.pack", "runs/r")
    assert (report["quant"]["method"], report["bits"]["mlp"]) == ("absmax", 5)
    assert answer("eval.bpb", "runs/r")["bpb"] > 0
    assert answer("quant.pack", "runs/r", "--method", "clip")["quant"]["method"] == "clip"
    printed("quant.pack", "runs/r", "--fit-artifact", "60000")
    assert "invalid choice: 'none'" in refusal("quant.pack", "runs/r", "--method", "none")
    for read in (lambda: read_result(Path("runs/r/result.json")), lambda: read_run(Path("runs/r"))):
        with pytest.raises(BadInput, match="quant.method none left no artifact, so no val_bpb"):
            read()


def test_a_cap_on_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="method none packs nothing that cap_bytes 1000 could hold"):
        small(NONE, "quant.cap_bytes=1000")
