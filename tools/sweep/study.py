"""The study: trials that any number of workers, on any number of machines, take from one Optuna database.

    study = SharedStudy("micro26m", "sqlite:///runs/sweeps/micro26m/study.db")
    study.queue(sweep.keys)
    trial = study.take(sweep.keys)       then heartbeat(trial) while it runs, and finish(trial, ...) or fail(trial, ...)

Optuna keeps the queue, the heartbeats and the retries. A trial is taken by WAITING -> RUNNING, which a database allows
one worker alone; a trial whose heartbeat is older than the grace period is failed and queued again by whoever notices.
"""

import fcntl
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna import create_study, logging
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from base.errors import BadInput
from tools.sweep.spec import Key

SQLITE = "sqlite:///"
GRACE_S = 60
UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)
DIVERGED = "diverged"  # a failure that is a result; any other may be tried again


class SharedStudy:
    def __init__(self, name: str, url: str, grace_s: int = GRACE_S) -> None:
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
                self._study = create_study(storage=self._storage, study_name=name, load_if_exists=True)
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

    def trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def unfinished(self, keys: Collection[Key]) -> int:
        return sum(trial.state in UNFINISHED and key_of(trial) in keys for trial in self.trials())

    def queue(self, keys: Iterable[Key]) -> None:
        """Queue every key without a result that neither waits nor runs."""
        settled = {key_of(trial) for trial in self.trials() if is_live(trial) or outcome(trial) == DIVERGED}
        for key in keys:
            if key not in settled:
                self._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=key._asdict()))

    def take(self, keys: Collection[Key]) -> FrozenTrial | None:
        """The next waiting trial of these keys, now running here; None: none waits."""
        with self._alone():
            fail_stale_trials(self._study)
            trials = self.trials()
            for trial in trials:
                if trial.state != TrialState.WAITING or key_of(trial) not in keys:
                    continue
                if any(is_live(other) and key_of(other) == key_of(trial) for other in trials[: trial.number]):
                    self.fail(trial, "queued twice")  # by two workers at the same moment
                    continue
                self._storage.record_heartbeat(trial._trial_id)  # first, so that what runs always has one
                if self._set_state(trial, TrialState.RUNNING):
                    return trial
        return None

    def heartbeat(self, trial: FrozenTrial) -> bool:
        """Whether the trial is still this worker's: one that slept through the grace period has lost it."""
        self._storage.record_heartbeat(trial._trial_id)
        return self._storage.get_trial(trial._trial_id).state == TrialState.RUNNING

    def finish(self, trial: FrozenTrial, bpb: float, result: dict[str, Any]) -> None:
        self._set_state(trial, TrialState.COMPLETE, [bpb], {"result": result})

    def fail(self, trial: FrozenTrial, why: str) -> None:
        self._set_state(trial, TrialState.FAIL, notes={"why": why})

    def give_back(self, trial: FrozenTrial) -> None:
        """Let another worker, or the next call, run it."""
        if self._set_state(trial, TrialState.FAIL):
            self._requeue(self._study, trial)

    def _set_state(
        self,
        trial: FrozenTrial,
        state: TrialState,
        values: list[float] | None = None,
        notes: dict[str, Any] | None = None,
    ) -> bool:
        """False: another worker has or had the trial, and what this one found is void."""
        try:
            for name, note in (notes or {}).items():
                self._storage.set_trial_user_attr(trial._trial_id, name, note)
            return self._storage.set_trial_state_values(trial._trial_id, state, values)
        except UpdateFinishedTrialError:
            return False


def key_of(trial: FrozenTrial) -> Key:
    return Key(*(trial.user_attrs[name] for name in Key._fields))


def is_live(trial: FrozenTrial) -> bool:
    return trial.state in (*UNFINISHED, TrialState.COMPLETE)


def outcome(trial: FrozenTrial) -> str:
    """waiting, running, complete, diverged, crashed, or fail: stopped or lost, and queued again."""
    return (
        str(trial.user_attrs.get("why", "fail")).split()[0]
        if trial.state == TrialState.FAIL
        else trial.state.name.lower()
    )
