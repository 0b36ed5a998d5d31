"""The study: trials (variant x seed) that any number of workers on any number of machines take from one Optuna storage.

Optuna's own heartbeat works with databases only, and not with trials that are taken by hand; so a lease is kept in the
trial itself, which every storage can do. Whoever runs a trial counts up its `beat`; whoever has nothing else to do
watches the counters, by his own clock (machines' clocks differ), and fails a trial whose counter has stood still
for a lease. Its key is then queued again.

What keeps a key from running twice:
    a trial is taken by WAITING -> RUNNING and given up by RUNNING -> FAIL; of several who try, the storage lets one;
    anyone may queue a key that has no live trial, and two may at once: of a key's live trials the lowest number counts,
    and whoever takes another one drops it;
    a worker whose lease ran out while it slept finds its trial finished: it stops its child and its result is void.
"""

import fcntl
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from optuna import create_study, logging
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from base.errors import BadInput

LEASE_S = 60.0
Key = tuple[str, int]  # variant, seed
LIVE = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE)
FINAL = "diverged"  # a failure that is a finding; any other may be tried again
SQLITE = "sqlite:///"

logging.set_verbosity(logging.WARNING)


class Taken(NamedTuple):
    """A trial that this worker runs."""

    id: int
    key: Key
    config: dict[str, Any]


class Lost(Exception):
    """The lease ran out and somebody else has the trial's key now."""


def open_storage(where: str) -> BaseStorage:
    """A URL of a database (sqlite:///FILE, postgresql://…, mysql://…), else a journal's file."""
    try:
        if "://" in where:
            return RDBStorage(where)
        Path(where).parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileSymlinkLock(where)
        _end_cleanly(Path(where), lock)
        return JournalStorage(JournalFileBackend(where, lock))
    except OSError:
        raise
    except Exception as error:
        raise _unusable(where, error) from None


def _unusable(where: str, error: Exception) -> BadInput:
    """Drivers that are missing, servers that do not answer, files of something else."""
    said = " ".join(str(error).split())
    return BadInput(f"--storage {where}: {said:.300}; give a database's URL, or a file for a journal")


def _end_cleanly(journal: Path, lock: JournalFileSymlinkLock) -> None:
    """A line that a full disk or a power cut left unfinished goes, or the next one would be glued to it."""
    if not journal.is_file() or journal.read_bytes()[-1:] in (b"", b"\n"):
        return
    lock.acquire()
    try:
        with journal.open("r+b") as stream:
            stream.truncate(stream.read().rfind(b"\n") + 1)
    finally:
        lock.release()


class SharedStudy:
    def __init__(self, name: str, where: str, lease_s: float = LEASE_S) -> None:
        self.name, self.lease_s = name, lease_s
        self._lock_file = Path(where.removeprefix(SQLITE) + ".lock") if where.startswith(SQLITE) else None
        self._thread_lock, self._locked = threading.RLock(), False
        if self._lock_file is not None and not self._lock_file.parent.is_dir():
            raise BadInput(f"--storage {where}: no such folder; give a database's URL, or a file for a journal")
        with self._alone():  # two would make the same tables
            self._storage = open_storage(where)
            try:
                self._study = create_study(storage=self._storage, study_name=name, load_if_exists=True)
            except (ValueError, KeyError, StorageInternalError) as error:
                raise _unusable(where, error) from None
        self._id = self._storage.get_study_id_from_name(name)
        self._beats: dict[int, tuple[int, float]] = {}  # trial -> counter, and since when it stands there

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """SQLite does not lock what it reads, so two could take one trial there; its file has a lock beside it."""
        with self._thread_lock:
            if self._lock_file is None or self._locked:
                yield
                return
            with self._lock_file.open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._locked = True
                try:
                    yield
                finally:
                    self._locked = False

    # -- what the study is about ------------------------------------------------------------------------------------

    def remember(self, name: str, value: Mapping[str, Any], differs: Callable[[Any], str]) -> None:
        """Note a fact of the study, or refuse one that is not what was noted; `differs(noted)` says how, or ""."""
        with self._alone():
            noted = self._study.user_attrs
            if name not in noted:
                self._study.set_user_attr(name, dict(value))
            elif why := differs(noted[name]):
                raise BadInput(why)

    # -- the queue --------------------------------------------------------------------------------------------------

    def trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def queue(self, keys: Iterable[Key], again: bool = False) -> None:
        """Queue every key that nobody runs, has run or has queued; crashed ones only when asked to try `again`."""
        with self._alone():
            trials = self.trials()
            settled = {key_of(trial) for trial in trials if trial.state in LIVE or why(trial) == FINAL}
            if not again:
                settled |= {key_of(trial) for trial in trials if why(trial).startswith("crashed")}
            for variant, seed in keys:
                if (variant, seed) not in settled:
                    attrs = {"variant": variant, "seed": seed}
                    self._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=attrs))

    def take(self, keys: Collection[Key]) -> Taken | None:
        """The next waiting trial of these, now ours; None: none waits."""
        with self._alone():
            trials = self.trials()
            for trial in trials:
                if trial.state != TrialState.WAITING or key_of(trial) not in keys:
                    continue
                key, number = key_of(trial), self._trial_id(trial)
                if any(key_of(other) == key and other.state in LIVE for other in trials[: trial.number]):
                    self._fail(number, "queued twice")
                elif self._won(number):
                    return Taken(number, key, self._study.user_attrs[f"variant {key[0]}"])
            return None

    def _won(self, trial: int) -> bool:
        try:
            return self._storage.set_trial_state_values(trial, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def reap(self, now: Callable[[], float] = time.monotonic) -> list[Key]:
        """Give up the trials whose workers have not been heard of for a lease, and queue their keys again."""
        lost = []
        for trial in self.trials():
            if trial.state != TrialState.RUNNING:
                continue
            beat, number = int(trial.user_attrs.get("beat", 0)), self._trial_id(trial)
            before, since = self._beats.setdefault(number, (beat, now()))
            if beat != before:
                self._beats[number] = (beat, now())
            elif now() - since > self.lease_s and self._fail(number, "lost"):
                lost.append(key_of(trial))
        if lost:
            self.queue(lost)
        return lost

    def unsettled(self, keys: Collection[Key]) -> int:
        """How many of these wait or run."""
        live = (TrialState.WAITING, TrialState.RUNNING)
        return sum(trial.state in live and key_of(trial) in keys for trial in self.trials())

    # -- a trial that is ours ---------------------------------------------------------------------------------------

    def beat(self, taken: Taken, count: int) -> None:
        self._note(taken, "beat", count)

    def finish(self, taken: Taken, bpb: float, result: Mapping[str, Any]) -> None:
        self._note(taken, "result", dict(result))
        with self._alone():
            try:
                self._storage.set_trial_state_values(taken.id, TrialState.COMPLETE, [bpb])
            except UpdateFinishedTrialError:
                raise Lost from None

    def give_up(self, taken: Taken, reason: str) -> None:
        self._fail(taken.id, reason)

    def _note(self, taken: Taken, name: str, value: Any) -> None:
        with self._alone():
            try:
                self._storage.set_trial_user_attr(taken.id, name, value)
            except UpdateFinishedTrialError:
                raise Lost from None

    def _fail(self, trial: int, reason: str) -> bool:
        with self._alone():
            try:
                self._storage.set_trial_user_attr(trial, "why", reason)
                return self._storage.set_trial_state_values(trial, TrialState.FAIL)
            except UpdateFinishedTrialError:  # its worker, or another watcher, was first
                return False

    def _trial_id(self, trial: FrozenTrial) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)


def key_of(trial: FrozenTrial) -> Key:
    return trial.user_attrs["variant"], trial.user_attrs["seed"]


def why(trial: FrozenTrial) -> str:
    """Why a trial failed; "" where it did not."""
    return str(trial.user_attrs.get("why", "")) if trial.state == TrialState.FAIL else ""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
