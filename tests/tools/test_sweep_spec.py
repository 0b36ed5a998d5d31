"""The sweep file: what it means, and what is refused before anything trains."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from base.config import load, to_dict
from base.errors import BadInput
from run_config import RunConfig
from tests.runs import ROOT
from tools.record.runs import differing_keys
from tools.sweep.spec import read_sweep

GOOD: dict[str, Any] = {
    "base": str(ROOT / "configs/seeds/micro26m.yaml"),
    "common": {"model.dim": 64, "model.hidden": 176, "train.steps": 10},
    "seeds": [1, 2],
    "variants": {"rope": {}, "nope": {"model.pos": "none"}},
}


def sheet(folder: Path, **changed: Any) -> Path:
    path = folder / "try.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changed}, sort_keys=False))
    return path


def differing(one: RunConfig, other: RunConfig) -> set[str]:
    return set(differing_keys(to_dict(one), to_dict(other)))


def test_a_variant_is_the_base_with_the_common_values_and_its_own(tmp_path: Path) -> None:
    sweep = read_sweep(sheet(tmp_path))
    assert sweep.name == "try"
    assert [key[:2] for key in sweep.keys] == [("rope", 1), ("nope", 1), ("rope", 2), ("nope", 2)]
    assert [config.model.dim for config in sweep.configs.values()] == [64, 64]
    assert differing(*sweep.configs.values()) == {"model.pos"}
    assert sweep.params("rope") == 6400 * 64 + 8 * (2 * 64 * 64 + 2 * 64 * 16) + 8 * 3 * 64 * 176 + 17 * 64
    assert load(RunConfig, sweep.sheet.base, sweep.sheet.overrides("nope")) == sweep.configs["nope"]


def test_pairs_run_next_to_each_other_in_the_order_abba_baab(tmp_path: Path) -> None:
    sweep = read_sweep(sheet(tmp_path, seeds=[5, 6, 7, 8], pairs={"effect": 0.002}))
    order = [("rope", 5), ("nope", 5), ("nope", 6), ("rope", 6), ("nope", 7), ("rope", 7), ("rope", 8), ("nope", 8)]
    assert [key[:2] for key in sweep.keys] == order
    fixed = {"first": "rope", "seeds": [5, 6, 7, 8], "effect": 0.002, "alpha": 0.05}
    assert sweep.sheet.preregistration() == fixed


def test_a_wrong_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    claim = {"says": "x", "source": "y", "better": "rope", "worse": "alibi"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"variants": {"nope": {"model.poss": "none"}}}, "nope: 'model.poss=\"none\"': unknown key model.pos"),
        ({"sedes": [1]}, "unknown key sedes; nearest: seeds"),
        ({"variants": {"a": {}, "b": {"model.pos": "rope"}}}, "variant b has the same config as one before it"),
        ({"variants": {"a": {"model.kv_heads": 3}}}, "model: heads 8 is not divisible by kv_heads 3; use 2 or 4"),
        ({"variants": {"a": {"train.batch_tokens": 1000}}}, "variant a: train.batch_tokens 1000 is not a multiple"),
        ({"variants": {"a": {"eval.stride": 600}}}, "variant a: eval.stride 600 is beyond the context of 512"),
        ({"variants": {"a": {"train.steps": 0}}}, "variant a: a trial needs train.seconds or train.steps"),
        ({"variants": {"a": {"quant.method": "none"}}}, "variant a: quant.method none leaves no val_bpb"),
        ({"variants": {"a": {"seed": 3}}}, "variant a: seed comes from the file's seeds"),
        ({"variants": {"a/b": {}}}, "'a/b' becomes part of a path"),
        ({"variants": {}}, "variants: {}"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "one appears twice"),
        ({"claims": [claim]}, "no variant is called alibi; there are rope, nope"),
        ({"claims": [{"says": "x", "source": "y", "better": "rope"}]}, "claims.0.worse is missing"),
        ({"pairs": {}}, "pairs.effect is missing"),
        ({"common": {"train.stop_if": [1.5, 4]}}, "train.stop_if.0: 1.5"),
        ({"base": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
    ]
    for changed, message in cases:
        with pytest.raises(BadInput) as refused:
            read_sweep(sheet(tmp_path, **changed))
        assert message in str(refused.value)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_ready_made_sweep_varies_what_it_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(path)
    base = next(iter(sweep.configs.values()))
    for variant, config in sweep.configs.items():
        assert differing(base, config) == set(sweep.sheet.variants[variant])
