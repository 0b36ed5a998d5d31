"""tools.plan: audited figures of large runs come out of the command; what cannot be planned is refused."""

import json
import re
import subprocess
import sys

import pytest

from base.config import load
from base.errors import BadInput
from data.dataset import Dataset
from engine.device import PEAK_FLOPS
from model.gpt import GPT
from quant.config import QuantConfig
from quant.quantize import quantize
from run_config import RunConfig
from tests.runs import ROOT, printed
from tools.plan import SHARDS, Plan, act, find_gpu, known_gpus, parser, show

ON_8_H100 = ("--gpu", "h100", "--gpus", "8")


def plan(config: str, *words: str) -> Plan:
    return act(parser().parse_intermixed_args([str(ROOT / "configs" / f"{config}.yaml"), *words]))


def refusal(*words: str, config: str = "demo") -> str:
    with pytest.raises(BadInput) as caught:
        plan(config, *words)
    return str(caught.value)


# -- the golden table -----------------------------------------------------------------------------------------------


def test_parameters_match_the_audit_tied_and_untied() -> None:
    sizes = {"albor50m": (62.40e6, 79.18e6), "albor125m": (163.60e6, 188.77e6), "albor350m": (398.51e6, 432.06e6)}
    for config, expected in sizes.items():
        answer = plan(f"seeds/{config}")
        assert (answer.params_tied, answer.params_untied) == pytest.approx(expected, rel=1e-4)


LARGE = {  # params, tokens, FLOPs per token and in all, hours, dollars, shards, epochs
    "d38": (3_015_835_648, 60.32e9, 1.941e10, 1.171e21, 82.2, 1973, 1158, 0.636),
    "d50": (6_563_430_400, 131.27e9, 4.205e10, 5.520e21, 387.6, 9303, 2520, 1.383),
    "d52": (7_347_372_032, 146.95e9, 4.703e10, 6.911e21, 485.3, 11_646, 2821, 1.548),
}


def test_large_runs_cost_what_the_audit_found() -> None:
    for config, (params, tokens, flops, total, hours, usd, shards, epochs) in LARGE.items():
        for more in ([], ["--ratio", "20"]):
            answer = plan(f"seeds/{config}", *ON_8_H100, *more)
            assert (answer.params, answer.shards) == (params, pytest.approx(shards, abs=2))
            found = (answer.tokens, answer.flops_per_token, answer.total_flops, answer.hours, answer.cost_usd)
            assert found == pytest.approx((tokens, flops, total, hours, usd), rel=1e-3)
            assert answer.epochs == pytest.approx(epochs, rel=2e-3)


def test_other_devices_take_the_audited_hours() -> None:
    expected = {"mi300x": (62.2, 367), "b200": (36.1, 213), "1.5TB/8": (82.2, 485.3), "h200": (82.2, 485.3)}
    for gpu, hours in expected.items():
        found = tuple(plan(f"seeds/{config}", "--gpu", gpu, "--gpus", "8").hours for config in ("d38", "d52"))
        assert found == pytest.approx(hours, rel=2e-3)


def test_speed_causal_flops_and_batches_match_the_audit() -> None:
    three = plan("seeds/d38", *ON_8_H100)
    assert three.tokens_per_second == pytest.approx(203.8e3, rel=1e-3)
    assert plan("seeds/d52", *ON_8_H100).tokens_per_second == pytest.approx(84.1e3, rel=1e-3)
    assert three.flops_per_token_causal == pytest.approx(1.827e10, rel=1e-3)
    assert three.epochs * SHARDS[0] / 1200 == pytest.approx(0.97, abs=0.006)
    undivided = plan("seeds/d38", *ON_8_H100, "train.micro_tokens=0")
    assert (undivided.rows, undivided.micro_batches) == (48, 1)


def test_seed_004s_batches_do_not_fit_where_it_claims() -> None:
    for config, gigabytes, most in (("seeds/d38", 493, 15), ("seeds/d50", 386, 6), ("seeds/d52", 480, 5)):
        answer = plan(config, "--gpu", "1.5TB/8", "--gpus", "8", "train.micro_tokens=0", "train.checkpointing=false")
        assert not answer.fits
        assert answer.memory_bytes / 1e9 == pytest.approx(gigabytes, rel=0.005)
        assert answer.max_batch == most
        assert f"does not fit: {answer.memory_bytes / 1e9:.1f} GB of 187.5 GB per device" in answer.warnings[0]


def test_the_7b_needs_fsdp_on_80_gigabytes() -> None:
    answer = plan("seeds/d52", *ON_8_H100)
    assert (answer.fits, answer.fits_sharded, answer.max_batch) == (False, True, 0)
    assert answer.memory_bytes / 1e9 == pytest.approx(153.3, abs=0.05)
    assert plan("seeds/d52", *ON_8_H100, "--shard", "fsdp").fits


# -- the rest of the answer -----------------------------------------------------------------------------------------


def test_seconds_become_tokens_at_the_stated_speed() -> None:
    answer = plan("golf465", *ON_8_H100, "--mfu", "0.4")
    assert answer.hours * 3600 == pytest.approx(600, rel=1e-3)
    assert plan("golf465", *ON_8_H100, "train.steps=10").tokens == 7_864_320
    assert plan("golf465", *ON_8_H100, "--tokens", "1000").tokens == 1000
    timed = ("seeds/micro26m", "train.steps=0", "train.seconds=600")
    assert plan(*timed, "train.reserve_s=300").tokens == pytest.approx(plan(*timed).tokens / 2, rel=1e-3)


def test_artifact_bytes_are_within_a_hundredth_of_the_integers_it_holds() -> None:
    config = load(RunConfig, ROOT / "configs" / "demo.yaml")
    stored = quantize(GPT(config.model), QuantConfig(bits="mlp=5,attn=4"))
    exact = sum(tensor.bits * tensor.values.size / 8 for tensor in stored)
    assert plan("demo", "quant.bits=mlp=5,attn=4").artifact_bytes == pytest.approx(exact, rel=0.01)
    assert "quant.bits names single tensors" in plan("demo", "quant.bits=blocks.0.*=4").warnings[-1]


def test_a_kv_cache_holds_two_vectors_per_layer_and_token() -> None:
    expected = {"d38": 369_664, "d52": 692_224, "micro26m": 4096, "albor350m": 24_576}
    assert {config: plan(f"seeds/{config}").cache_bytes_per_token for config in expected} == expected


def test_the_runs_own_dataset_gives_its_size_and_must_have_the_models_vocabulary(dataset: Dataset) -> None:
    words = [f"data.path={dataset.path}", "--tokens", "1000000"]
    answer = plan("demo", *words, "model.vocab_size=400")
    assert answer.epochs == pytest.approx(1e6 / dataset.manifest.train.tokens)
    assert "tokenizer has 400 pieces, not 1024; use model.vocab_size=400" in refusal(*words)


def test_text_shows_every_layout_and_check_fails_where_it_does_not_fit() -> None:
    text = show(plan("seeds/d52", *ON_8_H100))
    for part in ("7,347,372,032", "4.703e+10", "6.911e+21", "485.24", "8 x h100", "fsdp, ckpt, chunk", "does not fit"):
        assert part in text
    words = (ROOT / "configs/seeds/d52.yaml", *ON_8_H100, "--check", "--json")
    out, err = printed("tools.plan", *words, code=1)
    assert json.loads(out)["params"] == 7_347_372_032
    assert "does not fit" in err
    printed("tools.plan", *words, "--shard", "fsdp")


def test_planning_imports_no_torch() -> None:
    program = "import sys, tools.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


# -- devices --------------------------------------------------------------------------------------------------------


def test_a_device_may_be_spelled_as_people_do() -> None:
    assert find_gpu("RTX-4090") == find_gpu("rtx4090") == find_gpu("rtx 4090")
    assert find_gpu("1.5TB/8").memory_gb == 187.5


def test_the_table_has_the_peaks_that_training_measures_itself_by() -> None:
    table = {name.upper().removeprefix("RTX"): gpu for name, gpu in known_gpus().items()}
    assert {name: table[name].tflops * 1e12 for name in PEAK_FLOPS} == PEAK_FLOPS


# -- what is refused ------------------------------------------------------------------------------------------------


def test_what_cannot_be_planned_is_refused_with_the_way_out() -> None:
    cases = {
        "--gpu h101": "--gpu h101: not in gpus.yaml, which has h100, h200, b200",
        "train.batch_tokens=3000": "3000 is not a multiple of seq_len 512 x 1 ranks; use 2560 or 3072",
        "--gpus 3": "is not a multiple of seq_len 512 x 3 ranks; use 1536 or 3072",
        "train.batch_tokens=8192 train.micro_tokens=1536": "does not divide a rank's share; use",
        "--gpus 0": "the command line: gpus: 0: input should be greater than or equal to 1",
        "--ratio nan": "the command line: ratio: nan",
        "train.seconds=0": "give no end; set one of them, --tokens or --ratio",
        "--ratio inf": "no machine could do it",
    }
    for words, message in cases.items():
        assert message in refusal(*words.split()), words


def test_the_micro_batch_that_a_warning_advises_fits() -> None:
    words = ("seeds/d38", "--gpu", "1.5TB/8", "train.checkpointing=false")
    advice = re.search(r"train\.micro_tokens to (\d+) or less", plan(*words, "train.micro_tokens=0").warnings[0])
    assert advice
    assert plan(*words, f"train.micro_tokens={advice[1]}", f"train.batch_tokens={advice[1]}").fits
