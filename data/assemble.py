"""The encoded parts of a corpus -> shards, proved, and the published dataset folder: the last steps of data/build.py.

A document's place depends on the number of tokens before it alone, so that the shards are the same for any parts.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from base.errors import BadInput
from base.files import atomic_folder, link_or_copy
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
from data.shards import UINT16, write_shard
from data.split import DROPPED, count_repeats
from data.tokenizer import load_tokenizer

SHARD_TOKENS = 100_000_000


class Run(NamedTuple):
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


def plan_shards(parts: Iterator[Array], limit_tokens: int) -> Iterator[list[Run]]:
    """Each shard's runs, from the lengths of each part's documents. No document is cut: a shard ends before the one
    that would exceed the limit, or holds it alone."""
    runs = list[Run]()
    held = 0
    for part, lengths in enumerate(parts):
        ends = np.cumsum(lengths, dtype=np.int64)
        document = start = 0
        while document < len(ends):
            fitting = int(np.searchsorted(ends, start + limit_tokens - held, side="right"))
            if fitting <= document:
                if runs:
                    yield runs
                    runs, held = [], 0
                    continue
                fitting += 1  # alone, though it is longer
            runs.append(Run(part, start, int(ends[fitting - 1]) - start))
            held += runs[-1].tokens
            start += runs[-1].tokens
            document = fitting
    yield runs


def write(job: Job, part: int) -> None:
    """The share of one task: as many shards as any other's."""
    refuse_overlap(job, part)
    plans = [(side, number, runs) for side in SIDES for number, runs in enumerate(job.load_json(f"{side}.shards"))]
    for side, number, runs in plans[part :: job.parts]:
        path = job.dataset / shard_name(side, number)
        files = ((np.memmap(job.path(f"{side}.tokens", run.part), UINT16, "r"), run) for run in map(Run._make, runs))
        tokens = [file[run.start : run.start + run.tokens] for file, run in files]
        job.save_json(path.name, asdict(write_shard(path, side, tokens)))


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
    with atomic_folder(out) as staged:
        for name in manifest.files():
            link_or_copy(job.dataset / name, staged / name)
        write_manifest(manifest, staged)
        for path in own_files(out):  # the manifest first, so that a folder that has one is always complete
            path.unlink(missing_ok=True)
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
        request=request_of(job.recipe, job.corpus.fingerprint_of(identities), job.model),
        corpus_sha256=hashes["corpus"].hexdigest(),
        skipped_documents=sum(scan["skipped"] for scan in scans),
        dropped_documents=dropped,
        repeated_documents=count_repeats(job.load("kept_keys", part) for part in range(job.parts)),
        tokenizer=describe_tokenizer(tokenizer),
        train=total(job, "train", hashes["train"].hexdigest()),
        val=total(job, "val", hashes["val"].hexdigest()),
        shards=tuple(shards),
    )


def total(job: Job, side: SplitName, documents_sha256: str) -> SplitEntry:
    counts = [job.load_json(f"{side}.totals", part) for part in range(job.parts)]
    sums = {key: sum(each[key] for each in counts) for key in counts[0]}
    return SplitEntry(**sums, documents_sha256=documents_sha256)


def request_of(recipe: Recipe, fingerprint: str, model: bytes | None) -> dict[str, Any]:
    """What the dataset is made from, by content: an equal request need not be carried out twice."""
    tokenizer = None if model is None else hashlib.sha256(model).hexdigest()
    return {**asdict(recipe), "corpus": fingerprint, "tokenizer": tokenizer}


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
