"""A worker: trains the trials of a sweep that nobody else trains, each as a child process of the training command.

A child, so that a trial that crashes or runs out of memory takes nothing with it. A trial is a run in
`runs/sweeps/SWEEP/TRIAL` and is finished once that holds result.json. It is taken by a lock on `logs/TRIAL.log`, which
is the child's stderr: the kernel keeps the lock while anything trains in the folder, and drops it when nothing does,
however worker, child or machine ended.
"""

import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from base.run_folder import RESULT, RUNS, read_result
from engine.config import DIVERGED
from tools.sweep.spec import Key, Sweep
from tools.sweep.table import Trial

SCRIPT = Path(__file__).parents[2] / "train_gpt.py"
IDLE_S = 2.0  # between looks at trials that run elsewhere


def work(sweep: Sweep, script: Path = SCRIPT) -> None:
    """Try each trial without a result once, and wait for those that run elsewhere."""
    remaining = sweep.keys
    while remaining:
        busy: list[Key] = []
        for key in remaining:
            with taken(log_of(sweep, key)) as log:
                if log is None:
                    busy.append(key)
                elif find_trial(sweep, key).state not in ("complete", "diverged"):
                    run_trial(sweep, key, log, script)
        if busy:
            time.sleep(IDLE_S)
        remaining = busy


@contextmanager
def taken(path: Path) -> Iterator[BinaryIO | None]:
    """The file, locked; None: another process has it."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file


def run_trial(sweep: Sweep, key: Key, log: BinaryIO, script: Path) -> None:
    print(f"{key.name} begins", flush=True)
    log.truncate(0)
    words = [sweep.sheet.base, *sweep.sheet.overrides(key.variant), f"seed={key.seed}"]
    child = subprocess.Popen(
        [sys.executable, script, *words, "--name", f"sweeps/{sweep.name}/{key.name}", "--json"],
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,  # Ctrl-C is for the worker, which lets the child save
    )
    try:
        child.wait()
    finally:
        child.terminate()  # which lets it save; nothing if it has ended
        child.wait()
    trial = find_trial(sweep, key)
    last = (log_of(sweep, key).read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"])[-1]
    ended = f"{trial.bpb:.4f} bpb" if trial.bpb is not None else f"exit code {child.returncode}: {last:.300}"
    print(f"{key.name}: {ended}", flush=True)


def find_trial(sweep: Sweep, key: Key) -> Trial:
    """What the disk has of it."""
    params = sweep.params(key.variant)
    result = sweep_folder(sweep.name) / key.name / RESULT
    log = log_of(sweep, key)
    if result.exists():
        run = read_result(result)
        return Trial(key.variant, key.seed, params, "complete", run.val_bpb, run.train_seconds, run.data_sha256)
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    state = "waiting" if not text else "diverged" if DIVERGED in text else "unfinished"
    return Trial(key.variant, key.seed, params, state)


def sweep_folder(sweep: str) -> Path:
    return RUNS / "sweeps" / sweep


def log_of(sweep: Sweep, key: Key) -> Path:
    return sweep_folder(sweep.name) / "logs" / f"{key.name}.log"
