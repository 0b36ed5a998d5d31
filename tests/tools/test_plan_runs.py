"""configs/runs: the scripts of the large runs; their commands are checked without running them."""

import shlex
import subprocess

import pytest

from tests.runs import ROOT
from tools.plan.__main__ import act, parser


def script(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    path = ROOT / "configs" / "runs" / name
    return subprocess.run(["bash", str(path), *words], cwd="/", capture_output=True, text=True)


@pytest.mark.parametrize(("name", "config"), [("run3b.sh", "d38"), ("run6b.sh", "d50"), ("run7b.sh", "d52")])
def test_a_dry_run_prints_every_command_and_runs_none(name: str, config: str) -> None:
    done = script(name, "--dry-run", "train.steps=100")
    assert (done.returncode, done.stderr) == (0, "")
    commands = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [next(word for word in c if "." in word) for c in commands] == [
        "tools.plan", "data.prep", "train_gpt.py", "quant.pack", "eval.bpb", "eval.probe",
    ]  # fmt: skip
    plan, training = commands[0], commands[2]
    answer = act(parser().parse_intermixed_args([str(ROOT / plan[3]), *plan[4:]]))
    assert (answer.fits, answer.steps, answer.pack_hours) == (True, 100, 0)
    assert training[-2:] == plan[3:5] == [f"configs/seeds/{config}.yaml", "train.steps=100"]


def test_a_script_refuses_what_it_does_not_know() -> None:
    for words, says in ((["--foo"], "--foo: not --dry-run"), (["--gpus"], "--gpus: needs a value")):
        done = script("run3b.sh", *words)
        assert done.returncode == 2
        assert says in done.stderr
