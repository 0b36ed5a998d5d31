"""A dataset folder, opened: manifest, tokenizer, byte table and the two token streams, each checked on the way in.

    dataset = open_dataset("data/datasets/stdlib")

A file whose size or hash is not the manifest's is refused; so is a tokenizer that is not the one that made the shards.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from base.errors import BadInput
from base.files import file_sha256
from data.bytes import ByteTable
from data.manifest import TOKENIZER, Manifest, ShardEntry, SplitName, describe_tokenizer, read_manifest
from data.shards import Tokens, TokenStream, open_shard
from data.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class Dataset:
    path: Path
    manifest: Manifest
    tokenizer: Tokenizer
    table: ByteTable
    train: TokenStream
    val: TokenStream

    def require(self, vocab_size: int, bos_id: int) -> None:
        """Refuse to serve a model of another vocabulary."""
        for name, mine, models in (
            ("vocab_size", self.manifest.tokenizer.vocab_size, vocab_size),
            ("bos_id", self.tokenizer.bos_id, bos_id),
        ):
            if mine != models:
                raise BadInput(f"{self.path}: its tokenizer's {name} is {mine}; model.{name} is {models}")

    @property
    def bytes_per_token(self) -> float:
        """Of the training side."""
        side = self.manifest.side("train")
        return side.bytes / side.tokens

    @property
    def mark(self) -> int:
        """The token between documents: each one's BOS, or the EOS that ends it in a layout without."""
        return self.tokenizer.bos_id if self.manifest.layout == "golf" else self.tokenizer.eos_id

    def documents(self, split: SplitName) -> Iterator[Tokens]:
        """Each document's tokens, without its mark."""
        stream = self.train if split == "train" else self.val
        return stream.documents(self.manifest.layout, self.tokenizer.bos_id, self.tokenizer.eos_id)


def open_dataset(path: str | Path) -> Dataset:
    folder = Path(path)
    manifest = read_manifest(folder)
    tokenizer = _matching_tokenizer(folder, manifest)
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter free, so threads share it out
        list(pool.map(lambda entry: _check_shard(folder, entry), manifest.shards))
    return assemble(folder, manifest, tokenizer)


def assemble(folder: Path, manifest: Manifest, tokenizer: Tokenizer) -> Dataset:
    """The dataset that a manifest describes, for whoever knows its hashes to be right."""
    train, val = (_stream(folder, manifest, split) for split in ("train", "val"))
    return Dataset(folder, manifest, tokenizer, ByteTable(tokenizer), train, val)


def _matching_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    path = folder / TOKENIZER
    if not path.is_file():
        raise BadInput(f"{path}: the dataset's tokenizer is missing")
    model, said = path.read_bytes(), asdict(manifest.tokenizer)
    found = hashlib.sha256(model).hexdigest()
    if found != said["sha256"]:
        raise BadInput(f"{path}: sha256 {found[:12]}… is not the manifest's {said['sha256'][:12]}…: another tokenizer")
    tokenizer = load_tokenizer(model, str(path))
    for name, value in asdict(describe_tokenizer(tokenizer)).items():
        if said[name] != value:
            raise BadInput(f"{path}: its {name} is {value}; the manifest says {said[name]}")
    return tokenizer


def _check_shard(folder: Path, entry: ShardEntry) -> None:
    path = folder / entry.file
    if not path.is_file():
        raise BadInput(f"{path}: the manifest names this shard, and it is missing")
    if (size := path.stat().st_size) != entry.size_bytes:
        raise BadInput(f"{path}: {size} bytes; the manifest says {entry.size_bytes}")
    if (found := file_sha256(path)) != entry.sha256:
        raise BadInput(f"{path}: sha256 {found[:12]}… is not the manifest's {entry.sha256[:12]}…")


def _stream(folder: Path, manifest: Manifest, split: SplitName) -> TokenStream:
    entries = [entry for entry in manifest.shards if entry.split == split]
    shards = [open_shard(folder / entry.file, manifest.layout) for entry in entries]
    for entry, shard in zip(entries, shards, strict=True):
        if len(shard) != entry.tokens:
            raise BadInput(f"{folder / entry.file}: {len(shard)} tokens; the manifest says {entry.tokens}")
    stream = TokenStream(shards)
    total = manifest.side(split).tokens
    if len(stream) != total:
        raise BadInput(f"{folder}: the {split} shards hold {len(stream)} tokens; the manifest's total is {total}")
    return stream
