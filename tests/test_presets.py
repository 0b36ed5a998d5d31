"""Every preset loads, and has the number of parameters that its source (or the audit of its source) gives."""

from pathlib import Path

from base.config import load
from model.cost import parameters
from train_gpt import RunConfig, dry_run

CONFIGS = Path(__file__).parents[1] / "configs"
PRESETS = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("seeds/*.yaml")])
SIZES = {
    "golf465": 24_730_705, "micro26m": 25_829_888, "rscalm138m": 137_841_408, "rscalm350m": 435_471_360,
    "rscalm700m": 879_904_000, "albor50m": 62_403_072, "albor125m": 188_769_024, "albor350m": 398_509_056,
    "d38": 3_015_835_648, "d50": 6_563_430_400, "d52": 7_347_372_032,
}  # fmt: skip


def test_every_preset_loads_and_plans_and_has_its_size() -> None:
    sizes = {}
    for path in PRESETS:
        config = load(RunConfig, path)
        sizes[path.stem] = dry_run(config)["params"]
        assert sizes[path.stem] == sum(parameters(config.model).values())
    assert {name: sizes[name] for name in SIZES} == SIZES
