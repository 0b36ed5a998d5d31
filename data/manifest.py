"""What a dataset folder claims about itself: `manifest.json`, read strictly, and the hash that names the data.

It is written last, after everything that it names. Only the contest's bare shards are a dataset without it; for them it
is made in memory (data/bare.py).
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from base.config import Layer, build, to_dict
from base.errors import BadInput
from base.files import is_inside, read_json_object, write_json
from data.caseops import TransformName
from data.tokenizer import Tokenizer

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.model"
FORMAT: Final = "bitgolf-dataset-1"

SplitName = Literal["train", "val"]


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    file: str
    split: SplitName
    tokens: int
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not is_inside(self.file):
            raise ValueError(f"shard name '{self.file}' is not a name inside the dataset's folder")


@dataclass(frozen=True, kw_only=True)
class SplitEntry:
    """Totals over one side. `bytes` is the denominator: what the tokens decode to, under the exact convention."""

    documents: int  # 0, as the bytes: not counted, of a training side of bare shards (data/bare.py)
    tokens: int  # BOS included
    bytes: int
    contest_bytes: int
    raw_bytes: int | None = None  # of the source text; not `bytes` only under a tokenizer that normalises
    documents_sha256: str | None = None  # over the documents' hashes, in order


@dataclass(frozen=True, kw_only=True)
class TokenizerEntry:
    sha256: str
    vocab_size: int
    pad_id: int
    bos_id: int
    eos_id: int
    unk_id: int
    lossless: bool
    transform: TransformName = "none"  # of a text before it is encoded


@dataclass(frozen=True, kw_only=True)
class Manifest:
    format: Literal["bitgolf-dataset-1"] = FORMAT
    source: str
    split: str  # the rule, in words
    request: dict[str, Any] = field(default_factory=dict)  # recipe and corpus; equal requests make equal datasets
    corpus_sha256: str | None = None  # over all documents' hashes, in order
    skipped_documents: int = 0  # not readable, with --skip-bad
    dropped_documents: int = 0  # training copies of validation documents
    repeated_documents: int = 0  # copies inside one side, kept
    shared_documents: int | None = 0  # on both sides of a published export, accepted knowingly; None: not looked for
    tokenizer: TokenizerEntry
    train: SplitEntry
    val: SplitEntry
    shards: tuple[ShardEntry, ...]

    def side(self, split: SplitName) -> SplitEntry:
        return self.train if split == "train" else self.val

    def without_training(self) -> "Manifest":
        shards = tuple(shard for shard in self.shards if shard.split == "val")
        return replace(self, shards=shards, train=uncounted(()))

    def files(self) -> list[str]:
        """What the folder holds beside the manifest."""
        return [TOKENIZER, *(shard.file for shard in self.shards)]

    def totals(self) -> dict[str, Any]:
        """Under the keys that the commands answer with."""
        return {
            "train_docs": self.train.documents,
            "val_docs": self.val.documents,
            "train_tokens": self.train.tokens,
            "val_tokens": self.val.tokens,
            "train_bytes": self.train.bytes,
            "val_bytes": self.val.bytes,
            "vocab_size": self.tokenizer.vocab_size,
            "data_sha256": self.data_sha256(),
        }

    def data_sha256(self, split: SplitName | None = None) -> str:
        """The hash that a run or a score names: tokenizer and shards, of one side or of both."""
        named = [[shard.split, shard.sha256] for shard in self.shards if split in (None, shard.split)]
        return hashlib.sha256(json.dumps(["golf", self.tokenizer.sha256, named]).encode()).hexdigest()

    def hashes(self) -> dict[str, Any]:
        """Under the keys that the answers of runs and records have."""
        return {
            "data_sha256": self.data_sha256(),
            "val_sha256": self.data_sha256("val"),
            "tokenizer_sha256": self.tokenizer.sha256,
        }


def uncounted(shards: Iterable[ShardEntry]) -> SplitEntry:
    """Of a side whose documents and bytes nobody has counted."""
    return SplitEntry(documents=0, tokens=sum(shard.tokens for shard in shards), bytes=0, contest_bytes=0)


def describe_tokenizer(tokenizer: Tokenizer) -> TokenizerEntry:
    return TokenizerEntry(
        sha256=hashlib.sha256(tokenizer.model).hexdigest(),
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        unk_id=tokenizer.unk_id,
        lossless=tokenizer.lossless,
        transform=tokenizer.transform.name,
    )


def read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise no_dataset(folder)
    values = read_json_object(path.read_text(encoding="utf-8", errors="backslashreplace"), str(path))
    if values.get("format") != FORMAT:
        raise BadInput(f"{path}: not a manifest of format {FORMAT}")
    values.pop("layout", None)  # older manifests name the one layout there is
    return build(Manifest, [Layer(str(path), values)])


def no_dataset(folder: Path, vocab: int | str = "N") -> BadInput:
    """The error for a folder that is none, with the command that makes one there."""
    export = re.fullmatch(r"fineweb10B_(sp\d+|byte260)", folder.name)
    made_by = f"data.contest --variant {export[1]}" if export else f"data.prep SOURCE --vocab {vocab} --out {folder}"
    return BadInput(f"{folder}: not a dataset (no {MANIFEST}, no fineweb_val_*.bin); make it: python -m {made_by}")


def write_manifest(manifest: Manifest, folder: Path) -> None:
    write_json(folder / MANIFEST, to_dict(manifest))
