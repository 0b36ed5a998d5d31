"""Do training and validation share a document? Asked of the shards themselves, so of anybody's dataset.

One tokenizer gives equal text equal tokens, so equal documents are equal runs of tokens. A validation document in the
training shards has been worth more than any modelling idea (40,000 of 50,000, once).
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from data.shards import Tokens


class Overlap(NamedTuple):
    documents: int  # of the training side that are validation documents
    train: int  # the first of them, by its number on either side
    val: int

    def __str__(self) -> str:
        first = f"the first: training {self.train} is validation {self.val}"
        return f"{self.documents} training documents are validation documents ({first})"


def find_overlap(train: Iterable[Tokens], val: Iterable[Tokens]) -> Overlap | None:
    held_out = {_digest(tokens): number for number, tokens in enumerate(val)}
    hashed = ((number, _digest(tokens)) for number, tokens in enumerate(train))
    shared = [(number, held_out[digest]) for number, digest in hashed if digest in held_out]
    return Overlap(len(shared), *shared[0]) if shared else None


def _digest(tokens: Tokens) -> bytes:
    return hashlib.blake2b(tokens.tobytes(), digest_size=16).digest()
