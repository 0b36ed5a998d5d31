"""The study: trials that any number of workers, on any number of machines, take from one Optuna database.

Optuna keeps the queue, the heartbeats and the retries. A trial is taken by WAITING -> RUNNING, which a database allows
one worker alone; a trial whose heartbeat is older than the grace period is failed and queued again by whoever notices.
"""

import fcntl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna import create_study, logging
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from base.errors import BadInput
from tools.sweep.spec import Key, Sweep
from tools.sweep.table import Trial

SQLITE = "sqlite:///"
GRACE_S = 60
UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)
DIVERGED, CRASHED = "diverged", "crashed"  # why a trial failed; the first is a result


class SharedStudy:
    def __init__(self, sweep: Sweep, url: str, grace_s: int = GRACE_S) -> None:
        if grace_s < 3:
            raise BadInput(f"--grace-s {grace_s}: use 3 or more; a heartbeat takes up to a second")
        self._sweep = sweep
        self.heartbeat_s = max(1, grace_s // 6)
        self._lock_file = Path(url.removeprefix(SQLITE) + ".lock") if url.startswith(SQLITE) else None
        logging.set_verbosity(logging.WARNING)
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats have been "experimental" since 2.9
        self._requeue = RetryHeartbeatStaleTrialCallback()
        try:
            with self._alone():  # two workers would create the same tables
                self._storage = RDBStorage(
                    url,
                    {"connect_args": {"timeout": 60}} if self._lock_file else None,
                    heartbeat_interval=self.heartbeat_s,
                    grace_period=grace_s,
                    heartbeat_stale_trial_callback=self._requeue,
                )
                self._study = create_study(storage=self._storage, study_name=sweep.name, load_if_exists=True)
        except (OSError, ImportError, ValueError, SQLAlchemyError, StorageInternalError) as error:
            raise BadInput(f"--storage {url}: {error!s:.300}; use a database's URL, such as sqlite:///FILE") from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """SQLite does not lock what it reads, so two workers could take one trial; a lock beside its file does."""
        if self._lock_file is None:
            yield
            return
        with self._lock_file.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _trials(self) -> dict[Key, FrozenTrial]:
        """One for each key: the first that is settled, so that a key queued by two workers runs once; else the last."""
        found: dict[Key, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if not is_settled(found.get(key_of(trial))):
                found[key_of(trial)] = trial
        return {key: found[key] for key in self._sweep.keys if key in found}

    def queue(self) -> None:
        """Queue every key of the sweep that neither has a result nor waits nor runs."""
        with self._alone():
            found = self._trials()
            for key in self._sweep.keys:
                if not is_settled(found.get(key)):
                    self._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=key._asdict()))

    def unfinished(self) -> int:
        return sum(trial.state in UNFINISHED for trial in self._trials().values())

    def take(self) -> FrozenTrial | None:
        """The next trial that waits, now running here; None: none waits."""
        with self._alone():
            fail_stale_trials(self._study)
            for trial in self._trials().values():
                if trial.state == TrialState.WAITING:
                    self._storage.record_heartbeat(trial._trial_id)  # first, so that what runs always has one
                    if self._set_state(trial, TrialState.RUNNING):
                        return trial
        return None

    def heartbeat(self, trial: FrozenTrial) -> bool:
        """Whether the trial is still this worker's: one that slept through the grace period has lost it."""
        self._storage.record_heartbeat(trial._trial_id)
        return self._storage.get_trial(trial._trial_id).state == TrialState.RUNNING

    def finish(self, trial: FrozenTrial, bpb: float, seconds: float, data_sha256: str) -> None:
        self._set_state(trial, TrialState.COMPLETE, [bpb], seconds=seconds, data_sha256=data_sha256)

    def fail(self, trial: FrozenTrial, why: str) -> None:
        self._set_state(trial, TrialState.FAIL, why=why)

    def give_back(self, trial: FrozenTrial) -> None:
        """Let another worker, or the next call, run it."""
        if self._set_state(trial, TrialState.FAIL):
            self._requeue(self._study, trial)

    def _set_state(
        self, trial: FrozenTrial, state: TrialState, values: list[float] | None = None, **notes: Any
    ) -> bool:
        """False: another worker has or had the trial, and what this one found is void."""
        try:
            for name, note in notes.items():
                self._storage.set_trial_user_attr(trial._trial_id, name, note)
            return self._storage.set_trial_state_values(trial._trial_id, state, values)
        except UpdateFinishedTrialError:
            return False

    def results(self) -> list[Trial]:
        found = self._trials()
        results: list[Trial] = []
        for key in self._sweep.keys:
            trial = found.get(key)
            state = trial.state.name.lower() if trial else "waiting"
            notes = trial.user_attrs if trial and trial.state not in UNFINISHED else {}
            result = [trial.value, notes["seconds"], notes["data_sha256"]] if trial and state == "complete" else []
            results.append(
                Trial(key.variant, key.seed, self._sweep.params(key.variant), notes.get("why", state), *result)
            )
        return results


def key_of(trial: FrozenTrial) -> Key:
    return Key(*(trial.user_attrs[name] for name in Key._fields))


def is_settled(trial: FrozenTrial | None) -> bool:
    """It has a result, or is going to."""
    return trial is not None and (trial.state != TrialState.FAIL or trial.user_attrs.get("why") == DIVERGED)
