"""A worker: takes trials from a study one by one and runs each as a child process of the training command.

A child, so that a trial that crashes or runs out of memory takes nothing with it. Its stderr is in `logs/`, its run in
`runs/sweeps/STUDY/VARIANT-sSEED`, where a trial that another worker of this machine began is resumed. It dies with its
worker: otherwise it would train on in a folder where another worker runs the trial again.
"""

import ctypes
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from optuna.trial import FrozenTrial

from base.run_folder import METRICS, RESULT, RUNS, read_metrics, read_result
from tools.sweep.spec import Sweep
from tools.sweep.study import DIVERGED, SharedStudy, key_of

SCRIPT = Path(__file__).parents[2] / "train_gpt.py"
CURVE_POINTS = 60  # of a loss curve, as the study keeps it
IDLE_S = 2.0  # between looks at a study whose last trials run elsewhere
ENDING_S = 15.0  # for a child to save and end
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def work(study: SharedStudy, sweep: Sweep, script: Path = SCRIPT) -> None:
    """Until no trial of the sweep waits or runs, here or elsewhere."""
    while unfinished := study.unfinished(sweep.keys):
        trial = study.take(sweep.keys)
        if trial is None:
            time.sleep(IDLE_S)
            continue
        print(f"{name_of(trial)} begins; {unfinished} trials of the sweep are not finished", flush=True)
        try:
            print(f"{name_of(trial)}: {run_trial(study, sweep, trial, script)}", flush=True)
        except KeyboardInterrupt:
            study.give_back(trial)
            raise


def run_trial(study: SharedStudy, sweep: Sweep, trial: FrozenTrial, script: Path) -> str:
    """Run it and note its result in the study; returns the result in words."""
    variant, seed, _ = key_of(trial)
    log = sweep_folder(sweep.name) / "logs" / f"{name_of(trial)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    config = [sweep.sheet.base, *sweep.sheet.overrides(variant), f"seed={seed}"]
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, script, *config, "--name", f"sweeps/{sweep.name}/{name_of(trial)}", "--json"],
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the worker, which lets the child save
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 (one thread)
        )
    try:
        answer = wait(child, study, trial)
    finally:
        stop(child)
    last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"])[-1]
    if answer is None:
        return "sent no heartbeat for too long; another worker has it now"
    if child.returncode == 0:
        run = Path(json.loads(answer)["run"])
        found = read_result(run / RESULT)
        result = {"seconds": found.train_seconds, "data_sha256": found.data_sha256, "curve": loss_curve(run / METRICS)}
        study.finish(trial, found.val_bpb, result)
        return f"{found.val_bpb:.4f} bpb after {found.train_seconds:.1f} s of training"
    # A failed check exits with 1 and its one line; so does Python where it cannot even start, but with other words.
    if child.returncode == 1 and last.startswith(f"{SCRIPT.name}: "):
        study.fail(trial, DIVERGED)
        return last
    study.fail(trial, f"crashed with {child.returncode}: {last:.300}")
    return f"crashed with {child.returncode}: {last:.300} (log: {log}); the next call tries it again"


def wait(child: subprocess.Popen[bytes], study: SharedStudy, trial: FrozenTrial) -> bytes | None:
    """Send heartbeats until the child ends; its stdout, or None if the trial is no longer this worker's."""
    while True:
        try:
            return child.communicate(timeout=study.heartbeat_s)[0]
        except subprocess.TimeoutExpired:
            if not study.heartbeat(trial):
                return None


def stop(child: subprocess.Popen[bytes]) -> None:
    """Let it save and end, then kill it; nothing if it has ended."""
    child.terminate()
    try:
        child.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def loss_curve(metrics: Path) -> list[tuple[int, float]]:
    """(step, mean training loss since the previous point), few enough to keep in a study."""
    rows = read_metrics(metrics.read_text(encoding="utf-8"), str(metrics))
    losses = [(int(row["step"]), row["loss"]) for row in rows if "loss" in row]
    size = max(1, -(-len(losses) // CURVE_POINTS))
    parts = [losses[at : at + size] for at in range(0, len(losses) - size + 1, size)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]


def sweep_folder(study: str) -> Path:
    return RUNS / "sweeps" / study


def name_of(trial: FrozenTrial) -> str:
    return f"{trial.user_attrs['variant']}-s{trial.user_attrs['seed']}"


def _die_with_parent() -> None:
    """In the child, before it becomes the training command: the kernel will kill it when its worker ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
