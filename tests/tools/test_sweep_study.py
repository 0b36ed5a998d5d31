"""The study that workers share: every trial runs once, however many take at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from run_config import RunConfig
from tools.sweep.spec import Key, Sheet, Sweep
from tools.sweep.study import begin_study, is_finished, read_trials, take, write_result
from tools.sweep.table import Trial

SHEET = Sheet(base="x", seeds=(1, 2, 3, 4), variants={"a": {}, "b": {}, "c": {}})
KEYS = [Key(variant, seed, "") for seed in SHEET.seeds for variant in SHEET.variants]
SWEEP = Sweep("s", SHEET, dict.fromkeys(SHEET.variants, RunConfig()), KEYS)


def test_workers_that_begin_and_take_at_once_run_every_trial_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran: list[Key] = []
    ready = threading.Barrier(4)

    def work() -> None:
        ready.wait(60)
        begin_study(SWEEP)
        while not is_finished(SWEEP):
            for key in KEYS:
                with take(SWEEP, key) as taken:
                    if taken is not None:
                        ran.append(key)
                        write_result(SWEEP, key, Trial(key.variant, key.seed, 1, "complete", 2.0))

    with ThreadPoolExecutor(4) as pool:
        for worker in [pool.submit(work) for _ in range(4)]:
            worker.result()  # raises what the worker did
    assert sorted(ran) == sorted(KEYS)
    assert [(trial.seed, trial.bpb) for trial in read_trials(SWEEP)] == [(key.seed, 2.0) for key in KEYS]
