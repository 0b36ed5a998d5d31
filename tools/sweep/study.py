"""The study: which trials have ended, which run, and which is next. Workers share it as a folder, runs/sweeps/NAME.

logs/TRIAL.log        a trial's stderr. Whoever holds its lock runs the trial; the kernel ends the lock with the worker.
results/TRIAL.json    how it ended; without one the trial waits or runs
pairs.json            what decides a study of pairs, since its first trial
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from base.errors import BadInput
from base.files import locked, read_json, read_json_object, write_json
from base.run_folder import RUNS
from tools.sweep.spec import Key, Sweep
from tools.sweep.table import CRASHED, Trial


class Taken(NamedTuple):
    key: Key
    log: Path
    lock: int  # its descriptor, which the child inherits: a trial is free again when both are gone


def study_folder(sweep: Sweep) -> Path:
    return RUNS / "sweeps" / sweep.name


def begin_study(sweep: Sweep) -> None:
    """Before its first trial, fix what decides it; what crashed in an earlier call will be tried again."""
    folder = study_folder(sweep)
    for name in ("logs", "results"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with locked(folder):
        require_registered(sweep)
        write_json(folder / "pairs.json", sweep.sheet.preregistration())
    for key in sweep.keys:
        trial = read_result(sweep, key)
        if trial is not None and trial.state == CRASHED:
            result_file(sweep, key).unlink(missing_ok=True)


def require_registered(sweep: Sweep) -> None:
    path = study_folder(sweep) / "pairs.json"
    wanted = sweep.sheet.preregistration()
    fixed = read_json(path.read_text(), str(path)) if path.exists() else wanted
    if fixed != wanted:
        name = sweep.name
        raise BadInput(f"study {name} began with pairs {fixed}, the file has {wanted}; use a file of another name")


def result_file(sweep: Sweep, key: Key) -> Path:
    return study_folder(sweep) / "results" / f"{key.name}.json"


def read_result(sweep: Sweep, key: Key) -> Trial | None:
    path = result_file(sweep, key)
    return Trial(**read_json_object(path.read_text(), str(path))) if path.exists() else None


def write_result(sweep: Sweep, key: Key, trial: Trial) -> None:
    write_json(result_file(sweep, key), asdict(trial))


@contextmanager
def take(sweep: Sweep, key: Key) -> Iterator[Taken | None]:
    """Hold a trial that has not ended; None: it has, or somebody else holds it."""
    log = study_folder(sweep) / "logs" / f"{key.name}.log"
    log.touch()
    with ExitStack() as held:
        try:
            lock = held.enter_context(locked(log, wait=False))
        except BlockingIOError:
            yield None
            return
        yield Taken(key, log, lock) if read_result(sweep, key) is None else None


def is_finished(sweep: Sweep) -> bool:
    return all(result_file(sweep, key).exists() for key in sweep.keys)


def read_trials(sweep: Sweep) -> list[Trial]:
    """Every trial of the sweep, ended or not."""
    trials = []
    for key in sweep.keys:
        trial = read_result(sweep, key)
        trials.append(trial or Trial(key.variant, key.seed, sweep.params(key.variant), "waiting"))
    return trials
