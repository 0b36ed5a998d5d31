"""The sweep file: what it means, and what is refused before anything trains."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from base.config import build, to_dict
from base.errors import BadInput
from tools.sweep.spec import _layer, as_stored, differences, read_sweep
from train_gpt import RunConfig

ROOT = Path(__file__).parents[2]
GOOD: dict[str, Any] = {
    "base": str(ROOT / "configs" / "micro26m.yaml"),
    "common": {"model.dim": 64, "model.hidden": 176, "train.steps": 10},
    "seeds": [1, 2],
    "variants": {"rope": {}, "nope": {"model.pos": "none"}},
}


def sheet(folder: Path, **changed: Any) -> Path:
    path = folder / "try.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changed}, sort_keys=False))
    return path


def test_each_variant_is_the_base_with_what_is_common_and_what_is_its_own(tmp_path: Path) -> None:
    sweep = read_sweep(sheet(tmp_path))
    assert sweep.study == "try"
    assert sweep.keys == [("rope", 1), ("nope", 1), ("rope", 2), ("nope", 2)]
    assert [config.model.dim for config in sweep.configs.values()] == [64, 64]
    assert differences(*map(as_stored, sweep.configs.values())) == ["model.pos"]
    assert sweep.params("rope") == sum(
        tensor for tensor in (6400 * 64, 8 * (2 * 64 * 64 + 2 * 64 * 16), 8 * 3 * 64 * 176, 17 * 64)
    )


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"variants": {"rope": {}, "nope": {"model.poss": "none"}}}, "nope: unknown key model.poss; nearest: model.p"),
        ({"common": {"modell.dim": 64}}, "common: unknown key modell; nearest: model"),
        ({"sedes": [1]}, "unknown key sedes; nearest: seeds"),
        ({"variants": {"a": {}, "b": {"model.pos": "rope"}}}, "variants a and b are the same config; take one out"),
        ({"variants": {"a": {"model.kv_heads": 3}}}, "a: model: heads 8 is not divisible by kv_heads 3; use 2 or 4"),
        ({"variants": {"a": {"train.batch_tokens": 1000}}}, "variant a: train.batch_tokens 1000 is not a multiple"),
        ({"variants": {"a": {"eval.stride": 600}}}, "variant a: eval.stride 600 is beyond the context of 512"),
        ({"variants": {"a": {"train.steps": 0}}}, "variant a: a trial needs train.seconds or train.steps"),
        ({"variants": {"a": {"seed": 3}}}, "variant a: seed is given by the file's seeds"),
        ({"variants": {"a": {"model": 3}}}, "variant a: model is a section"),
        ({"variants": {"a": {"model.dim.x": 64, "model.dim": 32}}}, "model.dim is given twice"),
        ({"variants": {"a/b": {}}}, "'a/b' becomes part of a path"),
        ({"variants": {}}, "variants: {}"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "one stands there twice"),
        ({"seeds": [-1]}, "seeds.0: -1"),
        ({"groups": {"pos": ["rope", "alibi"]}}, "no variant is called alibi; there are rope, nope"),
        ({"claims": [{"says": "x", "source": "y", "better": "rope", "worse": "alibi"}]}, "no variant is called alibi"),
        ({"claims": [{"says": "x", "source": "y", "better": "rope"}]}, "claims.0.worse is missing"),
        ({"base": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused_with_the_way_out(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_sweep(sheet(tmp_path, **changed))
    assert says in str(refused.value)


def test_a_variant_that_stands_twice_in_the_file_is_refused(tmp_path: Path) -> None:
    path = sheet(tmp_path)
    path.write_text(path.read_text() + "variants: {rope: {}}\n")
    with pytest.raises(BadInput, match="key 'variants' is given twice"):
        read_sweep(path)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_ready_made_sweep_is_one_and_its_variants_differ_where_they_say(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(path)
    base = next(iter(sweep.configs))
    assert sweep.sheet.variants[base] == {}
    for variant, config in sweep.configs.items():
        assert set(differences(as_stored(sweep.configs[base]), as_stored(config))) == set(sweep.sheet.variants[variant])
    grouped = {name for names in sweep.sheet.groups.values() for name in names}
    compared = {name for claim in sweep.sheet.claims for name in (claim.better, claim.worse)}
    assert not sweep.sheet.groups or grouped | compared == set(sweep.configs)


LEAVES = {
    f"{section}.{key}": value
    for section, values in to_dict(RunConfig()).items()
    if isinstance(values, dict)
    for key, value in values.items()
}


@given(some.sets(some.sampled_from(sorted(LEAVES))))
def test_dotted_keys_say_what_sections_say(keys: set[str]) -> None:
    layer = _layer("here", {key: LEAVES[key] for key in sorted(keys)})
    assert build(RunConfig, [layer]) == RunConfig()
    assert sorted(differences(layer.values, {})) == sorted({key.split(".")[0] for key in keys})
    emptied = {section: {} for section in layer.values}
    assert set(differences(layer.values, emptied)) == {key for key in keys if LEAVES[key] is not None}
