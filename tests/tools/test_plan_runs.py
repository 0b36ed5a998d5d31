"""configs/runs: the scripts of the large runs; their commands are checked without running them."""

import shlex
import subprocess

import pytest

from tests.runs import ROOT
from tools.plan import act, parser


def script(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    path = ROOT / "configs" / "runs" / name
    return subprocess.run(["bash", str(path), *words], cwd="/", capture_output=True, text=True)


@pytest.mark.parametrize(("name", "config"), [("run3b.sh", "d38"), ("run7b.sh", "d52")])
def test_a_dry_run_prints_every_command_and_runs_none(name: str, config: str) -> None:
    done = script(name, "--dry-run", "train.steps=100")
    assert (done.returncode, done.stderr) == (0, "")
    commands = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [next(word for word in c if "." in word) for c in commands] == [
        "tools.plan", "data.prep", "train_gpt.py", "eval.bpb", "eval.probe",
    ]  # fmt: skip
    plan, training = commands[0], commands[2]
    answer = act(parser().parse_intermixed_args([*plan[3:3], str(ROOT / plan[3]), *plan[4:]]))
    assert answer.fits
    assert answer.steps == 100
    assert config in training[-6]
    assert training[-5:] == plan[-5:]


def test_a_script_refuses_what_it_does_not_know() -> None:
    for words, says in ((["--foo"], "--foo: not --dry-run"), (["--gpus"], "--gpus: needs a value")):
        done = script("run3b.sh", *words)
        assert done.returncode == 2
        assert says in done.stderr
