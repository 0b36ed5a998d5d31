"""The command in one process: with a quick stand-in for training, and once for real."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from base.cli import run
from base.config import load
from engine.device import Device
from tests.tools.sweep_work import SMALL, begun, in_process, orders, set_up, sheet
from tools import sweep
from tools.sweep.worker import loss_curve
from train_gpt import RunConfig, whole_run


@pytest.fixture(autouse=True)
def work(jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(jsonl, tmp_path, monkeypatch)


def test_a_trial_that_crashes_or_diverges_hurts_no_other_and_only_the_crash_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orders(exits={"b": 70, "c": 1})
    assert in_process(monkeypatch, "--json") == 1
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert [trial["state"] for trial in answer["trials"]] == ["complete", "crashed", "diverged"] * 2
    assert "crashed with 70: b-s1: as ordered" in err
    assert "sweep: crashed: b seed 1, b seed 2; see runs/sweeps/try/logs" in err.splitlines()[-1]
    orders(exits={"c": 1})
    assert in_process(monkeypatch) == 0
    assert begun() == Counter({"a-s1": 1, "b-s1": 2, "c-s1": 1, "a-s2": 1, "b-s2": 2, "c-s2": 1})


def test_a_child_that_could_not_even_begin_has_not_diverged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orders(exits={"b": 1}, says="SyntaxError: invalid syntax")
    assert in_process(monkeypatch) == 1
    assert "crashed with 1: b-s1: SyntaxError" in capsys.readouterr().err
    orders()
    assert in_process(monkeypatch) == 0


def test_a_file_with_more_extends_the_study_and_one_that_changes_a_variant_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(monkeypatch) == 0
    sheet(seeds=[1, 2, 3], variants={"a": {}, "b": {"train.steps": 5}, "d": {"train.steps": 7}})
    assert in_process(monkeypatch, "--json") == 0
    assert begun() == Counter(f"{variant}-s{seed}" for variant, seed in
                              [(v, s) for s in (1, 2) for v in "abcd"] + [("a", 3), ("b", 3), ("d", 3)])  # fmt: skip
    sheet(variants={"a": {}, "b": {"train.steps": 50, "optim.clip": 2.0}})
    assert in_process(monkeypatch) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "variant b is another one in the study try: train.steps, optim.clip changed" in said


def test_what_is_wrong_is_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet(variants={"a": {}, "b": {"model.poss": "none"}})
    assert in_process(monkeypatch) == 2
    assert "try.yaml: variant b: unknown key model.poss; nearest: model.pos" in capsys.readouterr().err
    sheet()
    assert in_process(monkeypatch, "--report") == 2
    assert "no study is there to report on" in capsys.readouterr().err
    assert in_process(monkeypatch, "--workers", "0") == 2
    assert not Path("runs").exists()
    sheet(variants={"a": {}, "b": {"model.vocab_size": 512}})
    assert in_process(monkeypatch) == 2
    assert "variant b: data: its tokenizer's vocab_size is 400; model.vocab_size is 512" in capsys.readouterr().err
    assert not begun()


def test_a_real_sweep_scores_what_the_training_command_scores(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    sheet(seeds=[3], variants={"a": {}})
    assert run(sweep.parser(), sweep.act, sweep.show, ["try.yaml", "--json", "--out", "out"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (trial,) = answer["trials"]
    words = [f"{key}={value}" for key, value in SMALL.items()]
    alone = whole_run(load(RunConfig, None, [*words, "seed=3"]), "alone", Device(torch.device("cpu")))
    assert trial["bpb"] == pytest.approx(alone["val_bpb"], abs=1e-9)
    assert (trial["params"], trial["steps"], answer["study"]) == (alone["params"], 4, "try")
    made = {"table.md", "table.csv", "claims.csv", "trials.csv", "answer.json", "plot.png"}
    assert {path.name for path in Path("out").iterdir()} == made
    assert len(loss_curve(Path("runs/sweeps/try/a-s3"))) == 4
    assert (Path("runs/sweeps/try") / "a-s3" / "result.json").exists()


def test_a_loss_curve_has_few_points_of_the_losses_alone() -> None:
    told = [{"step": n, "loss": float(n)} for n in range(1, 121)]
    Path("metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*told, {"step": 120, "val_bpb": 1.0}]))
    assert loss_curve(Path()) == [(n, n - 0.5) for n in range(2, 121, 2)]
