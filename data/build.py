"""A corpus -> a dataset folder, in steps: scan, split, train the tokenizer, encode, prove, publish.

    manifest = build_dataset(open_corpus("stdlib"), Recipe(vocab=1024), Path("data/datasets/stdlib"))

The corpus is read three times, so that memory stays flat: for every document's hash and size, for the tokenizer's
sample, and for the tokens. Documents are compared as the tokenizer sees them: two texts that it normalises to the same
text are one document and fall on one side.
"""

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from base.errors import BadInput
from base.files import atomic_folder
from base.progress import byte_progress
from data.bytes import ByteTable
from data.caseops import TRANSFORMS, TransformName
from data.corpus import Corpus
from data.encoding import cores, encode_all
from data.manifest import MANIFEST, TOKENIZER, Manifest, ShardEntry, describe_tokenizer, read_manifest, write_manifest
from data.overlap import find_overlap
from data.readers import Bad, Document
from data.shards import ShardWriter, open_stream
from data.split import (
    DROPPED,
    TRAIN,
    VAL,
    Digests,
    Labels,
    SplitRule,
    as_digests,
    document_digest,
    hash_digests,
    split_documents,
    tokenizer_sample,
)
from data.tokenizer import MAX_VOCAB, Tokenizer
from data.tokenizer_training import SMALLEST_VOCAB, train_tokenizer


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What makes a dataset what it is; two equal recipes over one corpus give equal bytes."""

    vocab: int = 1024
    split: SplitRule = "hash"
    val_fraction: float = 0.05
    tokenizer_mb: int = 64  # of training text that the tokenizer learns from
    skip_bad: bool = False
    transform: TransformName = "none"  # of each text before it is encoded

    def __post_init__(self) -> None:
        if not SMALLEST_VOCAB <= self.vocab <= MAX_VOCAB:
            raise BadInput(f"--vocab {self.vocab}: use {SMALLEST_VOCAB} (bytes, specials) to {MAX_VOCAB} (uint16 ids)")
        if not 0.0 < self.val_fraction < 1.0:
            raise BadInput(f"--val-fraction {self.val_fraction} is not between 0 and 1; use 0.01 or 0.05")

    def rule(self) -> str:
        if self.split == "tail":
            return f"validation is the last {self.val_fraction:g} of documents; their training copies are dropped"
        return f"validation iff the first 8 bytes of SHA-256(text) are below {self.val_fraction:g} of 2^64"


@dataclass(frozen=True)
class Scan:
    """The first pass: hash and size of every document, in reading order."""

    digests: Digests
    sizes: npt.NDArray[np.int64]  # in bytes
    skipped: int


def build_dataset(
    corpus: Corpus, recipe: Recipe, out: Path, given: Tokenizer | None = None, workers: int | None = None
) -> Manifest:
    """Make `out` the dataset of this corpus; `given` is a tokenizer to use instead of training one."""
    own_files(out)
    with atomic_folder(out) as staged:
        scan = scan_corpus(corpus, recipe.skip_bad, given)
        labels = split_documents(recipe.split, scan.digests, recipe.val_fraction)
        tokenizer = given or train_on_sample(corpus, recipe, scan, labels)
        (staged / TOKENIZER).write_bytes(tokenizer.model)
        shards = write_shards(corpus, scan, labels, tokenizer, staged, workers or cores())
        train = open_stream(staged, shards, "train")
        val = open_stream(staged, shards, "val")
        overlap = find_overlap(train.documents(tokenizer.bos_id), val.documents(tokenizer.bos_id))
        if overlap:
            raise BadInput(f"{corpus.spec}: {overlap}; the split has failed, and no dataset was made")
        kept = scan.digests[labels != DROPPED]
        table = ByteTable(tokenizer)
        sides = [
            replace(
                stream.totals(table, tokenizer.bos_id),
                raw_bytes=int(scan.sizes[labels == label].sum()),
                documents_sha256=hash_digests(scan.digests[labels == label]),
            )
            for stream, label in ((train, TRAIN), (val, VAL))
        ]
        manifest = Manifest(
            source=corpus.spec,
            split=recipe.rule(),
            request=request_of(corpus, recipe, given),
            corpus_sha256=hash_digests(scan.digests),
            skipped_documents=scan.skipped,
            dropped_documents=int((labels == DROPPED).sum()),
            repeated_documents=len(kept) - len(np.unique(kept[:, 0])),
            tokenizer=describe_tokenizer(tokenizer),
            train=sides[0],
            val=sides[1],
            shards=tuple(shards),
        )
        write_manifest(manifest, staged)
        for path in own_files(out):  # the manifest first, so that a folder that has one is always complete
            path.unlink(missing_ok=True)
    return manifest


def own_files(out: Path) -> list[Path]:
    """The files of the dataset that a new one replaces; a folder that holds anything else is left alone."""
    if not out.exists():
        return []
    if not out.is_dir():
        raise BadInput(f"{out}: is a file; --out names a folder")
    own: list[Path] = []
    if (out / MANIFEST).exists():
        manifest = read_manifest(out)
        if not manifest.request:
            raise BadInput(f"{out}: holds a dataset that data.prep did not make; name another --out to keep it")
        own = [out / MANIFEST, *(out / name for name in manifest.files())]
    for path in sorted(set(out.iterdir()) - set(own)):
        raise BadInput(f"{out}: holds {path.name}, which is no file of a dataset there; name another --out")
    return own


def request_of(corpus: Corpus, recipe: Recipe, given: Tokenizer | None) -> dict[str, Any]:
    """What the dataset is made from, by content: an equal request need not be carried out twice."""
    model = hashlib.sha256(given.model).hexdigest() if given else None
    return {**asdict(recipe), "corpus": corpus.fingerprint, "tokenizer": model}


def scan_corpus(corpus: Corpus, skip_bad: bool, given: Tokenizer | None) -> Scan:
    joined = bytearray()
    sizes = array("q")
    skipped = 0

    def on_bad(bad: Bad) -> None:
        nonlocal skipped
        if not skip_bad:
            raise BadInput(f"{bad.name}: {bad.reason}; repair it, or skip such documents with --skip-bad")
        skipped += 1

    with byte_progress("reading") as advance:
        for _, text in corpus.documents(on_bad):
            normal = given.normalize(text) if given else text
            joined += document_digest(normal.encode())
            sizes.append(len(text.encode()))
            advance(sizes[-1])
    if not sizes:
        raise BadInput(f"{corpus.spec}: no document with text in it ({skipped} skipped)")
    return Scan(as_digests(joined), np.array(sizes, np.int64), skipped)


def train_on_sample(corpus: Corpus, recipe: Recipe, scan: Scan, labels: Labels) -> Tokenizer:
    taken = tokenizer_sample(labels, scan.digests, scan.sizes, recipe.tokenizer_mb * 1_000_000)

    def sample() -> Iterator[str]:
        with byte_progress("tokenizer", int(scan.sizes[taken].sum())) as advance:
            for is_taken, size, document in zip(taken, scan.sizes, read_again(corpus), strict=False):
                if is_taken:
                    yield document.text
                    advance(int(size))

    return train_tokenizer(sample(), recipe.vocab, TRANSFORMS[recipe.transform])


def write_shards(
    corpus: Corpus, scan: Scan, labels: Labels, tokenizer: Tokenizer, folder: Path, workers: int
) -> list[ShardEntry]:
    pairs = zip(map(int, labels), read_again(corpus), strict=False)
    kept = ((label, document) for label, document in pairs if label != DROPPED)
    seen = bytearray()
    with (
        ShardWriter(folder, "train") as train,
        ShardWriter(folder, "val") as val,
        byte_progress("encoding", int(scan.sizes[labels != DROPPED].sum())) as advance,
    ):
        writers = {TRAIN: train, VAL: val}
        for label, ids, digest, size_bytes in encode_all(kept, tokenizer, workers):
            writers[label].write([ids])
            seen += digest
            advance(size_bytes)
    if not np.array_equal(as_digests(seen), scan.digests[labels != DROPPED]):
        raise BadInput(f"{corpus.spec}: it changed while it was being read; run again when nothing writes to it")
    return [*train.entries, *val.entries]


def read_again(corpus: Corpus) -> Iterator[Document]:
    """A later pass: what is not readable has been counted, and documents that have been added since do not count."""
    return corpus.documents(lambda _: None)
