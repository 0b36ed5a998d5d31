"""A worker: takes trials from a study one by one and runs each as a child process of the training command.

A child, so that a trial that crashes or runs out of memory takes nothing with it. Its run is in
`runs/sweeps/SWEEP/TRIAL`, where one that was cut short is resumed. It dies with its worker: otherwise it would train on
in a folder where another worker runs the trial again.
"""

import ctypes
import signal
import subprocess
import sys
import time
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from base.cli import FAILED
from base.files import read_json_object
from base.run_folder import METRICS, RUNS, read_metrics, result_from
from engine.config import DIVERGED, STOPPED
from tools.sweep.spec import Sweep
from tools.sweep.study import SharedStudy, key_of

SCRIPT = Path(__file__).parents[2] / "train_gpt.py"
IDLE_S = 2.0  # between looks at a study whose last trials run elsewhere
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def work(study: SharedStudy, sweep: Sweep, script: Path = SCRIPT) -> None:
    """Until no trial of the sweep waits or runs, here or elsewhere."""
    while study.unfinished():
        trial = study.take()
        if trial is None:
            time.sleep(IDLE_S)
            continue
        print(f"{key_of(trial).name} begins", flush=True)
        try:
            print(f"{key_of(trial).name}: {run_trial(study, sweep, trial, script)}", flush=True)
        except KeyboardInterrupt:
            study.set_state(trial, TrialState.WAITING)  # for another worker or the next call
            raise


def run_trial(study: SharedStudy, sweep: Sweep, trial: FrozenTrial, script: Path) -> str:
    """Run it and note its result in the study; returns the result in words."""
    key = key_of(trial)
    log = sweep_folder(sweep.name) / "logs" / f"{key.name}.log"
    words = [sweep.sheet.base, *sweep.sheet.overrides(key.variant), f"seed={key.seed}"]
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, script, *words, "--name", f"sweeps/{sweep.name}/{key.name}", "--json"],
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the worker, which lets the child save
            preexec_fn=die_with_worker if sys.platform == "linux" else None,  # noqa: PLW1509 (one thread)
        )
    try:
        answer = wait(child, study, trial)
    except KeyboardInterrupt:
        child.terminate()  # which lets it save
        wait(child, study, trial)
        raise
    if answer is None:
        return "sent no heartbeat for too long; another worker has it now"
    if child.returncode == 0:
        found = result_from(read_json_object(answer, SCRIPT.name), SCRIPT.name)
        early = early_loss(Path(found.run) / METRICS, sweep.configs[key.variant].train.stop_if[0])
        notes = {"seconds": found.train_seconds, "data_sha256": found.data_sha256, "early_nats": early}
        study.set_state(trial, TrialState.COMPLETE, found.val_bpb, **notes)
        return f"{found.val_bpb:.4f} bpb"
    text = log.read_text(encoding="utf-8", errors="replace")
    is_result = child.returncode == FAILED and (DIVERGED in text or STOPPED in text)
    notes = {"state": "stopped"} if is_result and STOPPED in text else {}
    study.set_state(trial, TrialState.PRUNED if is_result else TrialState.FAIL, **notes)
    last = (text.splitlines() or ["no output"])[-1]
    return f"exit code {child.returncode}: {last:.300}"


def early_loss(metrics: Path, share: float) -> float | None:
    """The smoothed training loss after that share of a run's steps."""
    rows = read_metrics(metrics.read_text(), METRICS) if metrics.exists() else []
    losses = [row["smooth_loss"] for row in rows if "smooth_loss" in row]
    return losses[int(share * len(losses))] if losses else None


def wait(child: subprocess.Popen[str], study: SharedStudy, trial: FrozenTrial) -> str | None:
    """Send heartbeats until the child ends; its stdout, or None if the trial is no longer this worker's."""
    while True:
        try:
            return child.communicate(timeout=study.heartbeat_s)[0]
        except subprocess.TimeoutExpired:
            if not study.heartbeat(trial):
                child.kill()  # without saving: the folder may be another's by now
                child.wait()
                return None


def sweep_folder(sweep: str) -> Path:
    return RUNS / "sweeps" / sweep


def die_with_worker() -> None:
    """In the child, before it becomes the training command: the kernel will kill it when its worker ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
