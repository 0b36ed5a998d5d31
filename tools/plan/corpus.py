"""How much text a run's dataset has: what is there, or what is known of the data that a name stands for."""

from pathlib import Path
from typing import NamedTuple

from base.errors import BadInput
from data.bare import is_bare, list_shards
from data.contest import SCORED_TOKENS
from data.manifest import MANIFEST, read_manifest
from data.shards import open_shard
from run_config import RunConfig

CONTEST_SHARDS, CONTEST_SHARD_TOKENS = 80, 100e6  # what the contest trains on
# Seed 004's: 250 million characters a shard, 4.8 per token; its run script keeps a ten-thousandth for validation.
SEED_SHARDS, SEED_SHARD_TOKENS, SEED_VAL = 1822, 250e6 / 4.8, 1e-4


class Corpus(NamedTuple):
    shards: int | None  # of the training side; None: unknown until the dataset is there
    shard_tokens: float
    val_tokens: int

    def epochs(self, tokens: int) -> float | None:
        return tokens / self.shard_tokens / self.shards if self.shards else None


def find_corpus(config: RunConfig) -> Corpus:
    folder = Path(config.data.path)
    if is_bare(folder):
        train, val = ([len(open_shard(path)) for path in list_shards(folder, side)] for side in ("train", "val"))
        return Corpus(len(train), sum(train) / max(len(train), 1), sum(val))
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        pieces = manifest.tokenizer.vocab_size
        vocab = config.model.vocab_size
        if pieces != vocab:
            raise BadInput(f"{folder}: its tokenizer has {pieces} pieces, not {vocab}; use model.vocab_size={pieces}")
        count = sum(entry.split == "train" for entry in manifest.shards)
        return Corpus(count, manifest.train.tokens / count, manifest.val.tokens)
    variant = folder.name.removeprefix("fineweb10B_").partition("_")[0]
    val_tokens = SCORED_TOKENS.get(variant, SCORED_TOKENS["sp1024"])
    if folder.name.startswith("fineweb10B_"):
        return Corpus(CONTEST_SHARDS, CONTEST_SHARD_TOKENS, val_tokens)
    if folder.name.startswith("fineweb_"):
        return Corpus(SEED_SHARDS, SEED_SHARD_TOKENS, round(SEED_VAL * SEED_SHARDS * SEED_SHARD_TOKENS))
    return Corpus(None, 0.0, val_tokens)
