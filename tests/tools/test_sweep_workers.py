"""Workers as processes of their own: two share a study, one is killed, one is stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.tools.sweep_work import SCRIPT, begun, in_process, ledger, orders, set_up

ROOT = Path(__file__).parents[2]
DRIVER = (
    "import sys; from functools import partial; from pathlib import Path; from base.cli import run; "
    "from tools import sweep; from tools.sweep.worker import Worker; "
    "sweep.Worker = partial(Worker, script=Path(sys.argv[1])); "
    "sys.exit(run(sweep.parser(), sweep.act, sweep.show, sys.argv[2:]))"
)
KEYS = [f"{variant}-s{seed}" for seed in (1, 2) for variant in "abc"]


@pytest.fixture(autouse=True)
def work(jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(jsonl, tmp_path, monkeypatch)


def started(*words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", DRIVER, str(SCRIPT), "try.yaml", "--json", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def running_trial_of(process: subprocess.Popen[str]) -> tuple[str, int]:
    """(key, process) of the trial that this worker has begun and not ended."""
    while True:
        assert process.poll() is None
        ended = {pid for _, pid, _ in ledger("end")}
        mine = [
            (key, int(pid)) for key, pid, parent in ledger("begin") if int(parent) == process.pid and pid not in ended
        ]
        if mine:
            return mine[-1]
        time.sleep(0.01)


def gone(pid: int, within_s: float = 10) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("storage", ["study.journal", pytest.param("sqlite:///study.db", marks=pytest.mark.slow)])
def test_of_two_workers_one_is_killed_and_only_its_own_trial_runs_twice(storage: str) -> None:
    orders(seconds=1)
    words = ("--storage", storage, "--lease-s", "3")
    one, two = started(*words), started(*words)
    running_trial_of(two)
    lost, child = running_trial_of(one)  # last, so that it is still the one that runs
    one.kill()
    one.communicate()
    assert gone(child)  # its child, too: nothing trains on in that folder
    said, errors = two.communicate(timeout=60)
    assert two.returncode == 0, errors
    answer = json.loads(said)
    assert [f"{trial['variant']}-s{trial['seed']}" for trial in answer["trials"]] == KEYS
    assert all(trial["state"] == "complete" for trial in answer["trials"])
    assert begun() == Counter([*KEYS, lost])
    assert Counter(key for key, *_ in ledger("end")) == Counter(KEYS)


@pytest.mark.slow
def test_two_workers_share_a_study_and_the_trials_of_one_process_run_side_by_side() -> None:
    orders(seconds=0.3)
    one, two = started("--workers", "2"), started()
    for process in (one, two):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert begun() == Counter(KEYS)
    assert {int(parent) for _, _, parent in ledger("begin")} == {one.pid, two.pid}


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_worker_that_is_stopped_gives_its_trial_back_at_once(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    orders(seconds=60)
    worker = started()
    key, child = running_trial_of(worker)
    worker.send_signal(number)
    _, errors = worker.communicate(timeout=30)
    assert worker.returncode == 130, errors
    assert gone(child)
    orders()
    began = time.monotonic()
    assert in_process(monkeypatch) == 0
    assert time.monotonic() - began < 30  # no lease has to run out
    assert begun() == Counter([key, *KEYS])
