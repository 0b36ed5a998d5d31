"""What the tasks of one dataset's making share: the recipe, the parts of the corpus, and the files that they leave.

A part is a run of the corpus's files. Every step writes its findings for a part as files of that part, complete or not
at all, so that a step may run anywhere and again; no step keeps anything else.
"""

import io
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from base.errors import BadInput
from base.files import atomic_file
from data.caseops import TransformName
from data.corpus import Corpus
from data.manifest import SplitName
from data.split import TRAIN, VAL, SplitRule
from data.tokenizer import MAX_VOCAB
from data.tokenizer_training import SMALLEST_VOCAB

SIDES: dict[SplitName, int] = {"train": TRAIN, "val": VAL}  # by label

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What makes a dataset what it is; two equal recipes over one corpus give equal bytes."""

    vocab: int = 1024
    split: SplitRule = "hash"
    val_fraction: float = 0.05
    near_duplicates: float | None = None  # training documents this similar to one of validation are dropped
    tokenizer_mb: int = 64  # of training text that the tokenizer learns from
    skip_bad: bool = False
    transform: TransformName = "none"  # of each text before it is encoded

    def __post_init__(self) -> None:
        if not SMALLEST_VOCAB <= self.vocab <= MAX_VOCAB:
            raise BadInput(f"--vocab {self.vocab}: use {SMALLEST_VOCAB} (bytes, specials) to {MAX_VOCAB} (uint16 ids)")
        if not 0.0 < self.val_fraction < 1.0:
            raise BadInput(f"--val-fraction {self.val_fraction} is not between 0 and 1; use 0.01 or 0.05")
        if self.near_duplicates is not None and not 0.3 <= self.near_duplicates <= 0.95:
            raise BadInput(f"--near-duplicates {self.near_duplicates}: use a similarity from 0.3 to 0.95, like 0.8")

    def rule(self) -> str:
        if self.split == "tail":
            rule = f"validation is the last {self.val_fraction:g} of documents; their training copies are dropped"
        else:
            rule = f"validation iff the first 8 bytes of SHA-256(text) are below {self.val_fraction:g} of 2^64"
        if self.near_duplicates is not None:
            rule += (
                f"; training documents whose word 5-grams are about {self.near_duplicates:g} those of a validation "
                "document (Jaccard, by MinHash) are dropped"
            )
        return rule


@dataclass(frozen=True)
class Job:
    corpus: Corpus
    recipe: Recipe
    model: bytes | None  # of a tokenizer to use instead of training one
    folder: Path  # of the files between the steps
    parts: int = 1
    workers: int = 1  # processes that encode a part

    @property
    def dataset(self) -> Path:
        """Where the dataset's own files are until they are published."""
        return self.folder / "dataset"

    def part(self, number: int) -> Corpus:
        """The files of one part: of about as many bytes as any other, as far as undivided files allow."""
        return replace(self.corpus, files=tuple(np.array(self.corpus.files, object)[self._part_of == number]))

    @cached_property
    def _part_of(self) -> Array:
        """The part of each file: that in which its middle is, where the corpus is cut into equal parts."""
        sizes = np.array([file.size_bytes for file in self.corpus.files], np.float64)
        middles = sizes.cumsum() - sizes / 2
        parts: Array = np.minimum(middles * self.parts // max(sizes.sum(), 1), self.parts - 1)
        return parts

    def path(self, name: str, part: int | None = None) -> Path:
        return self.folder / (name if part is None else f"{name}_{part:06d}")

    def save(self, name: str, array: Array, part: int | None = None) -> None:
        data = io.BytesIO()
        np.save(data, array, allow_pickle=False)
        atomic_file(self.path(f"{name}.npy", part), data.getvalue())

    def load(self, name: str, part: int | None = None) -> Array:
        """As a memory map: a step that goes through all parts holds none of them."""
        array: Array = np.load(self._found(f"{name}.npy", part), mmap_mode="r", allow_pickle=False)
        return array

    def save_json(self, name: str, value: Any, part: int | None = None) -> None:
        atomic_file(self.path(f"{name}.json", part), json.dumps(value).encode())

    def load_json(self, name: str, part: int | None = None) -> Any:
        return json.loads(self._found(f"{name}.json", part).read_bytes())

    def _found(self, name: str, part: int | None) -> Path:
        path = self.path(name, part)
        if not path.exists():
            raise BadInput(f"{path}: missing, though its step is done; delete {self.folder.parent} and begin again")
        return path
