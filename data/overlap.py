"""Do training and validation share a document? Answered from the shards alone, so for any dataset.

One tokenizer gives equal text equal tokens, so equal documents are equal runs of tokens. A published export once had
40,000 of its 50,000 validation documents in its training shards, which was worth more than any modelling idea.
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
    validation = {tokens_digest(tokens): number for number, tokens in enumerate(val)}
    hashed = ((number, tokens_digest(tokens)) for number, tokens in enumerate(train))
    shared = [(number, validation[digest]) for number, digest in hashed if digest in validation]
    return Overlap(len(shared), *shared[0]) if shared else None


def tokens_digest(tokens: Tokens) -> bytes:
    return hashlib.blake2b(tokens.tobytes(), digest_size=16).digest()
