"""data.split: which side a document falls on."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BadInput
from data.split import DROPPED, TRAIN, VAL, as_digests, document_digest, split_documents, tokenizer_sample


def digests_of(texts: list[str]) -> np.ndarray:
    return as_digests(bytearray().join(document_digest(text.encode()) for text in texts))


def test_the_hash_rule_is_the_documented_one() -> None:
    texts = [str(number) for number in range(500)]
    labels = split_documents("hash", digests_of(texts), 0.1)
    for text, label in zip(texts, labels, strict=True):
        below = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") < int(0.1 * 2**64)
        assert label == (VAL if below else TRAIN)
    assert 25 < (labels == VAL).sum() < 80


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.sampled_from(["hash", "tail"]))
def test_no_document_is_ever_on_both_sides(numbers: list[int], rule: str) -> None:
    texts = [str(number) for number in numbers]
    try:
        labels = split_documents(rule, digests_of(texts), 0.3)  # type: ignore[arg-type]
    except BadInput:
        return
    sides = [{text for text, label in zip(texts, labels, strict=True) if label == side} for side in (TRAIN, VAL)]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_the_tail_rule_takes_the_end_and_drops_its_training_copies() -> None:
    labels = split_documents("tail", digests_of(["a", "z", "b", "c", "d", "e", "f", "g", "y", "z"]), 0.2)
    assert labels.tolist() == [TRAIN, DROPPED] + [TRAIN] * 6 + [VAL, VAL]


def test_a_side_that_would_be_empty_is_an_error() -> None:
    for texts, fraction in ((["a"], 0.5), (["a", "b", "c"], 1e-9), (["a", "a", "a"], 0.5)):
        with pytest.raises(BadInput, match="a split needs two|left for validation|none of 3 documents is left"):
            split_documents("hash", digests_of(texts), fraction)


def test_the_tokenizers_sample_is_training_text_up_to_the_limit_whatever_the_documents_length() -> None:
    texts = [str(number) * (1 + number % 7) for number in range(400)] + ["giant" * 10_000]
    digests, sizes = digests_of(texts), np.array([len(text) for text in texts])
    labels = split_documents("hash", digests, 0.2)
    labels[-1] = TRAIN
    for limit in (1, 500, 3000, 20_000, 10**9):
        taken = tokenizer_sample(labels, digests, sizes, limit)
        assert not taken[labels != TRAIN].any()
        assert sizes[taken].sum() >= min(limit, sizes[labels == TRAIN].sum())
        last = max(np.flatnonzero(taken), key=lambda at: digests[at, 1])  # in the order of the hashes
        assert sizes[taken].sum() - sizes[last] < limit
    assert taken.tolist() == (labels == TRAIN).tolist()
