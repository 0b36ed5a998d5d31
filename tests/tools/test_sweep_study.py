"""The study that workers share: every key runs once, whoever queues, takes, sleeps or dies."""

import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from tools.sweep.spec import Key
from tools.sweep.study import SharedStudy, key_of, outcome

KEYS = [Key(variant, seed, "") for seed in (1, 2, 3, 4) for variant in ("a", "b", "c")]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def test_workers_that_open_queue_and_take_at_once_run_every_key_once(url: str) -> None:
    ran: list[Key] = []
    ready = threading.Barrier(4)

    def work() -> None:
        ready.wait()
        study = SharedStudy("s", url)
        study.queue(KEYS)
        while (trial := study.take(KEYS)) is not None:
            ran.append(key_of(trial))
            study.finish(trial, 2.0, {})

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(ran) == sorted(KEYS)


def test_a_key_that_was_queued_twice_runs_once(url: str) -> None:
    study = SharedStudy("s", url)
    study.queue(KEYS[:1])
    first = study.take(KEYS)
    assert first is not None
    study._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=KEYS[0]._asdict()))
    assert study.take(KEYS) is None
    assert [outcome(trial) for trial in study.trials()] == ["running", "queued"]
    study.finish(first, 2.0, {})
    study.queue(KEYS[:1])
    assert study.unfinished(KEYS) == 0


@pytest.mark.slow
def test_a_trial_without_heartbeats_is_taken_again_and_its_old_workers_result_is_void(url: str) -> None:
    dead, alive = (SharedStudy("s", url, grace_s=2) for _ in range(2))
    dead.queue(KEYS[:2])
    lost, kept = dead.take(KEYS), alive.take(KEYS)
    assert lost is not None
    assert kept is not None
    for _ in range(8):
        assert alive.heartbeat(kept)
        time.sleep(0.5)
    again = alive.take(KEYS)
    assert again is not None
    assert key_of(again) == key_of(lost)
    assert alive.take(KEYS) is None
    assert not dead.heartbeat(lost)
    dead.finish(lost, 9.0, {})
    alive.finish(again, 2.0, {})
    alive.finish(kept, 2.0, {})
    assert Counter(outcome(trial) for trial in alive.trials()) == {"complete": 2, "fail": 1}
    assert {trial.value for trial in alive.trials()} == {None, 2.0}
