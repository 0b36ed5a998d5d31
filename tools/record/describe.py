"""What a record says of itself beside its scores: the configuration against its preset, the data, the kinds. Pure."""

import re
import shlex
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from base.config import load, to_dict
from base.errors import BadInput
from data.build import Recipe
from data.manifest import Manifest
from model.cost import flops_per_token, parameters
from quant.format import Contents
from quant.report import kind_rows
from tools.record.runs import differences
from train_gpt import RunConfig

CONFIGS = Path(__file__).parents[2] / "configs"
DEFAULTS, STDLIB, HUB = "the defaults", "stdlib", "hf:"
LONGEST_NAME = 80


def folder_name(date: str, name: str) -> str:
    """DATE_NAME, with nothing in it that a shell or a file system could take amiss."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    if not plain or len(plain) > LONGEST_NAME:
        raise BadInput(f"--name {name!r:.100}: give it 1 to {LONGEST_NAME} letters and digits; it names the folder")
    return f"{date}_{plain}"


def neutral(config: RunConfig) -> RunConfig:
    """Without this machine's folders: where the data lies is the reader's to say."""
    path = Path(config.data.path)
    if not path.is_absolute():
        return config
    return replace(config, data=replace(config.data, path=f"data/datasets/{path.name}"))


def described(config: RunConfig, contents: Contents) -> dict[str, Any]:
    """Of one run and its artifact: the configuration, what it changes, its sizes, its kinds in bits and bytes."""
    parent, changes = nearest_preset(config)
    return {
        "config": to_dict(neutral(config)),
        "parent": parent,
        "changes": changes,
        "params_by_kind": {kind: count for kind, count in parameters(config.model).items() if count},
        "flops_per_token": flops_per_token(config.model, config.train.seq_len),
        "kinds": [asdict(row) for row in kind_rows(contents.tensors, contents.stream_bytes)],
    }


def nearest_preset(config: RunConfig, folder: Path = CONFIGS) -> tuple[str, dict[str, list[Any]]]:
    """The preset (or the defaults) that the fewest values differ from, and each such value: there and here."""
    known = {DEFAULTS: RunConfig()} | {f"configs/{p.name}": load(RunConfig, p) for p in sorted(folder.glob("*.yaml"))}
    parent, changed = min(
        ((name, differences(preset, config)) for name, preset in known.items()), key=lambda pair: len(pair[1])
    )
    return parent, {key: list(pair) for key, pair in changed.items()}


def technique(config: RunConfig) -> str:
    model, quant = config.model, config.quant
    parts = [
        f"{model.layers} layers of {model.dim}, {model.heads}/{model.kv_heads} heads, {model.mlp}",
        f"vocabulary {model.vocab_size}",
        *([f"smear {model.smear}"] if model.smear != "off" else []),
        *([f"bigrams {model.bigram_buckets} x {model.bigram_dim}"] if model.bigram_buckets else []),
        *([f"skips {model.skips}"] if model.skips != "off" else []),
        *([f"layers {model.loop_first} to {model.loop_last} looped"] if model.loop_repeats else []),
        f"{config.optim.matrix}, average {config.average.kind}",
        f"quantisation {quant.method}, codec {quant.codec}",
    ]
    return "; ".join(parts)


def public_source(manifest: Manifest) -> str:
    """A local file is called by its name: where it lay on one machine says nothing to a stranger."""
    return manifest.source if manifest.source.startswith(HUB) else Path(manifest.source).name


def dataset_name(manifest: Manifest, python: str) -> str:
    """How a table calls it: stdlib-3.11.7, fineweb10B-sp1024, proposals-4096."""
    vocabulary = manifest.tokenizer.vocab_size
    if manifest.source == STDLIB:
        return f"{STDLIB}-{python}"
    if from_contest(manifest):
        return f"fineweb10B-sp{vocabulary}"
    repository = manifest.source.removeprefix(HUB).partition(":")[0].partition("@")[0]
    return f"{Path(repository).name.split('.')[0]}-{vocabulary}"


def from_contest(manifest: Manifest) -> bool:
    """data.contest describes an export that it did not make: nothing was requested."""
    return not manifest.request


def prep_command(manifest: Manifest, out: str) -> str:
    """What makes the dataset again; flags only where they are not the defaults."""
    vocabulary, request = manifest.tokenizer.vocab_size, manifest.request
    if from_contest(manifest):
        shards = sum(entry.split == "train" for entry in manifest.shards)
        return f"python -m data.contest --variant sp{vocabulary} --train-shards {shards}"
    words = ["python", "-m", "data.prep", public_source(manifest)]
    if request.get("tokenizer"):
        words += ["--tokenizer", "tokenizer.model"]
    else:
        words += ["--vocab", str(vocabulary)]
    for field in fields(Recipe):
        value = request.get(field.name, field.default)
        if field.name != "vocab" and value != field.default and not (field.name == "ids" and request.get("tokenizer")):
            flag = "--" + field.name.replace("_", "-")
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join([*words, "--out", out])
