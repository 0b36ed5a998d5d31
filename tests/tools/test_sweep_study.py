"""The study that workers share: every key runs once, whoever queues, takes, sleeps or dies."""

import sqlite3
import threading
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from base.errors import BadInput
from tools.sweep.study import Key, Lost, SharedStudy, key_of, why

KEYS: list[Key] = [(variant, seed) for seed in (1, 2, 3, 4) for variant in ("a", "b", "c")]


@pytest.fixture(params=["journal", "sqlite"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else str(tmp_path / "study.journal")


def opened(where: str, lease_s: float = 60) -> SharedStudy:
    study = SharedStudy("s", where, lease_s)
    for variant in "abc":
        study.remember(f"variant {variant}", {"seed": 0}, lambda noted: "")
    return study


def done(study: SharedStudy) -> Counter[Key]:
    return Counter(key_of(trial) for trial in study.trials() if trial.state == TrialState.COMPLETE)


def test_workers_who_queue_and_take_at_once_run_every_key_once(where: str) -> None:
    opened(where)
    ran: list[Key] = []
    ready = threading.Barrier(4)

    def work() -> None:
        study = opened(where)
        ready.wait()
        study.queue(KEYS)
        while (taken := study.take(KEYS)) is not None:
            ran.append(taken.key)
            study.finish(taken, 2.0, {})

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(ran) == sorted(KEYS)
    assert done(opened(where)) == Counter(KEYS)


def test_a_key_that_was_queued_twice_runs_once_and_the_lowest_number_counts(where: str) -> None:
    one, two = opened(where), opened(where)
    one.queue([("a", 1)])
    first = one.take(KEYS)
    # what a second worker queues who looked before the first one had: the same key again, under a higher number
    two._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"variant": "a", "seed": 1}))
    assert two.take(KEYS) is None
    assert [why(trial) for trial in two.trials()] == ["", "queued twice"]
    assert first is not None
    one.finish(first, 2.0, {})
    two.queue([("a", 1)])
    assert two.unsettled(KEYS) == 0


def test_a_trial_whose_worker_fell_silent_is_taken_up_again_and_only_that_one(where: str) -> None:
    dead, alive, watcher = opened(where), opened(where), opened(where)
    dead.queue([("a", 1), ("b", 1)])
    lost, kept = dead.take(KEYS), alive.take(KEYS)
    assert lost is not None
    assert kept is not None
    clock = [0.0]
    assert watcher.reap(lambda: clock[0]) == []  # seen for the first time
    for beat in (1, 2, 3):
        clock[0] += 25
        alive.beat(kept, beat)
        assert watcher.reap(lambda: clock[0]) == ([("a", 1)] if clock[0] > 60 else [])
    again = watcher.take(KEYS)
    assert again is not None
    assert again.key == ("a", 1)
    with pytest.raises(Lost):  # it was not dead, it slept
        dead.beat(lost, 1)
    with pytest.raises(Lost):
        dead.finish(lost, 9.0, {})
    watcher.finish(again, 2.0, {"seconds": 1.0})
    alive.finish(kept, 2.0, {})
    assert done(alive) == Counter([("a", 1), ("b", 1)])
    assert {trial.value for trial in alive.trials()} == {None, 2.0}


def test_two_watchers_give_a_dead_worker_s_trial_to_one(where: str) -> None:
    dead, one, two = opened(where), opened(where), opened(where)
    dead.queue([("a", 1)])
    dead.take(KEYS)
    for now in (0.0, 61.0):
        for watcher in (one, two):
            watcher.reap(lambda now=now: now)  # type: ignore[misc]
    assert (one.take(KEYS) is None) != (two.take(KEYS) is None)


def test_divergence_is_final_and_a_crash_is_tried_again_when_asked(where: str) -> None:
    study = opened(where)
    study.queue([("a", 1), ("b", 1), ("c", 1)])
    for reason in ("diverged", "crashed with 70: boom", "stopped"):
        taken = study.take(KEYS)
        assert taken is not None
        study.give_up(taken, reason)
    study.queue([("a", 1), ("b", 1), ("c", 1)])
    assert [key_of(t) for t in study.trials() if t.state == TrialState.WAITING] == [("c", 1)]
    study.queue([("a", 1), ("b", 1), ("c", 1)], again=True)
    assert [key_of(t) for t in study.trials() if t.state == TrialState.WAITING] == [("c", 1), ("b", 1)]


def test_a_study_remembers_and_refuses_what_differs(where: str) -> None:
    opened(where).remember("data x", {"sha256": "1"}, lambda noted: "")
    with pytest.raises(BadInput, match="it was 1"):
        opened(where).remember("data x", {"sha256": "2"}, lambda noted: f"it was {noted['sha256']}")


@pytest.mark.parametrize(
    "storage", ["postgresql://nobody@localhost:1/x", "redis://localhost", "what://ever", "sqlite:////no/where/x.db"]
)
def test_a_storage_that_cannot_be_opened_is_one_line(storage: str) -> None:
    with pytest.raises(BadInput, match="give a database's URL, or a file for a journal"):
        SharedStudy("s", storage)


@pytest.mark.parametrize("content", [b"model:\n  dim: 3\n", b"{}\n", b"[1]\n", b"\x00\xff\n"])
def test_a_file_of_something_else_is_no_journal(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadInput, match="give a database's URL, or a file for a journal"):
        SharedStudy("s", str(tmp_path / "x"))


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database, and long enough to be sure of it" * 100)
    with pytest.raises((BadInput, sqlite3.DatabaseError)):
        SharedStudy("s", f"sqlite:///{tmp_path}/x.db")


def test_a_worker_takes_its_own_files_keys_alone(where: str) -> None:
    study = opened(where)
    study.queue([("a", 1), ("b", 1), ("a", 2)])
    mine: list[Key] = [("a", 2)]
    assert study.unsettled(mine) == 1
    taken = study.take(mine)
    assert taken is not None
    assert taken.key == ("a", 2)
    assert study.take(mine) is None


def test_a_journal_s_unfinished_last_line_goes_and_the_study_goes_on(tmp_path: Path) -> None:
    where = str(tmp_path / "study.journal")
    opened(where).queue([("a", 1)])
    with Path(where).open("a") as journal:
        journal.write('{"op_code":8,"wor')  # the disk was full
    for _ in range(2):
        study = opened(where)
        assert study.unsettled(KEYS) == 1
    with Path(where).open("a") as journal:
        journal.write("garbage\n")
    with pytest.raises(BadInput, match="--storage .*study.journal"):
        opened(where)
