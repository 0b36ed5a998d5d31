"""A worker: takes trials from a study one by one and runs each as a child process of the training command.

A child, so that a trial that crashes or runs out of memory takes nothing with it. Its run is in
`runs/sweeps/SWEEP/TRIAL`, where one that was cut short is resumed. It dies with its worker, which alone would note its
result.
"""

import ctypes
import signal
import subprocess
import sys
import time
from pathlib import Path

from base.cli import FAILED
from base.files import read_json_object
from base.result_file import result_from
from base.run_folder import METRICS, read_metrics
from engine.config import DIVERGED, STOPPED
from tools.sweep.spec import Sweep
from tools.sweep.study import Taken, is_finished, take, write_result
from tools.sweep.table import CRASHED, Trial

SCRIPT = Path(__file__).parents[2] / "train_gpt.py"
IDLE_S = 2.0  # between looks at a study whose last trials run elsewhere
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def work(sweep: Sweep, script: Path = SCRIPT) -> None:
    """Until every trial of the sweep has ended, here or elsewhere."""
    while not is_finished(sweep):
        for key in sweep.keys:
            with take(sweep, key) as taken:
                if taken is not None:
                    print(f"{key.name} begins", flush=True)
                    write_result(sweep, key, run_trial(sweep, taken, script))
        if not is_finished(sweep):
            time.sleep(IDLE_S)


def run_trial(sweep: Sweep, taken: Taken, script: Path) -> Trial:
    key = taken.key
    words = [sweep.sheet.base, *sweep.sheet.overrides(key.variant), f"seed={key.seed}"]
    with taken.log.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, script, *words, "--name", f"sweeps/{sweep.name}/{key.name}", "--json"],
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            pass_fds=[taken.lock],
            start_new_session=True,  # Ctrl-C is for the worker, which lets the child save
            preexec_fn=die_with_worker if sys.platform == "linux" else None,  # noqa: PLW1509 (one thread)
        )
    try:
        answer, _ = child.communicate()
    except KeyboardInterrupt:
        child.terminate()  # which lets it save, for another worker or the next call
        child.communicate()
        raise
    params = sweep.params(key.variant)
    if answer.strip():  # also where the artifact is over a cap that was only checked
        found = result_from(read_json_object(answer, SCRIPT.name), SCRIPT.name)
        print(f"{key.name}: {found.val_bpb:.4f} bpb", flush=True)
        early = early_loss(Path(found.run) / METRICS, sweep.configs[key.variant].train.stop_if[0])
        measured = (found.val_bpb, found.train_seconds, found.data_sha256, early)
        return Trial(key.variant, key.seed, params, "complete", *measured)
    text = taken.log.read_text(encoding="utf-8", errors="replace")
    last = (text.splitlines() or ["no output"])[-1]
    print(f"{key.name}: exit code {child.returncode}: {last:.300}", flush=True)
    state = CRASHED
    if child.returncode == FAILED and (DIVERGED in text or STOPPED in text):
        state = "stopped" if STOPPED in text else "diverged"
    return Trial(key.variant, key.seed, params, state)


def early_loss(metrics: Path, share: float) -> float | None:
    """The smoothed training loss after that share of a run's steps."""
    rows = read_metrics(metrics.read_text(), METRICS) if metrics.exists() else []
    losses = [row["smooth_loss"] for row in rows if "smooth_loss" in row]
    return losses[int(share * len(losses))] if losses else None


def die_with_worker() -> None:
    """In the child, before it becomes the training command: the kernel will kill it when its worker ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
