"""tools.plan: audited figures of large runs come out of the command; what cannot be planned is refused."""

import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from base.config import load
from base.errors import BadInput, CheckFailed
from data.dataset import Dataset
from engine.device import PEAK_FLOPS
from model.gpt import GPT
from quant.config import QuantConfig
from quant.quantize import quantize
from run_config import RunConfig
from tests.runs import ROOT, printed
from tools.plan.__main__ import act, parser, show
from tools.plan.corpus import SEED_SHARDS
from tools.plan.dry_run import present_gpu
from tools.plan.estimate import Plan
from tools.plan.fit import find_gpu, known_gpus

ON_8_H100 = ("--gpu", "h100", "--gpus", "8")
PLAIN = ("train.micro_tokens=0", "train.checkpointing=false", "train.loss_tokens=0", "train.shard=ddp")


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
    assert three.epochs * SEED_SHARDS / 1200 == pytest.approx(0.97, abs=0.006)
    undivided = plan("seeds/d38", *ON_8_H100, "train.micro_tokens=0")
    assert (undivided.rows, undivided.micro_batches) == (48, 1)


def test_seed_004s_batches_do_not_fit_where_it_claims() -> None:
    for config, gigabytes, most in (("seeds/d38", 493, 15), ("seeds/d50", 386, 6), ("seeds/d52", 480, 5)):
        answer = plan(config, "--gpu", "1.5TB/8", "--gpus", "8", *PLAIN)
        assert not answer.fits
        assert answer.memory_bytes / 1e9 == pytest.approx(gigabytes, rel=0.005)
        assert answer.max_batch == most
        short = f"does not fit 8 x 1.5TB/8: {answer.memory_bytes / 1e9:.1f} GB of 187.5 GB per device; train."
        assert answer.warnings[0].startswith(short)


def test_the_7b_needs_fsdp_on_80_gigabytes() -> None:
    answer = plan("seeds/d52", *ON_8_H100, "--shard", "ddp", "train.micro_tokens=2048")
    assert (answer.fits, answer.fits_sharded, answer.max_batch) == (False, True, 0)
    assert answer.memory_bytes / 1e9 == pytest.approx(153.3, abs=0.05)
    assert plan("seeds/d52", *ON_8_H100).fits


# -- the rest of the answer -----------------------------------------------------------------------------------------


def test_seconds_become_tokens_at_the_stated_speed() -> None:
    answer = plan("golf465", *ON_8_H100, "--mfu", "0.4")
    assert answer.hours * 3600 == pytest.approx(600, rel=1e-3)
    assert plan("golf465", *ON_8_H100, "train.steps=10").tokens == 7_864_320
    assert plan("golf465", *ON_8_H100, "--tokens", "1000").tokens == 1000
    timed = ("seeds/micro26m", "train.steps=0", "train.seconds=600")
    assert plan(*timed, "train.reserve_s=300").tokens == pytest.approx(plan(*timed).tokens / 2, rel=1e-3)


def test_the_contests_run_is_planned_at_its_measured_speed_on_its_own_data() -> None:
    golf = plan("golf465", *ON_8_H100)
    assert golf.steps == pytest.approx(5999, rel=0.01)
    assert "Parameter Golf #465: 5,999 steps" in golf.mfu_source
    assert plan("golf465", *ON_8_H100, "--tokens", "8720000000").epochs == pytest.approx(1.09)
    assert plan("seeds/d52").mfu == 0.5
    assert golf.mfu < plan("seeds/albor350m").mfu < 0.5
    assert (plan("seeds/albor350m").shards, plan("seeds/albor350m").epochs) == (None, None)


def test_hours_of_packing_and_scoring_are_beside_those_of_training() -> None:
    golf = plan("golf465", *ON_8_H100)
    assert golf.pack_hours * 3600 == pytest.approx(38, rel=0.01)  # as measured
    assert plan("golf465", "quant.method=rate", "quant.bits=''").pack_hours * 3600 == pytest.approx(138, rel=0.01)
    one = plan("golf465", *ON_8_H100, "quant.method=none", "quant.cap_bytes=0", "eval.during=0", "--mfu", "0.3")
    assert one.score_hours * 3600 == pytest.approx(52, rel=0.01)  # docs/LOG.md
    assert (one.pack_hours, one.artifact_bytes) == (0, 0)
    seven = plan("seeds/d52", *ON_8_H100)
    assert (seven.pack_hours, seven.pack_hours_by_method["absmax"]) == (0, pytest.approx(3.14, abs=0.01))
    assert "packing         0.0 min on two CPU cores (quant.pack: 3.14 h by absmax, 11.40 h by rate)" in show(seven)
    assert "scoring         4.1 min, of 9,489,583 validation tokens" in show(seven)


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
    for part in ("7,347,372,032", "4.703e+10", "6.911e+21", "485.24", "8 x h100", "fsdp, ckpt, chunk"):
        assert part in text
    words = (ROOT / "configs/seeds/d52.yaml", *ON_8_H100, "--check", "--json")
    printed("tools.plan", *words)
    out, err = printed("tools.plan", *words, "--shard", "ddp", code=1)
    assert json.loads(out)["params"] == 7_347_372_032
    assert "does not fit" in err


def test_planning_imports_no_torch() -> None:
    program = "import sys, tools.plan.__main__; sys.exit('torch' in sys.modules)"
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
        "--gpus 3 train.shard=fsdp train.replicate=2": "2 does not divide 3 ranks; use one of [1, 3]",
        "--gpus 0": "the command line: gpus: 0: input should be greater than or equal to 1",
        "--ratio nan": "the command line: ratio: nan",
        "train.seconds=0": "give no end; set one of them, --tokens or --ratio",
        "--ratio inf": "no machine could do it",
        "--gpus 3 --nodes 2": "--gpus 3 do not divide over --nodes 2; use --gpus 2 or 4",
    }
    for words, message in cases.items():
        assert message in refusal(*words.split()), words


@pytest.mark.parametrize("gpu", ["rtx 4090", "h100"])
@pytest.mark.parametrize("config", ["golf_top", "seeds/albor350m", "seeds/rscalm700m", "seeds/d38", "seeds/d52"])
def test_every_change_that_is_advised_fits(config: str, gpu: str) -> None:
    for gpus in ("1", "8"):
        words = [config, "--gpu", gpu, "--gpus", gpus, *PLAIN]
        short = plan(*words)
        if short.fits:
            continue
        advice = re.fullmatch(r"(.*?)(?: on (\d+) devices)? would fit", short.change)
        assert advice, short.change
        changes = [] if advice[1] == "the same" else advice[1].split()
        assert plan(config, "--gpu", gpu, "--gpus", advice[2] or gpus, *PLAIN, *changes).fits


def test_a_model_that_fits_nowhere_is_refused_in_one_line() -> None:
    wide = ["model.dim=65536", "model.heads=512", "model.kv_heads=512"]
    _, err = printed("tools.plan", ROOT / "configs/seeds/d52.yaml", "--gpu", "l40s", "--check", *wide, code=1)
    assert "no number of these devices would hold it; take larger ones" in err
    assert err.count("\n") == 1


# -- train_gpt.py --dry-run -----------------------------------------------------------------------------------------


def test_a_dry_run_has_the_planners_verdict_on_the_named_device() -> None:
    config = ROOT / "configs/seeds/albor350m.yaml"
    out, _ = printed("train_gpt", config, "--dry-run", "--gpu", "rtx 4090", "--json")
    answer = json.loads(out)
    expected = plan("seeds/albor350m", "--gpu", "rtx 4090")
    keys = ("params", "params_by_kind", "flops_per_token", "tokens_per_step", "memory_bytes", "fits", "steps", "hours")
    assert {key: answer[key] for key in keys} == {key: getattr(expected, key) for key in keys}
    out, err = printed("train_gpt", config, "train.micro_tokens=0", "--dry-run", "--gpu", "rtx 4090", "--json", code=1)
    assert json.loads(out)["fits"] is False
    last = "train_gpt.py: does not fit 1 x rtx 4090: 873.7 GB of 24 GB per device; train.micro_tokens=8192 would fit"
    assert err.splitlines()[-1] == last
    assert "micro_tokens: 0" in err  # the resolved config
    assert "--gpu h101: not in gpus.yaml" in printed("train_gpt", config, "--dry-run", "--gpu", "h101", code=2)[1]


def test_the_gpu_that_is_here_is_the_one_planned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"NVIDIA H100 80GB HBM3": "h100", "NVIDIA GeForce RTX 4090": "rtx4090", "NVIDIA A100-SXM4-80GB": "a100"}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for name, expected in names.items():
        monkeypatch.setattr("torch.cuda.get_device_name", lambda name=name: name)
        assert present_gpu() == expected
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Tesla T4")
    with pytest.raises(BadInput, match="Tesla T4, which is here, is not in gpus.yaml; name a device that is: --gpu"):
        present_gpu()


# -- the command that starts it ---------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")


def test_the_page_shows_what_the_generator_writes_and_it_is_bash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    commands = re.findall(r"^    python -m (tools\.plan .*--launch \w+)$", PAGE, re.M)
    assert len(commands) == 3
    for line in commands:
        name, *words = shlex.split(line)
        out, _ = printed(name, *words)
        assert textwrap.indent(out, "    ") in PAGE
        assert subprocess.run(["bash", "-n"], input=out, text=True).returncode == 0


def test_a_launch_has_the_plans_devices_and_the_runs_words() -> None:
    words = ("seeds/d52", "train.steps=100", "--gpus", "32", "--nodes", "4", "--launch")
    for kind in ("torchrun", "slurm"):
        line = plan(*words, kind).launch.splitlines()[-1]
        assert {"--nnodes=4", "--nproc_per_node=8"} <= set(line.split())
        assert line.endswith("/seeds/d52.yaml train.steps=100")
        assert "--standalone" not in line
    script = plan(*words, "slurm").launch
    assert ("#SBATCH --nodes=4\n" in script, "#SBATCH --gpus-per-node=8\n" in script) == (True, True)
    one = plan("golf465", "--gpus", "8", "--tokens", "7864320", "--launch", "torchrun").launch
    assert one.startswith("torchrun --standalone --nproc_per_node=8 train_gpt.py ")
    assert one.endswith("golf465.yaml train.seconds=0 train.steps=10")
    with pytest.raises(CheckFailed, match="does not fit 1 x h100"):
        plan("seeds/d52", "--launch", "slurm")


@pytest.mark.parametrize("kind", ["torchrun", "slurm"])
def test_a_launch_is_bash_whatever_the_config_is_called(tmp_path: Path, kind: str) -> None:
    config = tmp_path / 'it\'s "my" $(run).yaml'
    config.write_text("model:\n  layers: 2\n")
    words = ["--gpus", "4", "--nodes", "2", "--mfu", "0.3", "--launch", kind]
    script, _ = printed("tools.plan", config, *words)
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert f"--mfu 0.3 --launch {kind}\n" in script
    assert ("#SBATCH --job-name=it-s-my-run-\n" if kind == "slurm" else '--rdzv_id="it-s-my-run-"') in script
    assert shlex.split(script.splitlines()[-1])[-1] == str(config)
    broken = config.rename(tmp_path / "a\nb.yaml")
    assert "a script takes printable characters only" in printed("tools.plan", broken, *words, code=2)[1]
