"""A corpus -> a dataset folder, in steps whose tasks share nothing but files (data/job.py).

    manifest = build_dataset(open_corpus("stdlib"), Recipe(vocab=1024), Path("data/datasets/stdlib"))

    scan      of each part: every document's hash and size
    choose    which documents validate, and which of the others the tokenizer learns from
    sample    of each part: the texts of the latter
    train     the tokenizer
    encode    of each part: its tokens, proved
    arrange   which tokens each shard holds; this and what follows: data/assemble.py
    write     for each part: its share of the shards; and none of its training documents is a validation document
    publish   the manifest, and the folder

Here they run one after another, with the corpus as one part; data/scale.py runs them with many, on many machines. The
dataset is the same. The text is read three times, so that memory stays flat. Documents are compared as the tokenizer
sees them: two texts that it normalises to the same text are one document and fall on one side.
"""

import importlib
import tempfile
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from base.errors import BadInput
from base.files import atomic_file, complete_file, partial_path
from base.progress import byte_progress
from data.assemble import arrange, own_files, publish, write
from data.caseops import TRANSFORMS
from data.corpus import Corpus
from data.encoding import Encoded, cores, encode_all
from data.job import SIDES, Job, Recipe
from data.manifest import TOKENIZER, Manifest, SplitName
from data.readers import Bad, Document
from data.split import (
    DROPPED,
    TRAIN,
    VAL,
    Labels,
    as_digests,
    document_digest,
    first_by_key,
    has_shared_band,
    label_by_hash,
    label_tail,
    require_sides,
)
from data.tokenizer import Tokenizer, load_tokenizer
from data.tokenizer_training import train_tokenizer

MB = 1_000_000


class Step(NamedTuple):
    act: Callable[[Job, int], None]
    of_parts: bool = True  # a task for each part; else one, numbered 0, that needs all parts done


def build_dataset(
    corpus: Corpus, recipe: Recipe, out: Path, given: Tokenizer | None = None, workers: int | None = None
) -> Manifest:
    """Make `out` the dataset of this corpus; `given` is a tokenizer to use instead of training one."""
    own_files(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        job = Job(corpus, recipe, given.model if given else None, Path(folder), workers=workers or cores())
        job.dataset.mkdir()
        for step in STEPS.values():
            step.act(job, 0)
        return publish(job, out)


def scan(job: Job, part: int) -> None:
    corpus = job.part(part)
    given = load_tokenizer(job.model) if job.model else None
    near = open_signatures(job.recipe)
    joined = bytearray()
    sizes = array("q")
    bands = []
    skipped = 0
    identities = [file.identity() for file in corpus.files]

    def on_bad(bad: Bad) -> None:
        nonlocal skipped
        if not job.recipe.skip_bad:
            raise BadInput(f"{bad.name}: {bad.reason}; repair it, or skip such documents with --skip-bad")
        skipped += 1

    with byte_progress("reading") as advance:
        for _, text in corpus.documents(on_bad):
            raw = text.encode()
            joined += document_digest(given.normalize(text).encode() if given and not given.lossless else raw)
            sizes.append(len(raw))
            if near:
                bands.append(near.bands(text))
            advance(sizes[-1])
    job.save("digests", as_digests(joined), part)
    job.save("sizes", np.array(sizes, np.int64), part)
    if near:
        job.save("bands", np.array(bands, np.uint64).reshape(len(sizes), near.count), part)
    for file in corpus.files:
        file.require_size()
    job.save_json("scan", {"skipped": skipped, "identities": identities}, part)


def open_signatures(recipe: Recipe) -> Any:
    """data.near's, where the recipe wants them: the optional requirements have what it needs."""
    if recipe.near_duplicates is None:
        return None
    try:
        return importlib.import_module("data.near").Signatures(recipe.near_duplicates)
    except ImportError as error:
        raise BadInput(f"--near-duplicates: {error}; pip install -r requirements-cluster.txt") from None


def choose(job: Job, _: int) -> None:
    """The labels of every part's documents, and the places of those that the tokenizer learns from."""
    firsts = np.cumsum([0, *(len(job.load("sizes", part)) for part in range(job.parts))]).tolist()
    count = firsts.pop()
    if count < 2:
        skipped = sum(job.load_json("scan", part)["skipped"] for part in range(job.parts))
        found = "1 document in all" if count else f"no document with text in it ({skipped} skipped)"
        raise BadInput(f"{job.corpus.spec}: {found}; a split needs two (for .txt, --txt line makes a line a document)")
    label_parts(job, firsts, count)
    sides = np.zeros(3, np.int64)
    at, keys, sizes = np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.int64)  # of the sample so far
    for part, first in enumerate(firsts):
        labels = job.load("labels", part)
        sides += np.bincount(labels, minlength=3)
        train = np.flatnonzero(labels == TRAIN)
        at = np.append(at, first + train)
        keys = np.append(keys, job.load("digests", part)[train, 1])  # which the split does not look at
        sizes = np.append(sizes, job.load("sizes", part)[train])
        taken = first_by_key(keys, sizes, job.recipe.tokenizer_mb * MB)
        at, keys, sizes = at[taken], keys[taken], sizes[taken]
    require_sides(sides, job.recipe.val_fraction)
    for part, (first, end) in enumerate(zip(firsts, [*firsts[1:], count], strict=True)):
        job.save("sampled", at[(at >= first) & (at < end)] - first, part)


def label_parts(job: Job, firsts: list[int], count: int) -> None:
    """`firsts`: each part's first document, of `count` in all."""
    recipe = job.recipe
    parts = range(job.parts)
    tail = count - max(1, int(count * recipe.val_fraction))
    ends = [max(0, tail - first) for first in firsts]  # of the training documents before the tail, in each part
    is_tail = recipe.split == "tail"
    keys = np.concatenate([job.load("digests", part)[ends[part] :, 0] for part in parts]) if is_tail else None

    def label(part: int) -> Labels:
        digests = job.load("digests", part)
        return label_by_hash(digests, recipe.val_fraction) if keys is None else label_tail(digests, ends[part], keys)

    is_near = recipe.near_duplicates is not None
    bands = np.concatenate([job.load("bands", part)[label(part) == VAL] for part in parts]) if is_near else None
    for part in parts:
        labels = label(part)
        if bands is not None:
            labels[(labels == TRAIN) & has_shared_band(job.load("bands", part), bands)] = DROPPED
        job.save("labels", labels, part)


def sample(job: Job, part: int) -> None:
    wanted = job.load("sampled", part).tolist()
    texts = list[str]()
    if job.model is None and wanted:
        documents = enumerate(read_again(job, part))
        for place in wanted:
            # A corpus that has become shorter is found out when it is encoded.
            texts.append(next((document.text for number, document in documents if number == place), ""))
    job.save_json("sample", texts, part)


def train(job: Job, _: int) -> None:
    model = job.model
    if model is None:
        texts = (text for part in range(job.parts) for text in job.load_json("sample", part))
        model = train_tokenizer(texts, job.recipe.vocab, TRANSFORMS[job.recipe.transform]).model
    atomic_file(job.dataset / TOKENIZER, model)


def encode(job: Job, part: int) -> None:
    tokenizer = load_tokenizer((job.dataset / TOKENIZER).read_bytes())
    labels, digests, sizes = (job.load(name, part) for name in ("labels", "digests", "sizes"))
    is_kept = labels != DROPPED
    pairs = zip(map(int, labels), read_again(job, part), strict=False)
    kept = ((label, document) for label, document in pairs if label != DROPPED)
    sides = {label: EncodedSide(job, side, part) for side, label in SIDES.items()}
    seen = bytearray()
    with byte_progress("encoding", int(sizes[is_kept].sum())) as advance:
        for encoded in encode_all(kept, tokenizer, job.workers):
            sides[encoded.label].add(encoded)
            seen += encoded.digest
            advance(encoded.size_bytes)
    if not np.array_equal(as_digests(seen), digests[is_kept]):
        raise BadInput(f"{job.corpus.spec}: it changed while it was being read; run again when nothing writes to it")
    for side in sides.values():
        side.save()
    job.save("kept_keys", np.sort(digests[is_kept, 0]), part)


class EncodedSide:
    """One side of a part: its tokens go into a file as they come, and what is known of them is saved at the end."""

    def __init__(self, job: Job, side: SplitName, part: int) -> None:
        self.job, self.side, self.part = job, side, part
        self.lengths = array("I")  # of the documents, in tokens
        self.digests = bytearray()  # of their tokens
        self.totals = {"documents": 0, "tokens": 0, "bytes": 0, "contest_bytes": 0, "raw_bytes": 0}
        self._path = job.path(f"{side}.tokens", part)
        self._stream = partial_path(self._path).open("wb")

    def add(self, encoded: Encoded) -> None:
        self._stream.write(encoded.ids.astype("<u2", copy=False).data)
        self.lengths.append(len(encoded.ids))
        self.digests += encoded.tokens_digest
        found = (1, len(encoded.ids), encoded.bytes, encoded.contest_bytes, encoded.size_bytes)
        for key, value in zip(self.totals, found, strict=True):
            self.totals[key] += value

    def save(self) -> None:
        complete_file(self._stream, self._path)
        self.job.save(f"{self.side}.lengths", np.array(self.lengths, np.uint32), self.part)
        self.job.save(f"{self.side}.digests", as_digests(self.digests), self.part)
        self.job.save_json(f"{self.side}.totals", self.totals, self.part)


def read_again(job: Job, part: int) -> Iterator[Document]:
    """A later pass: what is not readable has been counted, and documents that have been added since do not count."""
    return job.part(part).documents(lambda _: None)


STEPS = {
    "scan": Step(scan),
    "choose": Step(choose, of_parts=False),
    "sample": Step(sample),
    "train": Step(train, of_parts=False),
    "encode": Step(encode),
    "arrange": Step(arrange, of_parts=False),
    "write": Step(write),
}
