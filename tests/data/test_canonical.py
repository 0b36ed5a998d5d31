"""data.canonical against SentencePiece itself: what is forbidden is what no encoding has."""

import itertools
import struct
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import BadInput
from data.canonical import NORMAL, UNUSED, forbidden_pairs, read_entries, read_fields
from data.tokenizer import SPACE, ByteTokenizer, SentencePieceTokenizer, Tokenizer
from data.tokenizer_training import train_tokenizer
from tests.conftest import make_text, sentencepiece_like
from tests.data.test_tokenizer import HOSTILE, hostile_text

LOSSLESS = {
    "normalization_rule_name": "identity", "add_dummy_prefix": False, "remove_extra_whitespaces": False,
    "required_chars": SPACE,
}  # fmt: skip


def forbidden_in(tokenizer: Tokenizer, texts: Iterable[str]) -> int:
    forbidden = forbidden_pairs(tokenizer)
    return sum(int(forbidden[ids[:-1], ids[1:]].sum()) for ids in map(tokenizer.encode, texts))


def compare_with_encoder(tokenizer: SentencePieceTokenizer) -> tuple[int, int, int]:
    """Of all ordered pairs of normal pieces: rightly forbidden, wrongly forbidden, allowed without being produced."""
    entries = read_entries(tokenizer.model)
    normal = [token for token, each in enumerate(entries) if each.kind == NORMAL]
    pairs = [(a, b) for a in normal for b in normal]
    encoded = tokenizer._sp.encode([entries[a].piece + entries[b].piece for a, b in pairs])
    produced = np.array([ids == list(pair) for ids, pair in zip(encoded, pairs, strict=True)])
    forbidden = forbidden_pairs(tokenizer)[tuple(np.array(pairs).T)]
    return (int((forbidden & ~produced).sum()), int((forbidden & produced).sum()), int((~forbidden & ~produced).sum()))


def edited(tokenizer: SentencePieceTokenizer, edit: Callable[[int, bytes], bytes]) -> SentencePieceTokenizer:
    """The tokenizer with `edit(number, message)` for each normal piece's message."""
    model = b""
    kinds = (each.kind for each in read_entries(tokenizer.model))
    pieces = itertools.count()
    for number, value in read_fields(tokenizer.model):
        message = edit(next(pieces), value) if number == 1 and next(kinds) == NORMAL else value
        size, length = len(message), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        model += bytes([number << 3 | 2]) + length + bytes([size]) + message
    return SentencePieceTokenizer(model)


def test_a_pair_is_forbidden_exactly_if_sentencepiece_encodes_it_otherwise(tokenizer: SentencePieceTokenizer) -> None:
    repeated = train_tokenizer([pattern * 40 for pattern in ("aab", "abab ", "aaa", "a  b", "    x", "ba")], 298)
    for each in (tokenizer, repeated):
        right, wrong, missed = compare_with_encoder(each)
        assert right > 100
        assert (wrong, missed) == (0, 0)


@settings(max_examples=15)
@given(texts=st.lists(st.text(st.sampled_from("aab é"), min_size=30, max_size=80), min_size=3, max_size=6))
def test_the_same_holds_for_vocabularies_of_random_text(texts: list[str]) -> None:
    assert compare_with_encoder(sentencepiece_like(texts, vocab_size=290, **LOSSLESS))[1:] == (0, 0)


@settings(max_examples=40)
@given(scores=st.lists(st.integers(-6, 0), min_size=40, max_size=40))
def test_nothing_that_is_produced_is_forbidden_whatever_the_scores(scores: list[int]) -> None:
    """Scores that no training gives: ties, and pieces before their parts."""
    trained = sentencepiece_like(["abcabd abcd bcda aab abb caba dcba " * 9], vocab_size=310, **LOSSLESS)

    def rescore(number: int, message: bytes) -> bytes:
        fields = dict(read_fields(message))
        return message.replace(b"\x15" + fields[2], b"\x15" + struct.pack("<f", scores[number % len(scores)]))

    rescored = edited(trained, rescore)
    right, wrong, _ = compare_with_encoder(rescored)
    assert right > 0
    assert wrong == 0
    normal = [token for token, each in enumerate(read_entries(rescored.model)) if each.kind == NORMAL]
    forbidden = forbidden_pairs(rescored)
    for token in normal:
        if rescored._sp.encode(rescored._sp.id_to_piece(token)) != [token]:  # it is never produced
            assert forbidden[token, normal].all()
            assert forbidden[normal, token].all()


@settings(max_examples=200)
@given(text=hostile_text)
def test_no_text_contains_a_forbidden_pair(tokenizer: SentencePieceTokenizer, text: str) -> None:
    assert forbidden_in(tokenizer, [text]) == 0


def test_no_other_tokenizer_forbids_its_own_pairs(texts: list[str], contest_tokenizer: SentencePieceTokenizer) -> None:
    user_defined = sentencepiece_like(texts, user_defined_symbols=["th", "of the", f"a{SPACE}b", "e"])
    unused = edited(
        sentencepiece_like(texts), lambda number, piece: piece + bytes([3 << 3, UNUSED]) if number % 3 == 0 else piece
    )
    unseen = [make_text(seed) for seed in range(1000, 1020)]
    for each in (contest_tokenizer, user_defined, unused, ByteTokenizer()):
        assert forbidden_in(each, [*texts, *unseen, *HOSTILE]) == 0
    for each in (contest_tokenizer, user_defined, unused):
        assert forbidden_pairs(each).any()
    assert not forbidden_pairs(ByteTokenizer()).any()


def test_a_tokenizer_that_merges_nothing_is_refused(texts: list[str]) -> None:
    with pytest.raises(BadInput, match="model_type is 1; canonical successors are known for SentencePiece BPE"):
        forbidden_pairs(sentencepiece_like(texts, model_type="unigram"))
