"""The contest's published shards as they lie, without a manifest.json: described in memory, and nothing is written.

    data/datasets/fineweb10B_sp1024/fineweb_val_000000.bin, fineweb_train_000000.bin, fineweb_train_000001.bin …
    data/tokenizers/fineweb_1024_bpe.model        (or in the folder itself, by that name or as tokenizer.model)

All files are hashed and all tokens are compared with the vocabulary, at a gigabyte a second for each core; the hashes
are those of data.contest's manifest. Bytes are counted on the validation side alone. Whether a document is on both
sides is not looked for: that takes minutes, and data.contest and tools.record do it.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from base.errors import BadInput
from data.bytes import ByteTable
from data.manifest import MANIFEST, TOKENIZER, Manifest, ShardEntry, SplitName, describe_tokenizer, uncounted
from data.shards import describe_shard, open_shard, open_stream
from data.tokenizer import Tokenizer

NUMBER = "[0-9]" * 6


def is_bare(folder: Path) -> bool:
    return not (folder / MANIFEST).is_file() and any(folder.glob(f"fineweb_*_{NUMBER}.bin"))


def tokenizer_file(variant: str) -> str:
    return "fineweb_pure_byte_260.json" if variant == "byte260" else f"fineweb_{variant.removeprefix('sp')}_bpe.model"


def find_tokenizer(folder: Path) -> Path:
    place = Path(os.path.abspath(folder))  # links stay: the tokenizers are beside the name that was given
    variant = place.name.rpartition("_")[2]
    name = tokenizer_file(variant)
    places = [place / name, place / TOKENIZER, place.parent.parent / "tokenizers" / name]
    for path in places:
        if path.is_file():
            return path
    looked = ", ".join(map(str, places))
    raise BadInput(f"{folder}: no tokenizer ({looked}); put it there: python -m data.contest --variant {variant}")


def list_shards(folder: Path, split: SplitName) -> list[Path]:
    """One side's shards by number, from 0 without a gap; byte sidecars and other neighbours are not shards."""
    paths = sorted(path for path in folder.glob(f"fineweb_{split}_{NUMBER}.bin") if path.is_file())
    for number, path in enumerate(paths):
        expected = f"fineweb_{split}_{number:06d}.bin"
        if path.name != expected:
            raise BadInput(f"{folder}: has {path.name} where {expected} should come first")
    return paths


def _describe_all(paths: list[Path], split: SplitName, tokenizer: Tokenizer) -> list[ShardEntry]:
    with ThreadPoolExecutor() as pool:  # hashing and comparing release the interpreter's lock
        return list(pool.map(partial(_describe, split=split, vocab_size=tokenizer.vocab_size), paths))


def _describe(path: Path, split: SplitName, vocab_size: int) -> ShardEntry:
    largest = int(open_shard(path).max(initial=0))
    if largest >= vocab_size:
        made = f"the tokenizer has {vocab_size} pieces: the shards were made with another"
        raise BadInput(f"{path}: has token {largest}, and {made}")
    return describe_shard(path, split)


def describe_bare(folder: Path, tokenizer: Tokenizer, train_shards: int | None = None) -> Manifest:
    """With the first so many training shards; None: with all."""
    val = _describe_all(list_shards(folder, "val"), "val", tokenizer)
    if not sum(shard.tokens for shard in val):
        raise BadInput(f"{folder}: no token in a fineweb_val_000000.bin, so nothing to score: python -m data.contest")
    train = _describe_all(list_shards(folder, "train")[:train_shards], "train", tokenizer)
    return Manifest(
        source="local files",
        split="the export's own; whether a document is on both sides was not looked for",
        shared_documents=None,
        tokenizer=describe_tokenizer(tokenizer),
        shards=(*val, *train),
        train=uncounted(train),
        val=open_stream(folder, val, "val").totals(ByteTable(tokenizer), tokenizer.bos_id),
    )
