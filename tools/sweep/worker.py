"""A worker: takes trials from a study one by one and runs each as a child process of the training command.

A child, so that a trial that crashes, runs out of memory or is killed takes nothing with it. What it says goes to
`logs/`, its run to `runs/sweeps/STUDY/VARIANT-sSEED`: a trial that another worker of the same machine had begun goes on
from that one's checkpoint. Knows the training command only as `SCRIPT CONFIG --name NAME --json`.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from base.config import Layer, build, to_yaml
from base.files import atomic_file
from base.run_folder import METRICS, RUNS
from data.encoding import cores
from engine.checkpoint import DIVERGED
from run_config import RunConfig
from tools.sweep.study import FINAL, Key, Lost, SharedStudy, Taken, say

SCRIPT = Path(__file__).parents[2] / "train_gpt.py"
CURVE_POINTS = 60  # of a loss curve, as the study keeps it
BEATS_A_LEASE = 6
ENDING_S = 15.0  # for a child to save and end in


def sweep_folder(study: str) -> Path:
    return RUNS / "sweeps" / study


class Worker:
    def __init__(self, study: SharedStudy, keys: Sequence[Key], workers: int, script: Path = SCRIPT) -> None:
        self._study, self._keys, self._script = study, keys, script
        self._threads = str(max(1, cores() // workers))
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def work(self) -> None:
        """Until nothing of the study waits or runs, here or elsewhere."""
        while not self._stopped.is_set():
            for variant, seed in self._study.reap():
                say(f"{variant} seed {seed}: its worker was not heard of for {self._study.lease_s:g} s; queued again")
            self._study.queue(self._keys)
            if (taken := self._study.take(self._keys)) is not None:
                self._run(taken)
            elif self._study.unsettled(self._keys):
                self._stopped.wait(min(2.0, self._study.lease_s / BEATS_A_LEASE))
            else:
                return

    def _run(self, taken: Taken) -> None:
        variant, seed = taken.key
        name = f"{variant} seed {seed}"
        folder = sweep_folder(self._study.name) / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"{variant}-s{seed}"
        config = build(RunConfig, [Layer(f"the study's {variant}", {**taken.config, "seed": seed})])
        atomic_file(stem.with_name(f"{stem.name}.yaml"), to_yaml(config).encode())
        said, answered = stem.with_name(f"{stem.name}.log"), stem.with_name(f"{stem.name}.json")
        say(f"{name}: begins ({self._study.unsettled(self._keys)} of the sweep not done)")
        try:
            code = self._child(taken, stem, said, answered)
        except Lost:
            say(f"{name}: this worker was silent for more than {self._study.lease_s:g} s; another has the trial now")
            return
        last = (said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["said nothing"])[-1]
        if self._stopped.is_set() and code:
            self._study.give_up(taken, "stopped")
        elif code == 1 and DIVERGED in last:  # 1 is also how Python ends where it cannot even begin
            self._study.give_up(taken, FINAL)
            say(f"{name}: {last}")
        elif code:
            self._study.give_up(taken, f"crashed with {code}: {last:.300}")
            say(f"{name}: crashed with {code}: {last:.300} (all of it: {said}); the next call tries it again")
        else:
            self._finish(taken, json.loads(answered.read_text(encoding="utf-8")))

    def _finish(self, taken: Taken, answer: dict[str, Any]) -> None:
        variant, seed = taken.key
        result = {
            "params": answer["params"], "steps": answer["steps"], "seconds": answer["train_seconds"],
            "packed_bpb": answer["packed_bpb"], "artifact_bytes": answer["artifact_bytes"],
            "curve": loss_curve(Path(answer["run"])), "run": answer["run"], "host": socket.gethostname(),
        }  # fmt: skip
        try:
            self._study.finish(taken, answer["val_bpb"], result)
        except Lost:
            say(f"{variant} seed {seed}: finished after its lease ran out; another has the trial now")
            return
        say(f"{variant} seed {seed}: {answer['val_bpb']:.4f} bpb in {answer['train_seconds']:.1f} s of training")

    def _child(self, taken: Taken, stem: Path, said: Path, answered: Path) -> int:
        """Run it, counting up its beat; the exit code."""
        variant, seed = taken.key
        name = f"sweeps/{self._study.name}/{variant}-s{seed}"
        command = [
            sys.executable, "-m", "tools.sweep.leash", str(self._script), f"{stem}.yaml", "--name", name, "--json",
        ]  # fmt: skip
        roots = os.pathsep.join(filter(None, [str(SCRIPT.parent), os.environ.get("PYTHONPATH")]))
        environment = {"OMP_NUM_THREADS": self._threads, **os.environ, "PYTHONPATH": roots}
        with said.open("wb") as errors, answered.open("wb") as output:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=errors, env=environment, start_new_session=True
            )  # a session of its own: Ctrl-C is this worker's to hear, not the child's
            try:
                count = 0
                while (code := self._wait(child)) is None:
                    count += 1
                    self._study.beat(taken, count)
                return code
            finally:
                end(child)

    def _wait(self, child: subprocess.Popen[bytes]) -> int | None:
        """The exit code, or None when a beat is due; a stop that was asked for ends the child."""
        ticks = 20
        for _ in range(ticks):
            try:
                return child.wait(self._study.lease_s / BEATS_A_LEASE / ticks)
            except subprocess.TimeoutExpired:
                if self._stopped.is_set():
                    return end(child)
        return None


def end(child: subprocess.Popen[bytes]) -> int:
    """Ask it to save and end; then end it."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            child.kill()
    if child.stdin is not None:
        child.stdin.close()
    return child.wait()


def loss_curve(run: Path) -> list[tuple[int, float]]:
    """(step, mean training loss since the point before), few enough to keep in a study."""
    rows = [json.loads(line) for line in (run / METRICS).read_text(encoding="utf-8").splitlines()]
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    size = max(1, -(-len(losses) // CURVE_POINTS))
    parts = [losses[at : at + size] for at in range(0, len(losses) - size + 1, size)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]
