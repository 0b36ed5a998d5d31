"""train_gpt.py end to end on small data: what a run leaves, and that neither ranks, cuts nor kills change it."""

import json
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from base.cli import run, show_pairs
from base.config import load, to_yaml
from base.errors import BadInput, CheckFailed
from base.files import file_sha256
from base.source import hash_of, sources
from data.dataset import open_dataset
from data.ensure import ensure_dataset
from data.loader import Loader
from engine.checkpoint import load_checkpoint, load_weights, save_checkpoint
from engine.clock import Clock
from engine.config import TrainConfig, micro_rows
from engine.device import Device
from engine.log import RunLog
from model.config import ModelConfig
from model.gpt import GPT
from tests.conftest import prep
from train_gpt import RunConfig, Training, act, dry_run, parser, whole_run

ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]  # on a free port
CPU = Device(torch.device("cpu"))
SMALL = [
    "model.vocab_size=400", "model.layers=2", "model.dim=32", "model.heads=2", "model.kv_heads=1", "model.smear=static",
    "model.bigram_buckets=64", "model.bigram_dim=8", "model.skips=plain", "model.embed_norm=true", "train.seconds=0",
    "train.steps=12", "train.seq_len=32", "train.batch_tokens=256", "train.checkpoint_s=1e-9", "eval.stride=16",
]  # fmt: skip


RESULT_KEYS = {
    "run", "params", "steps", "train_seconds", "val_bpb", "val_nats_per_token", "tokens_per_second", "packed_bpb",
    "packed_nats_per_token", "artifact", "artifact_bytes", "artifact_sha256", "code_bytes", "total_bytes", "seed",
    "calibration_seconds", "eval_seconds", "val_tokens", "val_bytes", "contest_bytes", "stride", "context",
    "data_sha256", "val_sha256", "tokenizer_sha256", "sources_sha256", "bundle_sha256", "device", "torch", "python",
    "peak_memory_bytes",
}  # fmt: skip


@pytest.fixture
def work(jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prep(jsonl, "--vocab", 400, "--val-fraction", 0.2, "--out", tmp_path / "data", "--workers", 1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(*words: str) -> RunConfig:
    return load(RunConfig, None, [*SMALL, "data.path=data", *words])


def weights(run: str | Path) -> dict[str, torch.Tensor]:
    state = torch.load(Path(run) / "model.pt", weights_only=True)
    found: dict[str, torch.Tensor] = state["weights"]
    return found


def metrics(run: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_is_needed_to_check_and_repeat_it(work: Path) -> None:
    answer = whole_run(small(), "first", CPU)
    run = Path(answer["run"])
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml", "train.log", "metrics.jsonl", "loss.png", "model.pt", "checkpoint.pt", "result.json",
    }  # fmt: skip
    assert load(RunConfig, run / "config.yaml") == small()
    log = (run / "train.log").read_text()
    dataset = open_dataset("data")
    hashes = dataset.manifest.hashes()
    for said in (
        "torch.compile off\n",
        f"\nsources {answer['sources_sha256']}\n",
        f"\ndata {hashes['data_sha256']} tokenizer {hashes['tokenizer_sha256']}\n",
    ):
        assert said in log
    number = r"\d+\.\d{8}"
    shapes = (
        r"steps 12 train_time:\d+ms step_avg:\d+\.\d\dms peak_memory:\d+MiB",
        rf"pre_quant val_loss:{number} val_bpb:{answer['val_bpb']:.8f} eval_time:\d+ms",
        rf"calibration_time:\d+ms artifact_bytes:{answer['artifact_bytes']} artifact_sha256:[0-9a-f]{{64}}",
        rf"code_bytes:{answer['code_bytes']} total_bytes:{answer['total_bytes']}",
        rf"final val_loss:{answer['packed_nats_per_token']:.8f} val_bpb:{answer['packed_bpb']:.8f} eval_time:\d+ms",
    )
    for shape, line in zip(shapes, log.splitlines()[-5:], strict=True):
        assert re.fullmatch(shape, line), line
    assert json.loads((run / "result.json").read_text()) == answer
    assert set(answer) == RESULT_KEYS
    made_of = sources()
    assert answer["sources_sha256"] == hash_of(made_of)
    assert made_of["train_gpt.py"] == file_sha256(ROOT / "train_gpt.py")
    assert not [path for path in made_of if path.startswith(("tools/", "data/prep"))]
    assert answer["artifact_sha256"] == file_sha256(run / "model.golf")
    assert (answer["bundle_sha256"], answer["val_sha256"]) == ("", hashes["val_sha256"])
    losses = [row["loss"] for row in metrics(run) if "loss" in row]
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.3
    assert answer["val_bpb"] < 3.5
    assert whole_run(small(), "first", CPU)["run"].endswith("first-2")  # a finished run is left alone


def test_a_run_is_repeatable_bit_for_bit(work: Path) -> None:
    one, two = (whole_run(small(), "same", CPU) for _ in range(2))
    assert one["val_bpb"] == two["val_bpb"]
    for name, weight in weights(one["run"]).items():
        assert torch.equal(weight, weights(two["run"])[name])


@pytest.mark.parametrize(("average", "dropout"), [("ema", 0.1), ("swa", 0.0), ("off", 0.0)])
def test_a_run_killed_with_signal_9_goes_on_bit_for_bit(work: Path, average: str, dropout: float) -> None:
    words = [f"average.kind={average}", "average.start=0.3", "average.every=0.1", "train.steps=120"]
    words += [f"model.dropout={dropout}"]
    whole = whole_run(small(*words), "whole", CPU)
    killed = work / "runs" / "killed"
    command = [
        sys.executable,
        str(ROOT / "train_gpt.py"),
        "none.yaml",
        *SMALL,
        "data.path=data",
        *words,
        "--name",
        "killed",
    ]
    (work / "none.yaml").write_text("")
    running = subprocess.Popen(command, cwd=work, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not ((killed / "metrics.jsonl").exists() and len(metrics_so_far(killed)) > 8):
        assert running.poll() is None
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    state = load_checkpoint(killed)
    assert state is not None
    assert 0 < state["clock"]["step"] < 120
    done = subprocess.run([*command, "--json"], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert Path(answer["run"]) == killed
    assert answer["val_bpb"] == whole["val_bpb"]
    for name, weight in weights(killed).items():
        assert torch.equal(weight, weights(whole["run"])[name]), name
    assert [r["loss"] for r in metrics(killed) if "loss" in r] == [
        r["loss"] for r in metrics(whole["run"]) if "loss" in r
    ]


def test_a_run_stopped_before_its_first_checkpoint_leaves_nothing_in_the_next_ones_files(work: Path) -> None:
    config, folder = small("train.steps=2"), work / "runs" / "anew"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(config))
    (folder / "train.log").write_text("of the one before\n")
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 9.0}\n')
    assert whole_run(config, "anew", CPU)["run"] == str(folder)
    assert [row["step"] for row in metrics(folder) if "loss" in row] == [1, 2]
    assert "of the one before" not in (folder / "train.log").read_text()


def metrics_so_far(run: Path) -> list[str]:
    return (run / "metrics.jsonl").read_text().splitlines()


def test_sigterm_saves_and_ends_cleanly(work: Path) -> None:
    (work / "none.yaml").write_text("")
    command = [sys.executable, str(ROOT / "train_gpt.py"), "none.yaml", *SMALL, "data.path=data", "train.steps=100000",
               "train.checkpoint_s=1e9", "eval.during=0", "--name", "r"]  # fmt: skip
    running = subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, text=True)
    run = work / "runs" / "r"
    while not ((run / "metrics.jsonl").exists() and len(metrics_so_far(run)) > 3):
        time.sleep(0.01)
    running.terminate()
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "saved; the same command goes on from there" in said
    state = load_checkpoint(run)
    assert state is not None
    assert state["clock"]["step"] == len(metrics_so_far(run))


def test_two_ranks_train_as_one_with_the_same_batch(work: Path) -> None:
    (work / "none.yaml").write_text("")
    one = whole_run(small("train.steps=6"), "one", CPU)
    words = ["none.yaml", *SMALL, "data.path=data", "train.steps=6", "--name", "two", "--json"]
    done = subprocess.run([*TORCHRUN, str(ROOT / "train_gpt.py"), *words], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["val_bpb"] == pytest.approx(one["val_bpb"], abs=1e-4)
    for name, weight in weights(work / "runs" / "two").items():
        assert torch.allclose(weight, weights(one["run"])[name], atol=2e-4), name


def test_ranks_whose_clocks_differ_validate_together_and_end_together(work: Path) -> None:
    (work / "none.yaml").write_text("")
    words = ["none.yaml", *SMALL, "data.path=data", "train.steps=0", "train.seconds=2", "eval.during=0.05", "--json"]
    done = subprocess.run(
        [*TORCHRUN, str(ROOT / "train_gpt.py"), *words], cwd=work, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[0])
    assert len([row for row in metrics(answer["run"]) if "val_bpb" in row]) >= 3


def test_four_micro_batches_of_one_row_are_one_of_four(work: Path) -> None:
    dataset = open_dataset("data")
    words = ("train.batch_tokens=128", "optim.clip=0", "optim.matrix_lr=0", "optim.embed_lr=0")
    grads = []
    for micro in ("train.micro_tokens=0", "train.micro_tokens=32"):
        training = Training(small(*words, micro), dataset, CPU)
        training.model.double()
        kept: list[torch.Tensor] = []
        for optimizer in training.optimizers:
            optimizer.step = lambda *_: None  # type: ignore[method-assign]
            optimizer.zero_grad = lambda *_, **__: None  # type: ignore[method-assign]
        training.step(0.0)
        kept = [weight.grad.clone() for weight in training.weights if weight.grad is not None]
        grads.append(kept)
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
def test_nothing_is_compiled_inside_the_clock(
    work: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # what matters is when, not how
    training = Training(small("train.compile=on", "optim.warmdown=0", *words), open_dataset("data"), CPU)
    training.prime()
    compiled = counters["stats"]["unique_graphs"]
    assert compiled
    for progress in (0.0, 0.5, 1.0):
        training.step(progress)
    assert counters["stats"]["unique_graphs"] == compiled


def test_a_run_that_diverges_stops_with_the_last_good_checkpoint_named(work: Path) -> None:
    with pytest.raises(CheckFailed, match=r"has diverged; the last good checkpoint is runs/bad/checkpoint\.pt"):
        whole_run(small("optim.embed_lr=1e30", "optim.clip=0", "train.steps=50", "model.softcap=0"), "bad", CPU)


def test_the_clock_ends_a_run_by_whichever_budget_is_first_and_stands_while_nothing_trains() -> None:
    now = [0.0]
    clock = Clock(seconds=100, steps=10, reserve_s=20, now=lambda: now[0])
    with clock.running():
        now[0] += 40
    now[0] += 1000  # validation, saving, compiling
    assert clock.elapsed_s == 40
    assert clock.progress() == 0.5
    clock.step = 9
    assert clock.progress() == 0.9
    with clock.running():
        now[0] += 40
    assert clock.progress() == 1.0
    with pytest.raises(BadInput, match=r"train\.seconds and train\.steps are both 0"):
        Clock(0, 0)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_running_out_of_memory_says_what_to_lower(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: RuntimeError
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(GPT, "trunk", fails)
    (work / "none.yaml").write_text("")
    assert run(parser(), act, show_pairs, ["none.yaml", *SMALL, "data.path=data"]) == 2
    assert "out of memory; lower train.micro_tokens or set train.checkpointing=true" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "ranks", "says"),
    [
        ({"batch_tokens": 1000, "seq_len": 256}, 1, "use 768 or 1024"),
        ({"batch_tokens": 768, "seq_len": 256}, 2, "use 512 or 1024"),
        ({"batch_tokens": 100, "seq_len": 256}, 1, "use 256"),
        ({"batch_tokens": 1536, "seq_len": 256, "micro_tokens": 1024}, 1, "use 768"),
    ],
)
def test_a_batch_that_does_not_divide_names_the_nearest_that_does(words: dict[str, int], ranks: int, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        micro_rows(TrainConfig(**words), ranks)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model.vocab_size=512"], "its tokenizer's vocab_size is 400; model.vocab_size is 512"),
        (["model.bos_id=2"], "bos_id is 1; model.bos_id is 2"),
        (["data.path=nowhere"], "not a dataset"),
        (["train.seq_len=1048576", "train.batch_tokens=1048576"], "are too few for seq_len"),
        (["train.batch_tokens=100"], "is not a multiple of seq_len 32"),
        (["eval.stride=65", "eval.context=64"], "eval.stride 65 is beyond the context of 64; use 1 to 64"),
    ],
)
def test_data_that_is_not_the_models_is_refused(work: Path, words: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        whole_run(small(*words), "r", CPU)
    assert not (work / "runs").exists()


def test_a_checkpoint_of_another_shape_or_of_garbage_is_refused(work: Path) -> None:
    other = GPT(ModelConfig(vocab_size=400, dim=64, heads=2, kv_heads=1, layers=2))
    model = GPT(ModelConfig(vocab_size=400, dim=32, heads=2, kv_heads=1, layers=2))
    with pytest.raises(
        BadInput, match=r"weight blocks\.0\.attn\.k\.weight has shape \(32, 64\); this model has \(16, 32\)"
    ):
        load_weights(model, other.state_dict(), "there")
    compiled = {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}
    load_weights(model, compiled, "there")
    del compiled["_orig_mod.embedding.table.weight"]
    with pytest.raises(BadInput, match=r"weight embedding\.table\.weight is missing"):
        load_weights(model, compiled, "there")
    (work / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(BadInput, match="not a checkpoint that can be read"):
        load_checkpoint(work)
    save_checkpoint(work, {"a": torch.ones(1)})
    assert not list(work.glob(".checkpoint*"))


def test_a_dry_run_needs_no_data_and_no_memory_even_for_seven_billion() -> None:
    answer = dry_run(load(RunConfig, ROOT / "configs/seeds/d52.yaml"))
    assert answer["params"] == 7_347_372_032
    assert answer["memory_bytes"] > 80e9
    assert answer["rate_multiplier"]["1.0"] == 0.0


def test_a_run_makes_the_dataset_that_it_names(jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_dataset(str(jsonl), 400, tmp_path / "made")
    assert open_dataset(tmp_path / "made").manifest.tokenizer.vocab_size == 400
    ensure_dataset("there is no such source", 400, tmp_path / "made")  # it exists: nothing is read
    with pytest.raises(BadInput, match=r"nothing\.jsonl: no such file"):
        ensure_dataset("nothing.jsonl", 400, tmp_path / "other")
    monkeypatch.setitem(sys.modules, "data.prep", None)  # as in a single file
    with pytest.raises(BadInput, match="python -m data.prep stdlib --vocab 400 --out"):
        ensure_dataset("stdlib", 400, tmp_path / "other")


def test_the_loader_that_training_uses_is_the_datasets_own(work: Path) -> None:
    training = Training(small(), open_dataset("data"), CPU)
    assert isinstance(training.loader, Loader)
    assert training.loader.state_dict()["data_sha256"] == open_dataset("data").manifest.data_sha256("train")


def test_a_reserve_that_leaves_nothing_to_train_in_is_refused() -> None:
    for reserve_s in (2, 5):
        with pytest.raises(BadInput, match="leaves nothing of 2 seconds"):
            small("train.seconds=2", f"train.reserve_s={reserve_s}")


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
    assert whole_run(small("train.steps=1", "train.compile=off"), "off", CPU)["val_bpb"] > 0
    with pytest.raises(AssertionError, match="compiled"):
        whole_run(small("train.steps=1"), "auto", CPU)
    assert (work / "runs" / "auto" / "model.pt").exists()  # what was trained is not lost to what follows


def test_a_result_that_could_not_be_written_whole_is_none(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(data[:3])
        raise OSError(28, "No space left on device")

    log = RunLog(work)
    log.metrics(step=1, elapsed_s=1.0, loss=6.0, grad_norm=1.0, step_s=1.0)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        log.finish({"val_bpb": 1.0})
    assert not (work / "result.json").exists()
