"""The study: trials that any number of workers, on any number of machines, take from one Optuna database.

Optuna keeps the queue, the heartbeats and the retries. A trial is taken by WAITING -> RUNNING, which a database allows
one worker alone; a trial whose heartbeat is older than the grace period is failed and queued again by whoever notices.
"""

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
from base.files import locked
from tools.sweep.spec import Key, Sweep
from tools.sweep.table import Trial

SQLITE = "sqlite:///"
GRACE_S = 60
CRASHED = "crashed"
STATES = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "diverged",  # a result; or "stopped", by its notes
    TrialState.FAIL: CRASHED,  # or lost, and then queued again
}


class SharedStudy:
    def __init__(self, sweep: Sweep, url: str, grace_s: int = GRACE_S) -> None:
        if grace_s < 3:
            raise BadInput(f"--grace-s {grace_s}: use 3 or more; a heartbeat takes up to a second")
        self._sweep = sweep
        self.heartbeat_s = max(1, grace_s // 6)
        self._lock_file = Path(url.removeprefix(SQLITE) + ".lock") if url.startswith(SQLITE) else None
        logging.set_verbosity(logging.WARNING)
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats have been "experimental" since 2.9
        try:
            with self._alone():  # two workers would create the same tables
                self._storage = RDBStorage(
                    url,
                    {"connect_args": {"timeout": 60}} if self._lock_file else None,
                    heartbeat_interval=self.heartbeat_s,
                    grace_period=grace_s,
                    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
                )
                self._study = create_study(storage=self._storage, study_name=sweep.name, load_if_exists=True)
                self._preregister()
        except (OSError, ImportError, ValueError, SQLAlchemyError, StorageInternalError) as error:
            raise BadInput(f"--storage {url}: {error!s:.300}; use a database's URL, such as sqlite:///FILE") from None

    def _preregister(self) -> None:
        """Write down what decides a study of pairs; from its first trial on it is fixed."""
        wanted = self._sweep.sheet.preregistration()
        fixed = self._study.user_attrs.get("pairs")
        if all(trial.state == TrialState.WAITING for trial in self._study.get_trials(deepcopy=False)):
            self._study.set_user_attr("pairs", wanted)
        elif fixed != wanted:
            name = self._sweep.name
            raise BadInput(f"study {name} began with pairs {fixed}, the file has {wanted}; use a file of another name")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """SQLite does not lock what it reads, so two workers could take one trial; a lock beside its file does."""
        if self._lock_file is None:
            yield
            return
        self._lock_file.touch()
        with locked(self._lock_file):
            yield

    def _trials(self) -> dict[Key, FrozenTrial]:
        """By key: the first that has not failed, so that a key that two workers queue runs once; else the last."""
        found: dict[Key, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            key = key_of(trial)
            if key not in found or found[key].state == TrialState.FAIL:
                found[key] = trial
        return {key: found[key] for key in self._sweep.keys if key in found}

    def queue(self) -> None:
        """Queue every key of the sweep that neither has a result nor waits nor runs."""
        with self._alone():
            found = self._trials()
            for key in self._sweep.keys:
                if key not in found or found[key].state == TrialState.FAIL:
                    self._study.add_trial(unqueued(key))

    def unfinished(self) -> int:
        return sum(not trial.state.is_finished() for trial in self._trials().values())

    def take(self) -> FrozenTrial | None:
        """The next trial that waits, now running here; None: none waits."""
        with self._alone():
            fail_stale_trials(self._study)
            for trial in self._trials().values():
                if trial.state == TrialState.WAITING:
                    self._storage.record_heartbeat(trial._trial_id)  # first, so that what runs always has one
                    if self.set_state(trial, TrialState.RUNNING):
                        return trial
        return None

    def heartbeat(self, trial: FrozenTrial) -> bool:
        """Whether the trial is still this worker's: one that slept through the grace period has lost it."""
        self._storage.record_heartbeat(trial._trial_id)
        return self._storage.get_trial(trial._trial_id).state == TrialState.RUNNING

    def set_state(self, trial: FrozenTrial, state: TrialState, bpb: float | None = None, /, **notes: Any) -> bool:
        """False: another worker has or had the trial, and what this one found is void."""
        try:
            if notes:
                self._storage.set_trial_user_attr(trial._trial_id, "notes", notes)
            return self._storage.set_trial_state_values(trial._trial_id, state, [bpb] if bpb is not None else None)
        except UpdateFinishedTrialError:
            return False

    def results(self) -> list[Trial]:
        found = self._trials()
        results: list[Trial] = []
        for key in self._sweep.keys:
            trial = found.get(key, unqueued(key))
            noted = {"state": STATES[trial.state], **trial.user_attrs.get("notes", {})}
            results.append(Trial(key.variant, key.seed, self._sweep.params(key.variant), bpb=trial.value, **noted))
        return results


def key_of(trial: FrozenTrial) -> Key:
    return Key(*(trial.user_attrs[name] for name in Key._fields))


def unqueued(key: Key) -> FrozenTrial:
    return create_trial(state=TrialState.WAITING, user_attrs=key._asdict())
