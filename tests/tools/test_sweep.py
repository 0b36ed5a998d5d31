"""The command: with an instant stand-in for training, in one process and in several; and once for real."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from base.config import load
from run_config import RunConfig
from tests.runs import CPU, ROOT, make_dataset, printed
from tools.sweep import __main__ as sweep
from tools.sweep.worker import early_loss, work
from train_gpt import train_pack_score

SCRIPT = Path(__file__).with_name("sweep_script.py")
SMALL: dict[str, Any] = {
    "model.vocab_size": 400, "model.layers": 1, "model.dim": 16, "model.heads": 2, "model.kv_heads": 1,
    "train.seconds": 0, "train.steps": 4, "train.seq_len": 32, "train.batch_tokens": 64, "eval.stride": 32,
    "data.path": "data",
}  # fmt: skip
KEYS = [f"{variant}-s{seed}" for seed in (1, 2) for variant in "abc"]
DRIVER = """
import signal, sys
from functools import partial
from base.cli import run
from tools.sweep import __main__ as sweep
sweep.work = partial(sweep.work, script=sys.argv[1])
sweep.prepare_data = lambda *_: None
signal.signal(signal.SIGTERM, signal.default_int_handler)
sys.exit(run(sweep.parser(), sweep.act, sweep.as_markdown, sys.argv[2:]))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sweep, "work", partial(work, script=SCRIPT))
    monkeypatch.setattr(sweep, "prepare_data", lambda *_: None)
    Path("none.yaml").write_text("")
    sheet()
    orders()


def sheet(**changed: Any) -> None:
    variants = {"a": {}, "b": {"train.steps": 5}, "c": {"train.steps": 6}}
    plan = {"base": "none.yaml", "common": SMALL, "seeds": [1, 2], "variants": variants}
    Path("try.yaml").write_text(yaml.safe_dump({**plan, **changed}, sort_keys=False))


def orders(**given: Any) -> None:
    Path("orders.json").write_text(json.dumps(given))


def ledger(what: str) -> list[list[str]]:
    lines = Path("ledger.txt").read_text().splitlines() if Path("ledger.txt").exists() else []
    return [line.split()[1:] for line in lines if line.startswith(what)]


def begun() -> Counter[str]:
    return Counter(key for key, *_ in ledger("begin"))


def call(*words: str, code: int = 0) -> tuple[str, str]:
    return printed("tools.sweep", "try.yaml", *words, code=code)


def test_a_crash_is_tried_again_by_the_next_call_and_an_end_that_is_no_score_is_not() -> None:
    sheet(seeds=[1], variants={"a": {}, "b": {"train.steps": 5}, "c": {"train.steps": 6}, "d": {"train.steps": 7}})
    ended = {"c": (1, "step 3: loss nan has diverged; lower the rates"), "d": (1, "was stopped by train.stop_if: 9")}
    orders(exits={**ended, "b": (70, "a bug")})
    call("--report")
    assert not begun()
    out, err = call("--json", code=1)
    answer = json.loads(out)
    assert [trial["state"] for trial in answer["trials"]] == ["complete", "crashed", "diverged", "stopped"]
    assert [row["stopped"] for row in answer["table"]] == [0, 0, 0, 1]
    first = {name: answer["trials"][0][name] for name in ("variant", "seed", "params", "bpb", "seconds")}
    assert first == {"variant": "a", "seed": 1, "params": 10_240, "bpb": 2.01, "seconds": 0.5}
    assert "exit code 70: train_gpt.py: b-s1: a bug" in err
    assert "crashed: b-s1; see runs/sweeps/try/logs" in err.splitlines()[-1]
    orders(exits={"b": (1, "another check")})
    call(code=1)
    orders()
    call()
    assert begun() == Counter({"a-s1": 1, "b-s1": 3, "c-s1": 1, "d-s1": 1})
    assert {path.name for path in Path("runs/sweeps/try").iterdir()} >= {"table.md", "answer.json", "plot.png"}


def test_a_sweep_is_extended_by_variants_and_seeds_and_a_changed_variant_is_trained_again() -> None:
    sheet(seeds=[1], variants={"a": {}, "b": {"train.steps": 5}})
    call()
    sheet(variants={"a": {}, "b": {"train.steps": 50}})
    call()
    assert begun() == Counter({"a-s1": 1, "a-s2": 1, "b-s1": 2, "b-s2": 1})
    sheet(seeds=[1, 3], variants={"a": {}})
    orders(data="two")
    assert "data: trials used different data; copy one dataset to every machine" in call(code=2)[1]


def test_what_decides_a_study_of_pairs_is_fixed_by_its_first_trial() -> None:
    sheet(pairs={"effect": 0.5})
    call("--report")
    sheet(pairs={"effect": 0.002})  # nothing has run
    call()
    assert [key for key, *_ in ledger("end")] == ["a-s1", "b-s1", "c-s1", "c-s2", "b-s2", "a-s2"]
    call("--json")
    for changed in ({"pairs": {"effect": 0.001}}, {"pairs": {"effect": 0.002}, "seeds": [1, 2, 3]}, {}):
        sheet(**changed)
        for words in ([], ["--report"]):
            _, err = call(*words, code=2)
            assert "began with pairs {'first': 'a', 'seeds': [1, 2], 'effect': 0.002," in err
    assert len(ledger("begin")) == 6


def test_a_trial_notes_its_early_loss() -> None:
    rows = [{"step": n, "elapsed_s": 1.0, "smooth_loss": 10 - n} for n in range(10)]
    Path("m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"step": 10, "float_bpb": 2.0}]))
    assert early_loss(Path("m.jsonl"), 0.2) == 8
    assert early_loss(Path("none.jsonl"), 0.2) is None


@pytest.mark.slow
def test_a_real_trial_scores_what_the_training_command_scores(jsonl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "work", work)
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    make_dataset(jsonl, Path("data"))
    sheet(seeds=[3], variants={"a": {}, "b": {"optim.matrix_lr": 1e6, "optim.embed_lr": 1e6}})
    trial, diverged = json.loads(call("--json")[0])["trials"]
    words = [*(f"{key}={value}" for key, value in SMALL.items()), "seed=3"]
    train_pack_score(load(RunConfig, None, words), "alone", CPU)
    result = json.loads(Path("runs/alone/result.json").read_text())
    assert (trial["bpb"], trial["params"]) == (pytest.approx(result["val_bpb"], abs=1e-9), result["params"])
    assert diverged["state"] == "diverged"


# -- workers as processes of their own ------------------------------------------------------------------------------


def started() -> subprocess.Popen[str]:
    line = [sys.executable, "-c", DRIVER, str(SCRIPT), "try.yaml", "--json"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def running_trial(process: subprocess.Popen[str]) -> str:
    """The trial that this worker has begun and not ended."""
    while True:
        assert process.poll() is None
        ended = {pid for _, pid, _ in ledger("end")}
        for key, pid, parent in ledger("begin"):
            if int(parent) == process.pid and pid not in ended:
                return key
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_workers_trial_runs_again_and_no_other_trial_does() -> None:
    orders(seconds=1)
    one, two = started(), started()
    running_trial(two)
    lost = running_trial(one)
    one.kill()
    one.communicate()
    out, err = two.communicate(timeout=60)
    assert two.returncode == 0, err
    answer = json.loads(out)
    assert [f"{trial['variant']}-s{trial['seed']}" for trial in answer["trials"]] == KEYS
    assert all(trial["state"] == "complete" for trial in answer["trials"])
    assert begun() == Counter([*KEYS, lost])
    assert Counter(key for key, *_ in ledger("end")) == Counter(KEYS)  # the dead worker's child died with it


@pytest.mark.slow
def test_a_stopped_worker_gives_its_trial_back_at_once() -> None:
    for stop in (signal.SIGTERM, signal.SIGINT):
        sheet(seeds=[1], variants={"a": {"train.steps": 10 + stop}})
        Path("ledger.txt").unlink(missing_ok=True)
        orders(seconds=60)
        worker = started()
        key = running_trial(worker)
        worker.send_signal(stop)
        _, err = worker.communicate(timeout=30)
        assert worker.returncode == 130, err
        orders()
        assert json.loads(call("--report", "--json")[0])["trials"][-1]["state"] == "waiting"
        call()
        assert begun() == Counter([key, key])
