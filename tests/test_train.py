"""train_gpt.py in this process on small data: what a run leaves, what it refuses, and what its clock counts.

Kills and ranks: tests/contract.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from base.config import load, to_yaml
from base.errors import BadInput, CheckFailed
from base.files import file_sha256
from base.result_file import read_result
from base.run_folder import new_or_unfinished, sole_writer
from base.source import hash_of, sources
from data.canonical import forbidden_pairs
from data.config import DataConfig
from data.dataset import open_dataset
from data.ensure import ensure_dataset
from engine.checkpoint import load_weights, read_state
from engine.clock import Clock
from engine.device import Device
from model.config import ModelConfig
from model.gpt import GPT
from quant.pack import open_run
from quant.unpack import open_artifact
from run_config import RunConfig
from tests.runs import CPU, ROOT, SMALL, losses, metrics, printed, small
from tools.load_model import open_model
from train_gpt import act, parser, train_pack_score
from training import Training


def test_a_run_leaves_what_is_needed_to_check_and_repeat_it(work: Path) -> None:
    answer = train_pack_score(small(), "first", CPU)
    run = Path(answer.run)
    names = {"config.yaml", "train.log", "metrics.jsonl", "loss.png", "model.pt", "result.json"}
    assert {path.name for path in run.iterdir()} >= names
    assert load(RunConfig, run / "config.yaml") == small("eval.precision=fp32")  # what `auto` is on a CPU
    assert (answer.precision, open_artifact(answer.artifact).header.config["eval"]["precision"]) == ("fp32", "fp32")
    assert read_result(run / "result.json") == answer
    log = (run / "train.log").read_text()
    hashes = open_dataset("data").manifest.hashes()
    assert f"\nsources {answer.sources_sha256}\ndata {hashes['data_sha256']} tokenizer" in log
    assert f"final val_loss:{answer.val_nats_per_token:.8f} val_bpb:{answer.val_bpb:.8f}" in log
    made_of = sources()
    assert answer.sources_sha256 == hash_of(made_of)
    assert made_of["train_gpt.py"] == file_sha256(ROOT / "train_gpt.py")
    assert not [path for path in made_of if path.startswith(("tools/", "data/prep"))]
    assert answer.artifact_sha256 == file_sha256(run / "model.golf")
    assert (answer.bundle_sha256, answer.val_sha256) == ("", hashes["val_sha256"])
    assert len(losses(run)) == 12
    rows = [row for row in metrics(run) if "loss" in row]
    assert rows[-1]["elapsed_s"] == answer.train_seconds  # one reading of the clock
    assert sum(row["step_s"] for row in rows) == pytest.approx(answer.train_seconds, abs=1e-6)
    assert losses(run)[-1] < losses(run)[0] - 0.3
    assert answer.float_bpb < 3.5
    assert train_pack_score(small(), "first", CPU).run.endswith("first-2")  # a finished run is left alone


def test_only_the_score_from_the_artifact_adapts(work: Path) -> None:
    words = ["train.steps=4", "train.compile=off", "eval.adapt.table_bits=14"]
    plain, adapted = (train_pack_score(small(*words, f"eval.adapt.kind={kind}"), kind, CPU) for kind in ("off", "mix"))
    assert (plain.adapt, adapted.adapt) == ("off", "mix")
    during, of_adapted = ([row.get("float_bpb") for row in metrics(each.run)] for each in (plain, adapted))
    assert during == of_adapted
    assert adapted.float_bpb == plain.float_bpb
    assert adapted.val_bpb < plain.val_bpb - 0.1
    answer = act(parser().parse_args(["--score", adapted.artifact, "--nats", "nats.npy"]))
    assert isinstance(answer, dict)
    assert (answer["bpb"], answer["adapt"]) == (adapted.val_bpb, "mix")
    assert float(np.load("nats.npy").sum()) == pytest.approx(adapted.val_nats_per_token * adapted.val_tokens, rel=1e-9)


def test_ranks_that_could_not_adapt_do_not_begin_to_train(work: Path) -> None:
    with pytest.raises(BadInput, match="kind mix on 2 ranks"):
        Training(small("eval.adapt.kind=mix"), open_dataset("data"), Device(torch.device("cpu"), 0, 2))


def test_all_that_open_a_canonical_run_build_its_table(work: Path) -> None:
    answer = train_pack_score(small("model.canonical=true"), "canonical", CPU)
    dataset = open_dataset("data")
    table = torch.from_numpy(forbidden_pairs(dataset.tokenizer))
    model, _, _ = open_run(Path(answer.run) / "model.pt", None)
    loaded = open_model(answer.run, "model.pt").model
    packed = open_artifact(answer.artifact).model
    tokens = torch.from_numpy(dataset.val.read(0, 32).astype(int))[None]
    assert torch.equal(model(tokens), loaded(tokens))
    for each in (model, loaded, packed):
        assert each(tokens).softmax(-1)[table[tokens]].max() < 1e-9
    assert answer.float_bpb < 3.5


def test_four_micro_batches_of_one_row_are_one_of_four(work: Path) -> None:
    dataset = open_dataset("data")
    words = ("train.batch_tokens=128", "optim.clip=0", "optim.matrix_lr=0", "optim.embed_lr=0")
    grads = []
    for micro in ("train.micro_tokens=0", "train.micro_tokens=32"):
        training = Training(small(*words, micro), dataset, CPU)
        training.model.double()
        for optimizer in training.optimizers:
            optimizer.step = lambda *_: None  # type: ignore[method-assign]
            optimizer.zero_grad = lambda *_, **__: None  # type: ignore[method-assign]
        training.step(0.0)
        grads.append([weight.grad.clone() for weight in training.weights if weight.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 10
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_priming_moves_nothing(work: Path) -> None:
    training = Training(small(), open_dataset("data"), CPU)
    before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    random = torch.get_rng_state()
    training.prime()
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.model.state_dict().items())
    assert all(weight.grad is None for weight in training.weights)
    assert training.loader.position == training.clock.step == training.average.count == 0
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("words", [(), ("model.loop_first=0", "model.loop_last=1", "model.loop_repeats=1")])
def test_the_clock_sees_no_compilation(work: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # what matters is when, not how
    training = Training(small("train.compile=on", "optim.warmdown=0", *words), open_dataset("data"), CPU)
    training.prime()
    compiled = counters["stats"]["unique_graphs"]
    assert compiled
    for progress in (0.0, 0.5, 1.0):
        training.step(progress)
    assert counters["stats"]["unique_graphs"] == compiled


def test_a_run_that_diverges_stops_with_the_last_good_checkpoint_named(work: Path) -> None:
    with pytest.raises(CheckFailed, match=r"has diverged; the last good checkpoint is runs/bad/checkpoint-\d+;"):
        train_pack_score(small("optim.embed_lr=1e30", "optim.clip=0", "train.steps=50", "model.softcap=0"), "bad", CPU)


def test_a_run_whose_early_loss_is_beyond_the_bound_is_stopped_there(work: Path) -> None:
    with pytest.raises(CheckFailed, match=r"stopped by train\.stop_if: .* at 50%, 1 allowed from 40% on; raise"):
        train_pack_score(small("train.steps=4", "train.stop_if=[0.4, 1]"), "hopeless", CPU)
    rows = [row for row in metrics("runs/hopeless") if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[-1]["smooth_loss"] == pytest.approx(sum(row["loss"] for row in rows) / 3)


def test_the_clock_ends_a_run_by_whichever_budget_is_first_and_stops_while_nothing_trains() -> None:
    now = [0.0]
    clock = Clock(seconds=100, steps=10, reserve_s=20, now=lambda: now[0])
    clock.start()
    now[0] += 40
    clock.stop()
    now[0] += 1000  # validation, saving, compiling
    assert clock.elapsed_s == 40
    assert clock.progress() == 0.5
    clock.step = 9
    assert clock.progress() == 0.9
    clock.start()
    now[0] += 20
    clock.start()  # it runs already
    now[0] += 20
    assert clock.progress() == 1.0
    with pytest.raises(BadInput, match=r"train\.seconds and train\.steps are both 0"):
        Clock(0, 0)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_names_what_to_lower(work: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(GPT, "trunk", fails)
    _, err = printed("train_gpt", ROOT / "configs" / "demo.yaml", *SMALL, code=2)
    assert "out of memory; lower train.micro_tokens or set train.checkpointing=true" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.vocab_size=512"], "its tokenizer's vocab_size is 400; model.vocab_size is 512"),
        (["model.bos_id=2"], "bos_id is 1; model.bos_id is 2"),
        (["data.path=nowhere"], "not a dataset .* python -m data.prep SOURCE --vocab 400 --out nowhere"),
        (["train.seq_len=1048576", "train.batch_tokens=1048576"], "are too few for seq_len"),
        (["train.batch_tokens=100"], "is not a multiple of seq_len 32"),
        (["eval.stride=65", "eval.context=64"], "eval.stride 65 is beyond the context of 64; use 1 to 64"),
        (["eval.adapt.kind=mix", "eval.adapt.table_bits=30", "eval.adapt.streams=64"], "30: a table takes 34"),
        (["train.seconds=2", "train.reserve_s=5"], "leaves nothing of 2 seconds"),
    ],
)
def test_a_config_that_cannot_train_on_this_data_is_refused(work: Path, words: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        train_pack_score(small(*words), "r", CPU)
    assert not (work / "runs").exists()


def test_a_run_that_is_killed_while_packing_goes_on_there(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small("train.checkpoint_s=0", "eval.precision=fp32")

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("train_gpt.pack", kill)
        with pytest.raises(KeyboardInterrupt):
            train_pack_score(config, "r", CPU)
    monkeypatch.setattr("training.Training.step", kill)
    assert train_pack_score(config, "r", CPU).steps == len(losses("runs/r")) == 12


def test_a_run_says_which_unfinished_one_it_does_not_resume(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps in (1, 2):
        folder = new_or_unfinished("r", to_yaml(small(f"train.steps={steps}")))
    assert folder.name == "r-2"
    assert capsys.readouterr().err == "runs/r is unfinished, but of another config (steps): it is left as it is\n"


def test_two_runs_do_not_write_into_one_folder(work: Path) -> None:
    train_pack_score(small("train.steps=1"), "one", CPU)
    (work / "runs" / "one" / "result.json").unlink()
    with (
        sole_writer(work / "runs" / "one"),
        pytest.raises(BadInput, match="runs/one: another process is training in it"),
    ):
        train_pack_score(small("train.steps=1"), "one", CPU)
    assert train_pack_score(small("train.steps=1"), "one", CPU).run.endswith("/one")


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x"])
def test_a_name_that_leads_out_of_runs_is_refused(work: Path, name: str) -> None:
    with pytest.raises(BadInput, match="leads out of runs/"):
        train_pack_score(small(), name, CPU)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data data", "--data is for --score; a run's dataset is data.path=DIR"),
        ("--limit 0", "--limit is for --score"),
        ("--gpu h100", "--gpu is for --dry-run"),
        ("--score model.golf eval.stride=32", "--score scores under the artifact's own config"),
        ("--score model.golf --name x", "it takes --data, --limit and --nats only"),
    ],
)
def test_flags_of_scoring_and_of_training_are_not_mixed(words: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        act(parser().parse_intermixed_args(words.split()))


def test_a_checkpoint_of_another_shape_or_of_garbage_is_refused(work: Path) -> None:
    other = GPT(ModelConfig(vocab_size=400, dim=64, heads=2, kv_heads=1, layers=2))
    model = GPT(ModelConfig(vocab_size=400, dim=32, heads=2, kv_heads=1, layers=2))
    with pytest.raises(
        BadInput, match=r"weight blocks\.0\.attn\.k\.weight has shape \(32, 64\); this model has \(16, 32\)"
    ):
        load_weights(model, other.state_dict(), "there")
    incomplete = model.state_dict()
    del incomplete["embedding.table.weight"]
    with pytest.raises(BadInput, match=r"weight embedding\.table\.weight is missing"):
        load_weights(model, incomplete, "there")
    (work / "model.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(BadInput, match="not a checkpoint that can be read"):
        read_state(work / "model.pt")


def test_a_run_makes_the_dataset_that_it_names(jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = DataConfig(path=str(tmp_path / "made"), source=str(jsonl), transform="caseops")
    ensure_dataset(made, 400)
    tokenizer = open_dataset(made.path).manifest.tokenizer
    assert (tokenizer.vocab_size, tokenizer.transform) == (400, "caseops")
    ensure_dataset(replace(made, source="there is no such source"), 400)  # it exists: nothing is read
    with pytest.raises(BadInput, match="not a dataset"):
        ensure_dataset(replace(made, path="", source=""), 400)
    other = replace(made, path=str(tmp_path / "other"), source="nothing.jsonl")
    with pytest.raises(BadInput, match=r"nothing\.jsonl.: no file is there"):
        ensure_dataset(other, 400)
    monkeypatch.setitem(sys.modules, "data.prep", None)  # as in a single file
    with pytest.raises(BadInput, match="python -m data.prep stdlib --vocab 400 --transform caseops --out"):
        ensure_dataset(replace(other, source="stdlib"), 400)


def test_ranks_begin_with_the_same_weights_and_draw_dropout_of_their_own(work: Path) -> None:
    draws, starts = [], []
    for rank in range(2):
        training = Training(small(), open_dataset("data"), Device(torch.device("cpu"), rank, 2))
        starts.append(torch.cat([weight.detach().flatten() for weight in training.weights]))
        draws.append(torch.rand(4))
    assert torch.equal(*starts)
    assert not torch.equal(*draws)


def test_compilation_that_is_off_is_off_in_scoring_as_well(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr("eval.batches.COMPILE_FLOPS", {"cpu": 0})
    monkeypatch.setattr(torch, "compile", refuse)
    assert train_pack_score(small("train.steps=1", "train.compile=off"), "off", CPU).val_bpb > 0
    with pytest.raises(AssertionError, match="compiled"):
        train_pack_score(small("train.steps=1"), "auto", CPU)
    assert (work / "runs" / "auto" / "model.pt").exists()  # what was trained is not lost to what follows
