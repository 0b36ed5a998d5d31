"""A dataset folder, opened: manifest, tokenizer, byte table and the two token streams, each checked on the way in.

    dataset = open_dataset("data/datasets/stdlib")

A file whose size or hash is not the manifest's is refused; so is a tokenizer that is not the one that made the shards.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from base.errors import BadInput
from base.files import file_sha256
from data.bytes import ByteTable
from data.manifest import TOKENIZER, Manifest, ShardEntry, SplitName, describe_tokenizer, read_manifest
from data.shards import Tokens, TokenStream, open_stream
from data.tokenizer import Tokenizer, read_tokenizer


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
        for name, models in (("vocab_size", vocab_size), ("bos_id", bos_id)):
            ours = getattr(self.tokenizer, name)
            if ours != models:
                raise BadInput(f"{self.path}: its tokenizer's {name} is {ours}; model.{name} is {models}")

    @property
    def bytes_per_token(self) -> float:
        """Of the training side."""
        return self.manifest.train.bytes / self.manifest.train.tokens

    @property
    def mark(self) -> int:
        """The token before each document: BOS."""
        return self.tokenizer.bos_id

    def side(self, split: SplitName) -> TokenStream:
        return self.train if split == "train" else self.val

    def documents(self, split: SplitName) -> Iterator[Tokens]:
        """Each document's tokens, without its BOS."""
        return self.side(split).documents(self.mark)


def open_dataset(path: str | Path) -> Dataset:
    folder = Path(path)
    manifest = read_manifest(folder)
    tokenizer = read_tokenizer(folder / TOKENIZER)
    if describe_tokenizer(tokenizer) != manifest.tokenizer:
        raise BadInput(f"{folder / TOKENIZER}: is another tokenizer than the manifest's")
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        list(pool.map(partial(_check_shard, folder), manifest.shards))
    return assemble(folder, manifest, tokenizer)


def assemble(folder: Path, manifest: Manifest, tokenizer: Tokenizer) -> Dataset:
    """The dataset that a manifest describes, where its hashes are known to be right."""
    train = open_stream(folder, manifest.shards, "train")
    val = open_stream(folder, manifest.shards, "val")
    for stream, entry in ((train, manifest.train), (val, manifest.val)):
        if len(stream) != entry.tokens:
            raise BadInput(f"{folder}: the shards hold {len(stream)} tokens; the manifest's total is {entry.tokens}")
    return Dataset(folder, manifest, tokenizer, ByteTable(tokenizer), train, val)


def _check_shard(folder: Path, entry: ShardEntry) -> None:
    path = folder / entry.file
    if not path.is_file():
        raise BadInput(f"{path}: the manifest names this shard, and it is missing")
    digest = file_sha256(path)
    if digest != entry.sha256:
        raise BadInput(f"{path}: sha256 {digest[:12]}… is not the manifest's {entry.sha256[:12]}…")
