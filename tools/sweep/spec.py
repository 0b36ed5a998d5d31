"""The sweep file: variants of one base config, seeds, and the claims that they test; checked whole before any training.

    base: configs/micro26m.yaml          # from the working directory, as data.path is
    common: {model.dim: 64, train.seconds: 0, train.steps: 200}
    seeds: [1, 2, 3]
    variants:                            # the first is the one that the others are compared with
      rope: {}
      nope: {model.pos: none}
    groups: {positions: [rope, nope]}    # optional: a panel of loss curves each
    claims:                              # optional
      - {says: RoPE converges lower, source: seed 002, better: rope, worse: nope}

A claim says that the mean of `better` is below that of `worse` by more than `by_bpb` (0 where left out; negative: that
it is worse by less than so much). It names variants; whether it holds is for tools.sweep.table to say. No Optuna.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge, Lt, MinLen

from base.config import Layer, build, read_layers, settled, to_dict
from base.errors import BadInput
from engine.config import micro_rows
from model.cost import parameters
from model.gpt import GPT
from quant.packer import Packer
from run_config import RunConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # of a study or variant: it becomes a part of paths


@dataclass(frozen=True, kw_only=True)
class Claim:
    says: str
    source: str
    better: str
    worse: str
    by_bpb: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The file as it is written."""

    base: str
    common: dict[str, Any] = field(default_factory=dict)
    seeds: Annotated[tuple[Annotated[int, Ge(0), Lt(1 << 63)], ...], MinLen(1)]
    variants: Annotated[dict[str, dict[str, Any]], MinLen(1)]
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()


class Sweep(NamedTuple):
    """The file as it is meant: each variant's whole config (each trial's seed replaces its own)."""

    study: str
    sheet: Sheet
    configs: dict[str, RunConfig]

    @property
    def keys(self) -> list[tuple[str, int]]:
        """What is to be run: seed by seed, so that a sweep cut short has a bit of everything."""
        return [(variant, seed) for seed in self.sheet.seeds for variant in self.configs]

    def params(self, variant: str) -> int:
        return sum(parameters(self.configs[variant].model).values())


def read_sweep(path: Path) -> Sweep:
    """The checked sweep, or the first thing that is wrong with it."""
    sheet = build(Sheet, read_layers(path))
    for name in (path.stem, *sheet.variants):
        if not NAME.fullmatch(name):
            raise BadInput(f"{path}: '{name}' becomes part of a path; use up to 100 letters, digits, '_', '.' and '-'")
    if len(set(sheet.seeds)) < len(sheet.seeds):
        raise BadInput(f"{path}: seeds {list(sheet.seeds)}: one stands there twice, and would count twice")
    named = [(f"groups: {group}", name) for group, names in sheet.groups.items() for name in names]
    named += [(f"claims: {claim.says}", name) for claim in sheet.claims for name in (claim.better, claim.worse)]
    for where, name in named:
        if name not in sheet.variants:
            raise BadInput(f"{path}: {where}: no variant is called {name}; there are {', '.join(sheet.variants)}")
    base = [*read_layers(Path(sheet.base)), _layer(f"{path}: common", sheet.common)]
    configs = {name: _config(f"{path}: variant {name}", base, values) for name, values in sheet.variants.items()}
    spelled: dict[str, str] = {}
    for name, config in configs.items():
        twin = spelled.setdefault(repr(config), name)
        if twin != name:
            raise BadInput(f"{path}: variants {twin} and {name} are the same config; take one out")
    return Sweep(path.stem, sheet, configs)


def _config(where: str, base: list[Layer], values: Mapping[str, Any]) -> RunConfig:
    config = settled(RunConfig, [*([layer] for layer in base), [_layer(where, values)]])
    try:
        micro_rows(config.train, 1)
        config.eval.window(config.train.seq_len)
        with torch.device("meta"):
            Packer.require(GPT(config.model), config.quant, 0)
    except BadInput as wrong:
        raise BadInput(f"{where}: {wrong}") from None
    if not (config.train.seconds or config.train.steps):
        raise BadInput(f"{where}: a trial needs train.seconds or train.steps to end by")
    return config


def _layer(source: str, values: Mapping[str, Any]) -> Layer:
    """`model.dim: 64` as the sections that a config has."""
    nested: dict[str, Any] = {}
    for dotted, value in values.items():
        *sections, key = dotted.split(".")
        if [*sections, key] == ["seed"]:
            raise BadInput(f"{source}: seed is given by the file's seeds")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise BadInput(f"{source}: {dotted} is given twice, as a value and as a section")
        if key in inner:
            raise BadInput(f"{source}: {dotted} is given twice, as a value and as a section")
        inner[key] = value
    return Layer(source, nested)


def differences(one: Mapping[str, Any], other: Mapping[str, Any], at: str = "") -> list[str]:
    """The dotted keys in which two configs (as `to_dict` has them) differ."""
    found: list[str] = []
    for key in {**one, **other}:
        mine, yours = one.get(key), other.get(key)
        if isinstance(mine, dict) and isinstance(yours, dict):
            found += differences(mine, yours, f"{at}{key}.")
        elif mine != yours:
            found.append(f"{at}{key}")
    return found


def as_stored(config: RunConfig) -> dict[str, Any]:
    """What a study remembers of a variant: everything but the seed."""
    return {key: value for key, value in to_dict(config).items() if key != "seed"}
