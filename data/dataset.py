"""A dataset folder, opened: manifest, tokenizer, byte table and the two token streams, each checked on the way in.

    dataset = open_dataset("data/datasets/stdlib")
    dataset = open_dataset("data/datasets/fineweb10B_sp1024", val_only=True)       for a score

A file whose size or hash is not the manifest's is refused; so is a tokenizer that is not the one that made the shards.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from base.errors import BadInput
from base.files import file_sha256
from data.bare import describe_bare, find_tokenizer, is_bare
from data.bytes import ByteTable
from data.manifest import MANIFEST, TOKENIZER, Manifest, ShardEntry, SplitName, describe_tokenizer, read_manifest
from data.shards import BLOCK_TOKENS, Tokens, TokenStream, open_stream
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

    @cached_property
    def bytes_per_token(self) -> float:
        """Of the training side's beginning: enough for a line of progress."""
        tokens = self.train.read(0, min(len(self.train), BLOCK_TOKENS))
        return self.table.totals(tokens, self.mark)[0] / len(tokens)

    @property
    def mark(self) -> int:
        """The token before each document: BOS."""
        return self.tokenizer.bos_id

    def side(self, split: SplitName) -> TokenStream:
        return self.train if split == "train" else self.val

    def documents(self, split: SplitName) -> Iterator[Tokens]:
        """Each document's tokens, without its BOS."""
        return self.side(split).documents(self.mark)


def open_dataset(path: str | Path, val_only: bool = False, checked: Manifest | None = None) -> Dataset:
    """`checked`: the manifest as another process of this run has checked it, so that nothing is hashed twice."""
    folder = Path(path)
    manifest = checked or describe_dataset(folder, val_only)
    is_described = (folder / MANIFEST).is_file()
    tokenizer_path = folder / TOKENIZER if is_described else find_tokenizer(folder)
    tokenizer = read_tokenizer(tokenizer_path)
    if describe_tokenizer(tokenizer) != manifest.tokenizer:
        raise BadInput(f"{tokenizer_path}: is another tokenizer than the manifest's")
    if is_described and not checked:  # what was described just now was hashed then
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
            list(pool.map(partial(_check_shard, folder), manifest.shards))
    return assemble(folder, manifest, tokenizer)


def describe_dataset(folder: Path, val_only: bool = False) -> Manifest:
    """As the folder claims to be, or what bare shards are found to hold."""
    if is_bare(folder):
        return describe_bare(folder, read_tokenizer(find_tokenizer(folder)), 0 if val_only else None)
    manifest = read_manifest(folder)
    return manifest.without_training() if val_only else manifest


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
