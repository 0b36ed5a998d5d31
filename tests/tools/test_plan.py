"""tools.plan: the audited figures of seeds.md come out of the command; what cannot be is refused with the way out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from base.cli import run
from base.config import load
from base.errors import BadInput
from data.dataset import Dataset
from engine.device import PEAK_FLOPS
from model.gpt import GPT
from quant.config import QuantConfig
from quant.quantize import quantize
from tools.plan import act, parser, show
from tools.planning.arithmetic import artifact_bytes
from tools.planning.gpus import gpu_named, known_gpus
from train_gpt import RunConfig

CONFIGS = Path(__file__).parents[2] / "configs"
FIXED = {
    "params", "params_tied", "flops_per_token", "total_flops", "tokens", "memory_bytes", "fits", "fits_sharded",
    "max_batch", "hours", "cost_usd", "shards", "epochs",
}  # fmt: skip
SMALL = ["model.layers=2", "model.dim=64", "model.heads=4", "model.kv_heads=2", "train.seq_len=64"]


def planned(config: str, *words: str) -> dict[str, Any]:
    path = str(CONFIGS / f"{config}.yaml")
    answer: dict[str, Any] = act(parser().parse_intermixed_args([path, *words]))
    return answer


def refused(*words: str, config: str = "demo") -> str:
    with pytest.raises(BadInput) as caught:
        planned(config, *words)
    return str(caught.value)


# -- the golden table -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "tied", "untied"),
    [
        ("albor50m", 62.40e6, 79.18e6), ("albor125m", 163.60e6, 188.77e6), ("albor350m", 398.51e6, 432.06e6),
        ("rscalm138m", 137.84e6, None), ("rscalm350m", 435.47e6, None), ("rscalm700m", 879.90e6, None),
        ("micro26m", 25.83e6, None), ("golf465", 24_730_705, None),
    ],
)  # fmt: skip
def test_parameters_are_the_audits_tied_and_untied(config: str, tied: float, untied: float | None) -> None:
    answer = planned(config, "--gpu", "h100")
    assert answer["params_tied"] == pytest.approx(tied, rel=1e-4)
    if untied is not None:
        assert answer["params_untied"] == pytest.approx(untied, rel=1e-4)


@pytest.mark.parametrize(
    ("config", "params", "tokens", "flops", "total", "hours", "usd", "shards", "epochs"),
    [
        ("d38", 3_015_835_648, 60.32e9, 1.941e10, 1.171e21, 82.2, 1973, 1158, 0.636),
        ("d50", 6_563_430_400, 131.27e9, 4.205e10, 5.520e21, 387.6, 9303, 2520, 1.383),
        ("d52", 7_347_372_032, 146.95e9, 4.703e10, 6.911e21, 485.3, 11_646, 2821, 1.548),
    ],
)
def test_the_large_runs_take_what_the_audit_says(
    config: str, params: int, tokens: float, flops: float, total: float, hours: float, usd: float, shards: int,
    epochs: float,
) -> None:  # fmt: skip
    for more in ([], ["--ratio", "20"]):
        answer = planned(config, "--gpu", "h100", "--gpus", "8", *more)
        assert answer["params"] == params
        assert answer["tokens"] == pytest.approx(tokens, rel=1e-3)
        assert answer["flops_per_token"] == pytest.approx(flops, rel=1e-3)
        assert answer["total_flops"] == pytest.approx(total, rel=1e-3)
        assert answer["hours"] == pytest.approx(hours, rel=1e-3)
        assert answer["cost_usd"] == pytest.approx(usd, rel=1e-3)
        assert answer["shards"] == pytest.approx(shards, abs=2)
        assert answer["epochs"] == pytest.approx(epochs, rel=2e-3)
        assert set(answer) >= FIXED


@pytest.mark.parametrize(
    ("gpu", "d38", "d52"), [("mi300x", 62.2, 367), ("b200", 36.1, 213), ("1.5TB/8", 82.2, 485.3), ("h200", 82.2, 485.3)]
)
def test_other_devices_take_the_audits_hours(gpu: str, d38: float, d52: float) -> None:
    for config, hours in (("d38", d38), ("d52", d52)):
        assert planned(config, "--gpu", gpu, "--gpus", "8")["hours"] == pytest.approx(hours, rel=2e-3)


def test_speed_causal_flops_and_batches_are_the_audits() -> None:
    three, seven = (planned(config, "--gpu", "h100", "--gpus", "8") for config in ("d38", "d52"))
    assert three["tokens_per_second"] == pytest.approx(203.8e3, rel=1e-3)
    assert seven["tokens_per_second"] == pytest.approx(84.1e3, rel=1e-3)
    assert three["flops_per_token_causal"] == pytest.approx(1.827e10, rel=1e-3)
    assert planned("d38", "--gpu", "h100", "--gpus", "8", "--shards", "1200")["epochs"] == pytest.approx(
        0.97, abs=0.006
    )
    whole = planned("d38", "--gpu", "1.5TB/8", "--gpus", "8", "train.micro_tokens=0")
    assert (whole["rows"], whole["micro_batches"], whole["sequences_per_step"]) == (48, 1, 384)


def test_a_fork_that_runs_at_its_own_speed_takes_a_week() -> None:
    for speed, hours in ((85e3, 197), (95e3, 177)):
        mfu = speed * 1.941e10 / (8 * 989e12)
        assert planned("d38", "--gpu", "h100", "--gpus", "8", "--mfu", f"{mfu}")["hours"] == pytest.approx(
            hours, rel=0.01
        )


@pytest.mark.parametrize(("config", "total", "largest"), [("d38", 513, 15), ("d52", 494, 6)])
def test_the_seeds_own_batches_do_not_fit_where_it_says_they_do(config: str, total: float, largest: int) -> None:
    plain = ["train.micro_tokens=0", "train.checkpointing=false"]
    answer = planned(config, "--gpu", "1.5TB/8", "--gpus", "8", "--trainer", "nanochat", *plain)
    assert not answer["fits"]
    assert answer["memory_bytes"] / 1e9 == pytest.approx(total, rel=0.005)
    assert answer["max_batch"] == largest
    assert "does not fit" in answer["warnings"][0]


def test_the_7b_needs_fsdp_on_80_gigabytes() -> None:
    answer = planned("d52", "--gpu", "h100", "--gpus", "8")
    assert (answer["fits"], answer["fits_sharded"], answer["max_batch"]) == (False, True, 0)
    assert planned("d52", "--gpu", "h100", "--gpus", "8", "--shard", "fsdp")["fits"]
    kinds = {layout["shard"] for layout in answer["layouts"]}
    assert kinds == {"ddp", "zero1", "zero2", "fsdp"}
    assert len(answer["layouts"]) == 12


# -- the rest of the answer -----------------------------------------------------------------------------------------


def test_a_budget_in_seconds_becomes_tokens_at_the_stated_speed() -> None:
    answer = planned("golf465", "--gpu", "h100", "--gpus", "8", "--mfu", "0.4")
    assert answer["hours"] * 3600 == pytest.approx(600, rel=1e-3)
    assert answer["tokens_from"] == "train.seconds at 40 % MFU"
    both = planned("golf465", "--gpu", "h100", "--gpus", "8", "train.steps=10")
    assert both["tokens"] == 7_864_320
    assert planned("golf465", "--gpu", "h100", "--gpus", "8", "--tokens", "1000")["tokens"] == 1000


def test_an_artifact_is_planned_within_a_little_of_the_integers_it_holds() -> None:
    config = load(RunConfig, CONFIGS / "demo.yaml", SMALL)
    bits = "mlp=5,attn=6,blocks.0.mlp.*=4"
    stored = quantize(GPT(config.model), QuantConfig(bits=bits))
    exact = sum(t.bits * t.values.size / 8 + (2 * t.values.shape[0] if t.grid is not None else 0) for t in stored)
    assert artifact_bytes(config.model, bits) == pytest.approx(exact, abs=len(stored))
    assert planned("demo", "--gpu", "h100", "--bits", bits, *SMALL)["artifact_bytes"] == artifact_bytes(
        config.model, bits
    )


def test_the_runs_own_dataset_gives_its_size_and_must_have_the_models_vocabulary(dataset: Dataset) -> None:
    words = ["--gpu", "h100", f"data.path={dataset.path}", "--tokens", "1000000"]
    answer = planned("demo", *words, "model.vocab_size=400")
    assert answer["epochs"] == pytest.approx(1e6 / dataset.manifest.train.tokens)
    assert "tokenizer has 400 pieces, model.vocab_size is 1024; use model.vocab_size=400" in refused(*words)


def test_a_person_reads_every_layout_and_a_program_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(CONFIGS / "d52.yaml"), "--gpu", "h100", "--gpus", "8"]
    text = show(planned("d52", *words[1:]))
    for said in ("7,347,372,032", "4.703e+10", "6.911e+21", "485.2", "fsdp, ckpt, chunk", "! does not fit: "):
        assert said in text
    assert run(parser(), act, show, [*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 7_347_372_032


def test_a_check_fails_where_it_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(CONFIGS / "d52.yaml"), "--gpu", "h100", "--gpus", "8", "--check", "--json"]
    assert run(parser(), act, show, words) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["fits"] is False
    assert "does not fit" in said.err
    assert run(parser(), act, show, [*words, "--shard", "fsdp"]) == 0


# -- devices --------------------------------------------------------------------------------------------------------


def test_a_devices_name_may_be_spelled_as_people_do() -> None:
    assert gpu_named("RTX-4090") == gpu_named("rtx4090") == known_gpus()["rtx 4090"]
    assert gpu_named("1.5TB/8").memory_bytes == 187.5e9


def test_the_table_has_the_peaks_that_training_measures_itself_by() -> None:
    table = {name.upper().removeprefix("RTX "): gpu for name, gpu in known_gpus().items()}
    for name, flops in PEAK_FLOPS.items():
        assert table[name].flops == flops


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--gpu", "h101"], "--gpu h101: not in gpus.yaml, which has h100, h200, b200"),
        (["model.dim=1024", "model.heads=20", "model.kv_heads=20"], "1024 is not divisible by heads 20; use 16 or 32"),
        (["model.heads=8", "model.kv_heads=3"], "heads 8 is not divisible by kv_heads 3; use 2 or 4"),
        (["model.dim=36", "model.heads=4"], "head width 9 is odd; use 8 or 10"),
        (["train.batch_tokens=3000"], "3000 is not a multiple of seq_len 256 x 1 ranks; use 2816 or 3072"),
        (["--gpus", "3"], "is not a multiple of seq_len 256 x 3 ranks; use 1536 or 2304"),
        (["train.batch_tokens=8192", "train.micro_tokens=768"], "does not divide a rank's share; use"),
        (["--gpus", "4", "--shard", "zero1", "model.vocab_size=1026", "data.path=no"], "does not split over 4 devices"),
        (["optim.warmup=0.7"], "warmup 0.7 and warmdown 0.5 are more than the whole run"),
        (["--gpus", "0"], "--gpus 0: a run needs at least one"),
        (["--mfu", "50"], "--mfu 50: a share of the peak"),
        (["--rate", "-1"], "--rate -1: must be a number above 0"),
        (["--ratio", "nan"], "--ratio nan: must be a number above 0"),
        (["train.seconds=0"], "leave no end; give one of them, --tokens or --ratio"),
        (["--bits", "mpl=5"], "--bits mpl: neither a kind"),
        (["model.depth=21"], "use 20 or 22"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_way_out(words: list[str], says: str) -> None:
    assert says in refused(*["--gpu", "h100"], *words)


def test_steps_that_the_data_does_not_reach_are_refused() -> None:
    """C-TRAINCFG-001: 22,079 sequences, 4 at a time, 128 micro-batches, one epoch, 5,000 steps: 43 are reached."""
    sizes = ["train.seq_len=1024", f"train.batch_tokens={4 * 128 * 1024}", f"train.micro_tokens={4 * 1024}"]
    data = ["--gpu", "h100", "--shards", "1", "--shard-tokens", str(22_079 * 1024), "train.steps=5000"]
    said = refused(*sizes, *data, "--epochs", "1", config="albor350m")
    assert "an epoch of 22079 sequences is 43 steps of 512; use at most 43 steps, or --epochs 117" in said
    assert planned("albor350m", *sizes, *data, "--epochs", "117")["steps"] == 5000
    assert "lower train.batch_tokens" in refused(*sizes, *data[:-2], "5000", "--epochs", "1", config="albor350m")


def test_a_long_warmup_is_warned_about() -> None:
    assert "more than a tenth" in planned("demo", "--gpu", "h100", "optim.warmup=0.2")["warnings"][0]


def test_one_device_under_fsdp_holds_what_it_holds_under_ddp() -> None:
    words = ["train.checkpointing=true", "train.loss_tokens=4096", "train.micro_tokens=131072"]
    ddp, fsdp = (planned("albor350m", "--gpu", "rtx 4090", *words, f"train.shard={shard}") for shard in ("ddp", "fsdp"))
    assert ddp["memory_by_part"] == fsdp["memory_by_part"]
    assert ddp["max_batch"] == fsdp["max_batch"]


def test_the_largest_batch_that_is_advised_is_one_that_can_be_taken() -> None:
    eight = ("--gpu", "rtx 4090", "--gpus", "8")
    said = planned("golf465", *eight)["warnings"][0]
    word = re.search(r"train\.micro_tokens=\d+", said)
    assert word, said
    assert planned("golf465", *eight, word[0])["fits"]


def test_seconds_that_are_kept_back_train_nothing() -> None:
    words = ["train.steps=0", "train.seconds=600"]
    whole, half = (
        planned("micro26m", "--gpu", "h100", *words, f"train.reserve_s={kept}")["tokens"] for kept in (0, 300)
    )
    assert half == pytest.approx(whole / 2, rel=1e-3)


@pytest.mark.parametrize(
    "words",
    [
        ["model.dim=1000000000000"],
        ["model.vocab_size=1000000000000000000", "data.path=x"],
        ["model.hidden=0", "model.mlp_mult=1e300"],
        ["train.seconds=1e300", "train.steps=0"],
    ],
)
def test_sizes_beyond_all_machines_are_refused_in_one_line(words: list[str]) -> None:
    with pytest.raises(BadInput):
        planned("micro26m", "--gpu", "h100", *words)
