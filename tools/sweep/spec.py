"""The sweep file (docs/sweeps.md): variants of one base config, seeds, and the claims that they test.

It is checked before any training. A trial is a command line: train_gpt.py, the base, and `section.key=value` words.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge, Gt, Lt, MinLen

from base.config import build, load, read_layers, to_yaml
from base.errors import BadInput
from engine.config import micro_rows
from model.cost import parameters
from run_config import RunConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # of a study or variant: it becomes part of paths


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The mean of `better` is below that of `worse` by more than `by_bpb` (negative: above it by less than that)."""

    says: str
    source: str
    better: str
    worse: str
    by_bpb: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """How the gain of each variant over the first, seed by seed, is judged; fixed, seeds included, before any trial."""

    effect: Annotated[float, Gt(0)]  # the smallest gain worth having, bits per byte
    alpha: Annotated[float, Gt(0), Lt(1)] = 0.05


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The file as it is written."""

    base: str
    common: dict[str, Any] = field(default_factory=dict)
    seeds: Annotated[tuple[Annotated[int, Ge(0), Lt(1 << 63)], ...], MinLen(1)]
    variants: Annotated[dict[str, dict[str, Any]], MinLen(1)]
    claims: tuple[Claim, ...] = ()
    pairs: Pairs | None = None

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: one appears twice, and would count twice")
        for claim in self.claims:
            for name in (claim.better, claim.worse):
                if name not in self.variants:
                    known = ", ".join(self.variants)
                    raise ValueError(f"claim '{claim.says}': no variant is called {name}; there are {known}")

    def preregistration(self) -> dict[str, Any] | None:
        """What a study of pairs keeps from before its first trial."""
        fixed = {"first": next(iter(self.variants)), "seeds": list(self.seeds)}
        return {**fixed, **asdict(self.pairs)} if self.pairs else None

    def overrides(self, variant: str) -> list[str]:
        """`section.key=value` for train_gpt.py, all but the seed; JSON is YAML."""
        return [f"{key}={json.dumps(value)}" for key, value in {**self.common, **self.variants[variant]}.items()]


class Key(NamedTuple):
    """What a trial runs. Its config's hash is part of it: a variant that changes is trained again."""

    variant: str
    seed: int
    config_sha256: str

    @property
    def name(self) -> str:
        """Of the trial's folder."""
        return f"{self.variant}-s{self.seed}-{self.config_sha256[:8]}"


class Sweep(NamedTuple):
    name: str
    sheet: Sheet
    configs: dict[str, RunConfig]  # by variant; each trial's seed replaces the config's own
    keys: list[Key]  # seed by seed, so that a sweep cut short has results for every variant

    def params(self, variant: str) -> int:
        return sum(parameters(self.configs[variant].model).values())


def read_sweep(path: Path) -> Sweep:
    """The checked sweep, or the first thing that is wrong with it."""
    sheet = build(Sheet, read_layers(path))
    for name in (path.stem, *sheet.variants):
        if not NAME.fullmatch(name):
            raise BadInput(f"{path}: '{name}' becomes part of a path; use up to 100 letters, digits, '_', '.' and '-'")
    configs: dict[str, RunConfig] = {}
    hashes: dict[str, str] = {}
    for name in sheet.variants:
        configs[name] = load_variant(path, sheet, name)
        digest = hashlib.sha256(to_yaml(configs[name]).encode()).hexdigest()
        if digest in hashes.values():
            raise BadInput(f"{path}: variant {name} has the same config as one before it; remove one")
        hashes[name] = digest
    rows = [[Key(variant, seed, digest) for variant, digest in hashes.items()] for seed in sheet.seeds]
    if sheet.pairs:  # ABBA, then BAAB: a machine that warms up or slows down favours no variant
        rows = [row[::-1] if number.bit_count() % 2 else row for number, row in enumerate(rows)]
    return Sweep(path.stem, sheet, configs, list(chain(*rows)))


def load_variant(path: Path, sheet: Sheet, variant: str) -> RunConfig:
    try:
        config = load(RunConfig, sheet.base, sheet.overrides(variant))
        micro_rows(config.train, 1)
        config.eval.window(config.train.seq_len)
    except BadInput as wrong:
        raise BadInput(f"{path}: variant {variant}: {wrong}") from None
    if "seed" in {*sheet.common, *sheet.variants[variant]}:
        raise BadInput(f"{path}: variant {variant}: seed comes from the file's seeds")
    if config.quant.method == "none":
        raise BadInput(f"{path}: variant {variant}: quant.method none leaves no val_bpb; use a method that packs")
    if not (config.train.seconds or config.train.steps):
        raise BadInput(f"{path}: variant {variant}: a trial needs train.seconds or train.steps to end")
    return config
