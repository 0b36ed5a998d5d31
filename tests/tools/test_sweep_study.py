"""The study that workers share: every key runs once, whoever queues, takes, sleeps or dies."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from optuna.trial import TrialState

from run_config import RunConfig
from tools.sweep.spec import Key, Sheet, Sweep
from tools.sweep.study import SharedStudy, key_of, unqueued

SHEET = Sheet(base="x", seeds=(1, 2, 3, 4), variants={"a": {}, "b": {}, "c": {}})
KEYS = [Key(variant, seed, "") for seed in SHEET.seeds for variant in SHEET.variants]
SWEEP = Sweep("s", SHEET, dict.fromkeys(SHEET.variants, RunConfig()), KEYS)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def test_workers_that_open_queue_and_take_at_once_run_every_key_once(url: str) -> None:
    ran: list[Key] = []
    ready = threading.Barrier(4)

    def work() -> None:
        ready.wait(60)
        study = SharedStudy(SWEEP, url)
        study.queue()
        study._study.add_trial(unqueued(KEYS[0]))  # what a database without our lock would let them do
        while (trial := study.take()) is not None:
            ran.append(key_of(trial))
            study.set_state(trial, TrialState.COMPLETE, 2.0)

    with ThreadPoolExecutor(4) as pool:
        for worker in [pool.submit(work) for _ in range(4)]:
            worker.result()  # raises what the worker did
    assert sorted(ran) == sorted(KEYS)
    assert SharedStudy(SWEEP, url).unfinished() == 0


@pytest.mark.slow
def test_a_trial_without_heartbeats_is_taken_again_and_its_old_workers_result_is_void(url: str) -> None:
    two = SWEEP._replace(keys=KEYS[:2])
    dead, alive = (SharedStudy(two, url, grace_s=3) for _ in range(2))
    dead.queue()
    lost, kept = dead.take(), alive.take()
    assert lost is not None
    assert kept is not None
    for _ in range(10):
        assert alive.heartbeat(kept)
        time.sleep(0.5)
    again = alive.take()
    assert again is not None
    assert key_of(again) == key_of(lost)
    assert alive.take() is None
    assert not dead.heartbeat(lost)
    dead.set_state(lost, TrialState.COMPLETE, 9.0)
    alive.set_state(again, TrialState.COMPLETE, 2.0)
    alive.set_state(kept, TrialState.COMPLETE, 2.0)
    assert Counter((trial.state, trial.bpb) for trial in alive.results()) == {("complete", 2.0): 2}
