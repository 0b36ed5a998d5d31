"""The encoded parts of a corpus -> shards, proved, and the published dataset folder: the last steps of data/build.py.

A document's place depends on the number of tokens before it alone, so that the shards are the same for any parts.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from base.errors import BadInput
from base.files import atomic_folder, link_or_copy
from data.corpus import Corpus
from data.job import SIDES, Array, Job, Recipe
from data.manifest import (
    MANIFEST,
    TOKENIZER,
    Manifest,
    ShardEntry,
    SplitEntry,
    SplitName,
    describe_tokenizer,
    read_manifest,
    write_manifest,
)
from data.shards import UINT16, Tokens, write_shard
from data.split import DROPPED, count_repeats
from data.tokenizer import Tokenizer, load_tokenizer

SHARD_TOKENS = 100_000_000


class Span(NamedTuple):
    """Tokens of one part that are side by side in a shard."""

    part: int
    start: int
    tokens: int


def arrange(job: Job, _: int) -> None:
    for side in SIDES:
        lengths = (job.load(f"{side}.lengths", part) for part in range(job.parts))
        job.save_json(f"{side}.shards", list(plan_shards(lengths, SHARD_TOKENS)))
    digests = [job.load("val.digests", part) for part in range(job.parts)]
    job.save("val_digests", np.unique(np.concatenate(digests), axis=0))


def plan_shards(parts: Iterator[Array], limit_tokens: int) -> Iterator[list[Span]]:
    """Each shard's spans, from the lengths of each part's documents. No document is cut: a shard ends before the one
    that would exceed the limit, or holds it alone."""
    spans = list[Span]()
    held = 0
    for part, lengths in enumerate(parts):
        ends = np.cumsum(lengths, dtype=np.int64)
        document = start = 0
        while document < len(ends):
            fitting = int(np.searchsorted(ends, start + limit_tokens - held, side="right"))
            if fitting <= document:
                if spans:
                    yield spans
                    spans, held = [], 0
                    continue
                fitting += 1  # alone, though it is longer
            spans.append(Span(part, start, int(ends[fitting - 1]) - start))
            held += spans[-1].tokens
            start += spans[-1].tokens
            document = fitting
    yield spans


def write(job: Job, part: int) -> None:
    """The share of one task: as many shards as any other's."""
    refuse_overlap(job, part)
    plans = [(side, number, spans) for side in SIDES for number, spans in enumerate(job.load_json(f"{side}.shards"))]
    for side, number, spans in plans[part :: job.parts]:
        path = job.dataset / shard_name(side, number)
        tokens = [read_span(job, side, Span._make(span)) for span in spans]
        job.save_json(path.name, asdict(write_shard(path, side, tokens)))


def read_span(job: Job, side: SplitName, span: Span) -> Tokens:
    path = job.path(f"{side}.tokens", span.part)
    tokens: Tokens = np.memmap(path, UINT16, "r")[span.start : span.start + span.tokens]
    if len(tokens) != span.tokens:
        raise BadInput(f"{path}: shorter than its documents; delete {job.folder.parent} and begin again")
    return tokens


def shard_name(side: SplitName, number: int) -> str:
    return f"{side}_{number:06d}.bin"


def refuse_overlap(job: Job, part: int) -> None:
    """One tokenizer gives equal text equal tokens, so a document on both sides is the same tokens on both."""
    train, val = job.load("train.digests", part), job.load("val_digests")
    likely = train[np.isin(train[:, 0], val[:, 0])]
    candidates = val[np.isin(val[:, 0], likely[:, 0])]
    shared = {*map(tuple, likely.tolist())} & {*map(tuple, candidates.tolist())}
    if shared:
        what = f"{len(shared)} training documents are validation documents"
        raise BadInput(f"{job.corpus.spec}: {what}; the split has failed, and no dataset was made")


def publish(job: Job, out: Path) -> Manifest:
    """`out` becomes the dataset, at once; the job's own files stay."""
    manifest = describe(job)
    aside = out.with_name(f".{out.name}.old")
    shutil.rmtree(aside, ignore_errors=True)  # of a publication that was killed
    with atomic_folder(out) as staged:
        for name in manifest.files():
            link_or_copy(job.dataset / name, staged / name)
        write_manifest(manifest, staged)
        if own_files(out):
            out.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
    return manifest


def describe(job: Job) -> Manifest:
    tokenizer = load_tokenizer((job.dataset / TOKENIZER).read_bytes())
    shards = list[ShardEntry]()
    for side in SIDES:
        count = len(job.load_json(f"{side}.shards"))
        shards += [ShardEntry(**job.load_json(shard_name(side, number))) for number in range(count)]
    scans = [job.load_json("scan", part) for part in range(job.parts)]
    hashes = {name: hashlib.sha256() for name in ("corpus", *SIDES)}
    dropped = 0
    for part in range(job.parts):
        labels, digests = job.load("labels", part), job.load("digests", part).astype(">u8")
        dropped += int((labels == DROPPED).sum())
        hashes["corpus"].update(digests.tobytes())
        for side, label in SIDES.items():
            hashes[side].update(digests[labels == label].tobytes())
    identities = [identity for scan in scans for identity in scan["identities"]]
    return Manifest(
        source=job.corpus.spec,
        split=job.recipe.rule(),
        request={**describe_recipe(job.recipe, job.model), "corpus": job.corpus.fingerprint_of(identities)},
        corpus_sha256=hashes["corpus"].hexdigest(),
        skipped_documents=sum(scan["skipped"] for scan in scans),
        dropped_documents=dropped,
        repeated_documents=count_repeats(job.load("kept_keys", part) for part in range(job.parts)),
        tokenizer=describe_tokenizer(tokenizer),
        train=total(job, "train", shards, hashes["train"].hexdigest()),
        val=total(job, "val", shards, hashes["val"].hexdigest()),
        shards=tuple(shards),
    )


def total(job: Job, side: SplitName, shards: list[ShardEntry], documents_sha256: str) -> SplitEntry:
    counts = [job.load_json(f"{side}.totals", part) for part in range(job.parts)]
    sums = {key: sum(each[key] for each in counts) for key in counts[0]}
    held = sum(shard.tokens for shard in shards if shard.split == side)
    if held != sums["tokens"]:
        raise BadInput(f"the shards of {side} hold {held:,} tokens, and {sums['tokens']:,} were encoded; begin again")
    return SplitEntry(**sums, documents_sha256=documents_sha256)


def request_of(recipe: Recipe, corpus: Corpus, given: Tokenizer | None) -> dict[str, Any]:
    """What the dataset is made from, by content: an equal request need not be carried out twice."""
    return {**describe_recipe(recipe, given.model if given else None), "corpus": corpus.fingerprint}


def describe_recipe(recipe: Recipe, model: bytes | None) -> dict[str, Any]:
    return {**asdict(recipe), "tokenizer": None if model is None else hashlib.sha256(model).hexdigest()}


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
