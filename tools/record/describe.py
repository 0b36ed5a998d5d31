"""Descriptions for a record: its folder's name, the technique in a line, the dataset and the command that makes it."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

from base.errors import BadInput
from data.job import Recipe
from data.manifest import Manifest
from run_config import RunConfig
from tools.record.schema import Data

STDLIB, HUB = "stdlib", "hf:"
LONGEST_NAME = 80


def folder_name(date: str, name: str) -> str:
    """DATE_NAME, with nothing in it that a shell or a file system could misread."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    if not plain or len(plain) > LONGEST_NAME:
        raise BadInput(f"--name {name!r:.100}: give it 1 to {LONGEST_NAME} letters and digits; it names the folder")
    return f"{date}_{plain}"


def technique(config: RunConfig) -> str:
    model = config.model
    parts = (
        (True, f"{model.layers} layers of {model.dim}, {model.heads}/{model.kv_heads} heads, {model.mlp}"),
        (model.attention is not None, f"attention in layers {', '.join(map(str, model.attending))}"),
        (model.value_tables, f"value tables in layers {', '.join(map(str, model.value_tables))}"),
        (model.key_offset, "keys of the position before"),
        (model.match, f"{model.match_count} longest matches of up to {model.match} tokens"),
        (True, f"vocabulary {model.vocab_size}"),
        (config.data.transform != "none", f"transform {config.data.transform}"),
        (model.canonical, "canonical tokens"),
        (model.smear != "off", f"smear {model.smear}"),
        (model.bigram_buckets, f"bigrams {model.bigram_buckets} x {model.bigram_dim}"),
        (model.skips != "off", f"skips {model.skips}"),
        (model.loop_repeats, f"layers {model.loop_first} to {model.loop_last} looped"),
        (True, f"{config.optim.matrix}, average {config.average.kind}"),
        (True, f"quantization {config.quant.method}, codec {config.quant.codec}"),
        (config.eval.adapt.kind != "off", f"learns from what is scored: {config.eval.adapt.kind}"),
    )
    return "; ".join(text for is_used, text in parts if is_used)


def describe_data(manifest: Manifest, path: str, python: str) -> Data:
    """`path`: where the run found the dataset. A local source is called by its name, without its place."""
    source = manifest.source if manifest.source.startswith(HUB) else Path(manifest.source).name
    return Data(
        name=dataset_name(manifest, python),
        source=source,
        prep=prep_command(manifest, source, f"data/datasets/{Path(path).name}"),
        val_documents=manifest.val.documents,
        shared_documents=manifest.shared_documents or 0,  # counted: by its maker or by tools.record
        sha256=manifest.data_sha256(),
        val_sha256=manifest.data_sha256("val"),
        tokenizer_sha256=manifest.tokenizer.sha256,
        val_text_sha256=manifest.val.documents_sha256 or "",
        python=python if manifest.source == STDLIB else "",
    )


def dataset_name(manifest: Manifest, python: str) -> str:
    """As tables spell it: stdlib-3.11.7, fineweb10B-sp1024, proposals-4096."""
    vocabulary = manifest.tokenizer.vocab_size
    if manifest.source == STDLIB:
        return f"{STDLIB}-{python}"
    if not manifest.request:
        return f"fineweb10B-sp{vocabulary}"
    repository = re.split("[:@]", manifest.source.removeprefix(HUB))[0]
    return f"{Path(repository).name.split('.')[0]}-{vocabulary}"


def prep_command(manifest: Manifest, source: str, out: str) -> str:
    """What makes the dataset again; flags only where they are not the defaults."""
    vocabulary = str(manifest.tokenizer.vocab_size)
    request = manifest.request
    if not request:  # data.contest describes an export that it did not make
        shards = sum(entry.split == "train" for entry in manifest.shards)
        return f"python -m data.contest --variant sp{vocabulary} --train-shards {shards}"
    tokenizer = ["--tokenizer", "tokenizer.model"] if request.get("tokenizer") else ["--vocab", vocabulary]
    words = ["python", "-m", "data.prep", source, *tokenizer]
    for field in fields(Recipe):
        value = request.get(field.name, field.default)
        if field.name == "vocab" or value == field.default:
            continue
        words.append("--" + field.name.replace("_", "-"))
        if value is not True:
            words.append(str(value))
    return shlex.join([*words, "--out", out])
