"""A corpus -> a dataset folder, in steps: scan, split, train the tokenizer, encode, prove, publish.

    manifest = build_dataset(open_corpus("stdlib"), Recipe(vocab=1024), Path("data/datasets/stdlib"))

Each step is a function of explicit inputs. The corpus is read three times, so that memory stays flat: for every
document's hash and size, for the tokenizer's sample, and for the tokens. Documents are compared as the tokenizer sees
them: two texts that it normalises to the same text are one document and fall on one side.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from base.errors import BadInput
from base.progress import byte_progress
from data.corpus import Corpus
from data.dataset import assemble
from data.encoding import BATCH_CHARS, cores, encode_all
from data.manifest import TOKENIZER, Manifest, ShardEntry, SplitEntry, describe_tokenizer
from data.overlap import find_overlap
from data.readers import Bad, Document
from data.shards import MAX_SHARD_TOKENS, ShardWriter
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
    repeated_documents,
    split_documents,
    tokenizer_sample,
)
from data.staging import publish, staging
from data.tokenizer import MAX_VOCAB, Tokenizer
from data.tokenizer_training import SMALLEST_VOCAB, train_tokenizer


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What makes a dataset what it is; two equal recipes over one corpus give equal bytes."""

    vocab: int = 1024
    split: SplitRule = "hash"
    val_fraction: float = 0.05
    tokenizer_mb: int = 64  # of training text that the tokenizer learns from
    shard_tokens: int = 100_000_000
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if not SMALLEST_VOCAB <= self.vocab <= MAX_VOCAB:
            raise BadInput(
                f"--vocab {self.vocab}: use {SMALLEST_VOCAB} (bytes and specials) to {MAX_VOCAB} (uint16 ids)"
            )
        if not 0.0 < self.val_fraction < 1.0:
            raise BadInput(f"--val-fraction {self.val_fraction} is not between 0 and 1; use 0.01 or 0.05")
        if self.tokenizer_mb < 1:
            raise BadInput(f"--tokenizer-mb {self.tokenizer_mb}: must be at least 1")
        if not 0 < self.shard_tokens <= MAX_SHARD_TOKENS:
            raise BadInput(f"--shard-tokens {self.shard_tokens}: a shard holds 1 to {MAX_SHARD_TOKENS} tokens")

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
    request = request_of(corpus, recipe, given)
    with staging(out) as staged:
        scan = scan_corpus(corpus, recipe.skip_bad, given.normalize if given else str)
        labels = split_documents(recipe.split, scan.digests, recipe.val_fraction)
        tokenizer = given or train_on_sample(corpus, recipe, scan, labels)
        (staged / TOKENIZER).write_bytes(tokenizer.model)
        train, val, shards = write_shards(corpus, scan, labels, tokenizer, staged, recipe.shard_tokens, workers)
        manifest = Manifest(
            source=corpus.spec,
            split=recipe.rule(),
            request=request,
            corpus_sha256=hash_digests(scan.digests),
            skipped_documents=scan.skipped,
            dropped_documents=int((labels == DROPPED).sum()),
            repeated_documents=repeated_documents(scan.digests[labels != DROPPED]),
            tokenizer=describe_tokenizer(tokenizer),
            train=train,
            val=val,
            shards=tuple(shards),
        )
        dataset = assemble(staged, manifest, tokenizer)
        overlap = find_overlap(dataset.documents("train"), dataset.documents("val"))
        if overlap:
            raise BadInput(f"{corpus.spec}: {overlap}; the split has failed, and no dataset was made")
        publish(manifest, staged, out)
    return manifest


def request_of(corpus: Corpus, recipe: Recipe, given: Tokenizer | None) -> dict[str, Any]:
    """What the dataset is made from, by content: an equal request need not be carried out twice."""
    model = hashlib.sha256(given.model).hexdigest() if given else None
    return {**asdict(recipe), "corpus": corpus.fingerprint, "tokenizer": model}


def scan_corpus(corpus: Corpus, skip_bad: bool, normalize: Callable[[str], str]) -> Scan:
    joined = bytearray()
    sizes = array("q")
    skipped = 0

    def on_bad(bad: Bad) -> None:
        nonlocal skipped
        if not skip_bad:
            raise BadInput(f"{bad.name}: {bad.reason}; repair it, or skip such documents with --skip-bad")
        skipped += 1

    with byte_progress("reading") as advance:
        for document in corpus.documents(on_bad):
            joined += document_digest(normalize(document.text).encode())
            sizes.append(len(document.text.encode()))
            advance(sizes[-1])
    if not sizes:
        raise BadInput(f"{corpus.spec}: no document with text in it" + (f" ({skipped} skipped)" if skipped else ""))
    return Scan(as_digests(bytes(joined)), np.array(sizes, np.int64), skipped)


def train_on_sample(corpus: Corpus, recipe: Recipe, scan: Scan, labels: Labels) -> Tokenizer:
    taken = tokenizer_sample(labels, scan.digests, scan.sizes, recipe.tokenizer_mb * 1_000_000)

    def sample() -> Iterator[str]:
        with byte_progress("tokenizer", int(taken.sum())) as advance:
            for limit, size, document in zip(taken, scan.sizes, read_again(corpus), strict=False):
                if limit == size:
                    yield document.text
                elif limit:  # the one document that crosses the limit
                    yield document.text.encode()[:limit].decode(errors="ignore")
                advance(int(limit))

    return train_tokenizer(sample(), recipe.vocab)


def write_shards(
    corpus: Corpus,
    scan: Scan,
    labels: Labels,
    tokenizer: Tokenizer,
    folder: Path,
    shard_tokens: int,
    workers: int | None = None,
) -> tuple[SplitEntry, SplitEntry, list[ShardEntry]]:
    """The totals of the training and of the validation side, and the shards now in `folder`."""
    totals: dict[int, Counter[str]] = {TRAIN: Counter(), VAL: Counter()}
    hashes = {TRAIN: hashlib.sha256(), VAL: hashlib.sha256()}
    with (
        ShardWriter(folder, "train", shard_tokens) as train,
        ShardWriter(folder, "val", shard_tokens) as val,
        byte_progress("encoding", int(scan.sizes[labels != DROPPED].sum())) as advance,
    ):
        for label, encoded in encode_all(_batches(corpus, labels), tokenizer, workers or cores()):
            writer = train if label == TRAIN else val
            writer.write(encoded.documents)
            hashes[label].update(encoded.digests)
            totals[label].update(
                documents=len(encoded.documents),
                tokens=sum(map(len, encoded.documents)),
                bytes=encoded.exact_bytes,
                contest_bytes=encoded.contest_bytes,
                raw_bytes=encoded.raw_bytes,
            )
            advance(encoded.raw_bytes)
    for label, digest in hashes.items():
        if digest.hexdigest() != hash_digests(scan.digests[labels == label]):
            raise BadInput(f"{corpus.spec}: it changed while it was being read; run again on a source at rest")
    sides = [SplitEntry(**totals[label], documents_sha256=hashes[label].hexdigest()) for label in (TRAIN, VAL)]
    return sides[0], sides[1], [*train.entries, *val.entries]


def _batches(corpus: Corpus, labels: Labels) -> Iterator[tuple[int, list[Document]]]:
    """The kept documents in reading order, each side for itself, in batches worth a thread's while."""
    waiting: dict[int, list[Document]] = {TRAIN: [], VAL: []}
    chars = Counter[int]()
    for label, document in zip(map(int, labels), read_again(corpus), strict=False):
        if label == DROPPED:
            continue
        waiting[label].append(document)
        chars[label] += len(document.text)
        if chars[label] >= BATCH_CHARS:
            yield label, waiting[label]
            waiting[label] = []
            chars[label] = 0
    for label, batch in waiting.items():
        if batch:
            yield label, batch


def read_again(corpus: Corpus) -> Iterator[Document]:
    """A later pass: what is not readable has been counted, and documents that have been added since do not count."""
    return corpus.documents(lambda _: None)
