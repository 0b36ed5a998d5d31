"""data.split: which side a document falls on."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BadInput
from data.split import (
    DROPPED,
    TRAIN,
    VAL,
    as_digests,
    count_repeats,
    document_digest,
    first_by_key,
    label_by_hash,
    label_tail,
    require_sides,
)


def digests_of(texts: list[str]) -> np.ndarray:
    return as_digests(bytearray().join(document_digest(text.encode()) for text in texts))


def test_the_hash_rule_is_the_documented_one() -> None:
    texts = [str(number) for number in range(500)]
    labels = label_by_hash(digests_of(texts), 0.1)
    for text, label in zip(texts, labels, strict=True):
        below = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") < int(0.1 * 2**64)
        assert label == (VAL if below else TRAIN)
    assert 25 < (labels == VAL).sum() < 80


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.integers(1, 60))
def test_no_document_is_ever_on_both_sides(numbers: list[int], train_end: int) -> None:
    texts = [str(number) for number in numbers]
    digests = digests_of(texts)
    for labels in (label_by_hash(digests, 0.3), label_tail(digests, train_end, digests[train_end:, 0])):
        sides = [{text for text, label in zip(texts, labels, strict=True) if label == side} for side in (TRAIN, VAL)]
        assert not sides[0] & sides[1]


def test_the_tail_rule_takes_the_end_and_drops_its_training_copies() -> None:
    digests = digests_of(["a", "z", "b", "c", "d", "e", "f", "g", "y", "z"])
    labels = label_tail(digests, 8, digests[8:, 0])
    assert labels.tolist() == [TRAIN, DROPPED] + [TRAIN] * 6 + [VAL, VAL]


def test_a_side_that_would_be_empty_is_an_error() -> None:
    for counts, name in (([3, 0, 0], "validation"), ([0, 2, 1], "training")):
        with pytest.raises(BadInput, match=f"none of 3 documents is left for {name}"):
            require_sides(np.array(counts), 0.5)


def test_the_tokenizers_sample_is_text_up_to_the_limit_whatever_the_documents_length() -> None:
    texts = [str(number) * (1 + number % 7) for number in range(400)] + ["giant" * 10_000]
    keys, sizes = digests_of(texts)[:, 1], np.array([len(text) for text in texts])
    for limit in (1, 500, 3000, 20_000):
        taken = first_by_key(keys, sizes, limit)
        assert taken.tolist() == sorted(taken)
        assert set(keys[taken]) == {*sorted(keys)[: len(taken)]}
        assert sizes[taken].sum() >= limit
        last = max(taken, key=lambda at: keys[at])
        assert sizes[taken].sum() - sizes[last] < limit
    assert first_by_key(keys, sizes, 10**9).tolist() == [*range(401)]


@given(st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5)), min_size=1, max_size=4), st.integers(1, 9))
def test_repeats_are_counted_over_parts_whatever_is_in_memory_at_a_time(parts: list[list[int]], bucket: int) -> None:
    found = count_repeats((np.sort(np.array(part, np.uint64)) for part in parts), bucket)
    everything = [key for part in parts for key in part]
    assert found == len(everything) - len(set(everything))
