"""A corpus -> a dataset folder: scan, split, train the tokenizer, encode, prove, publish.

The corpus is read three times, so that memory stays flat: once for every document's hash and size, once for the
tokenizer's sample, once for the tokens. Documents are told apart as the tokenizer sees them: under one that normalises,
two texts that it makes equal are one document, and fall on one side.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from base.errors import BadInput
from base.progress import byte_progress
from data.corpus import Corpus
from data.dataset import assemble
from data.encoding import BATCH_CHARS, Pending, encode_all
from data.manifest import TOKENIZER, Layout, Manifest, ShardEntry, SplitEntry, describe_tokenizer
from data.overlap import find_overlap
from data.readers import Bad
from data.shards import MAX_SHARD_TOKENS, ShardWriter
from data.split import (
    DIGEST_BYTES,
    DROPPED,
    TRAIN,
    VAL,
    Digests,
    Labels,
    SplitRule,
    as_digests,
    document_digest,
    repeated_documents,
    split_documents,
    tokenizer_sample,
)
from data.staging import publish, staging
from data.tokenizer import Tokenizer
from data.tokenizer_training import IdOrder, refuse_vocabulary, train_tokenizer


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What makes a dataset what it is; two equal recipes over one corpus give equal bytes."""

    vocab: int = 1024
    ids: IdOrder = "golf"
    layout: Layout = "golf"
    split: SplitRule = "hash"
    val_fraction: float = 0.05
    tokenizer_mb: int = 64  # of training text that the tokenizer learns from
    shard_tokens: int = 100_000_000
    skip_bad: bool = False

    def __post_init__(self) -> None:
        refuse_vocabulary(self.vocab)
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
    """The first pass: what every document hashes to and weighs, in reading order."""

    joined: bytes  # DIGEST_BYTES a document
    sizes: npt.NDArray[np.int64]  # in bytes
    skipped: int

    @property
    def digests(self) -> Digests:
        return as_digests(self.joined)

    def digest(self, number: int) -> bytes:
        return self.joined[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]


def scan(corpus: Corpus, skip_bad: bool, normalize: Callable[[str], str]) -> Scan:
    joined, sizes, skipped = bytearray(), array("q"), 0

    def on_bad(bad: Bad) -> None:
        nonlocal skipped
        if not skip_bad:
            raise BadInput(f"{bad.name}: {bad.reason}; mend it, or pass over such documents with --skip-bad")
        skipped += 1

    with byte_progress("reading") as advance:
        for document in corpus.documents(on_bad):
            joined += document_digest(normalize(document.text).encode())
            sizes.append(len(document.text.encode()))
            advance(sizes[-1])
    if not sizes:
        raise BadInput(f"{corpus.spec}: no document with text in it" + (f" ({skipped} skipped)" if skipped else ""))
    return Scan(bytes(joined), np.array(sizes, np.int64), skipped)


def build_dataset(
    corpus: Corpus, recipe: Recipe, request: dict[str, object], given: Tokenizer | None, out: Path, workers: int
) -> Manifest:
    """Make `out` the dataset of this corpus; `given` is a tokenizer to use instead of training one."""
    with staging(out) as staged:
        found = scan(corpus, recipe.skip_bad, given.normalize if given else str)
        digests = found.digests
        labels = split_documents(recipe.split, digests, recipe.val_fraction)
        tokenizer = given or _trained(corpus, recipe, found, labels)
        (staged / TOKENIZER).write_bytes(tokenizer.model)
        totals, shards = _write_shards(corpus, recipe, found, labels, tokenizer, staged, workers)
        manifest = Manifest(
            layout=recipe.layout,
            source=corpus.spec,
            split=recipe.rule(),
            request=request,
            corpus_sha256=hashlib.sha256(found.joined).hexdigest(),
            skipped_documents=found.skipped,
            dropped_documents=int((labels == DROPPED).sum()),
            repeated_documents=repeated_documents(digests[labels != DROPPED]),
            tokenizer=describe_tokenizer(tokenizer),
            train=totals[TRAIN],
            val=totals[VAL],
            shards=tuple(shards),
        )
        made = assemble(staged, manifest, tokenizer)
        if overlap := find_overlap(made.documents("train"), made.documents("val")):
            raise BadInput(f"{corpus.spec}: {overlap}; the split has failed, and no dataset was made")
        publish(manifest, staged, out)
    return manifest


def request_of(corpus: Corpus, recipe: Recipe, given: Tokenizer | None) -> dict[str, object]:
    """What was asked for, by content: the same request need not be carried out twice."""
    model = hashlib.sha256(given.model).hexdigest() if given else None
    return {**asdict(recipe), "corpus": corpus.fingerprint(), "tokenizer": model}


def _trained(corpus: Corpus, recipe: Recipe, found: Scan, labels: Labels) -> Tokenizer:
    taken = tokenizer_sample(labels, found.digests, found.sizes, recipe.tokenizer_mb * 1_000_000)

    def sample() -> Iterator[str]:
        with byte_progress("tokenizer", int(taken.sum())) as advance:
            for number, document in enumerate(corpus.documents(lambda _: None)):
                size = int(taken[number]) if number < len(taken) else 0
                if size == found.sizes[number]:
                    yield document.text
                elif size:  # the one document that crosses the limit
                    yield document.text.encode()[:size].decode(errors="ignore")
                advance(size)

    return train_tokenizer(sample(), recipe.vocab, recipe.ids)


def _write_shards(
    corpus: Corpus, recipe: Recipe, found: Scan, labels: Labels, tokenizer: Tokenizer, staged: Path, workers: int
) -> tuple[dict[int, SplitEntry], list[ShardEntry]]:
    sums = {TRAIN: np.zeros(5, np.int64), VAL: np.zeros(5, np.int64)}
    hashes = {TRAIN: hashlib.sha256(), VAL: hashlib.sha256()}
    for number, label in enumerate(labels.tolist()):
        if label != DROPPED:
            hashes[label].update(found.digest(number))
    with (
        ShardWriter(staged, "train", recipe.layout, recipe.shard_tokens) as train,
        ShardWriter(staged, "val", recipe.layout, recipe.shard_tokens) as val,
        byte_progress("encoding", int(found.sizes[labels != DROPPED].sum())) as advance,
    ):
        batches = _batches(corpus, found, labels)
        for label, encoded in encode_all(batches, tokenizer.model, recipe.layout, workers):
            (train if label == TRAIN else val).write(encoded.tokens, encoded.lengths)
            sums[label] += [len(encoded.lengths), len(encoded.tokens), *encoded[2:]]
            advance(encoded.raw_bytes)
    totals = {}
    for label, total in sums.items():
        documents, tokens, exact, contest, raw = total.tolist()
        totals[label] = SplitEntry(
            documents=documents,
            tokens=tokens,
            bytes=exact,
            contest_bytes=contest,
            raw_bytes=raw,
            documents_sha256=hashes[label].hexdigest(),
        )
    return totals, [*train.entries, *val.entries]


def _batches(corpus: Corpus, found: Scan, labels: Labels) -> Iterator[tuple[int, list[Pending]]]:
    """The kept documents in reading order, each side for itself, in batches worth sending to another process."""
    waiting: dict[int, list[Pending]] = {TRAIN: [], VAL: []}
    chars = {TRAIN: 0, VAL: 0}
    number = -1
    for number, document in enumerate(corpus.documents(lambda _: None)):
        label = int(labels[number]) if number < len(labels) else DROPPED
        if label == DROPPED:
            continue
        waiting[label].append(Pending(document.name, document.text, found.digest(number)))
        chars[label] += len(document.text)
        if chars[label] >= BATCH_CHARS:
            yield label, waiting[label]
            waiting[label], chars[label] = [], 0
    if number + 1 != len(labels):
        raise BadInput(f"{corpus.spec}: {number + 1} documents where there were {len(labels)}: it changed while read")
    yield from ((label, batch) for label, batch in waiting.items() if batch)
