"""Every preset loads, has the number of parameters that its source (or the audit of its source) gives, and fits on the
devices that its source has.

The ladder's also have their FLOPs, and learn and are packed when they are made small.
"""

from pathlib import Path

import pytest

from base.config import load
from model.cost import flops_per_token, parameters
from tests.runs import CPU, losses
from tools.plan.fit import find_gpu, layouts
from train_gpt import RunConfig, train_pack_score

CONFIGS = Path(__file__).parents[1] / "configs"
PRESETS = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("seeds/*.yaml")])
SIZES = {
    "golf465": 24_730_705, "micro26m": 25_829_888, "rscalm138m": 137_841_408, "rscalm350m": 435_471_360,
    "rscalm700m": 879_904_000, "albor50m": 62_403_072, "albor125m": 188_769_024, "albor350m": 398_509_056,
    "d38": 3_015_835_648, "d50": 6_563_430_400, "d52": 7_347_372_032,
}  # fmt: skip
# Parameters; FLOPs per token: 6 for each weight, as often as it multiplies, and 12 x layers x 512 x tokens.
MATRICES = 786_432 + 2_097_152  # of a layer with an MLP of 2,048
LADDER = {
    # of the record's 27,038,812 without its value embedding: table, projection, three scales
    "golf_sp1024": (27_038_812 - 1024 * 128 - 128 * 256 - 3, 6 * (26_874_969 - 2816 * 112) + 12 * 11 * 512 * 2048),
    "golf_sp8192": (35_944_536, 6 * (35_944_536 + 6 * MATRICES) + 12 * 17 * 512 * 2048),
    "golf_top": (35_945_671, 6 * (35_945_671 + 6 * (MATRICES + 8 * 12)) + 12 * 17 * 512 * 2048),
    # 11 gates of 8 x 12 and the smear's 13 more than golf_sp8192, and three skips fewer without the loops
    "golf_h200": (35_944_536 + 11 * 96 + 13 - 3 * 2 * 512, 6 * 35_942_533 + 12 * 11 * 512 * 1024),
}
SMALL = [
    "model.vocab_size=400", "model.dim=64", "model.heads=2", "model.kv_heads=1", "model.hidden=64",
    "model.rope_dims=16", "train.seq_len=32", "train.batch_tokens=256", "train.micro_tokens=0", "train.seconds=0",
    "train.steps=8", "train.compile=off", "train.reserve_s=0", "eval.context=32", "eval.stride=32", "eval.during=0",
    "quant.method=absmax", "quant.codec=zstd", "data.path=data",
]  # fmt: skip


def test_every_preset_loads_and_plans_and_has_its_size() -> None:
    sizes = {path.stem: sum(parameters(load(RunConfig, path).model).values()) for path in PRESETS}
    assert {name: sizes[name] for name in SIZES} == SIZES


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_fits_on_its_card_if_the_plan_is_a_quarter_too_low(path: Path) -> None:
    is_small = path.stem.startswith(("albor", "rscalm", "micro", "cpu10", "demo"))
    card, count = ("rtx 4090", 1) if is_small else ("h200", 1) if path.stem == "golf_h200" else ("h100", 8)
    gpu = find_gpu(card)
    assert layouts(load(RunConfig, path), count, gpu)[0].memory_bytes * 1.25 <= gpu.memory_gb * 1e9


def test_the_ladder_has_its_sources_parameters_and_flops() -> None:
    for name, expected in LADDER.items():
        config = load(RunConfig, CONFIGS / f"{name}.yaml")
        params = sum(parameters(config.model).values())
        assert (params, flops_per_token(config.model, config.train.seq_len)) == expected, name


def test_every_rung_of_the_ladder_learns_and_is_packed(work: Path) -> None:
    for name in LADDER:
        answer = train_pack_score(load(RunConfig, CONFIGS / f"{name}.yaml", SMALL), name, CPU)
        found = losses(answer.run)
        assert found[-1] < found[0] - 1, (name, found)
        assert answer.val_bpb < answer.float_bpb + 0.1, name
