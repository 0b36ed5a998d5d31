"""eval.mixing.text: what is remembered of a text, and that a context is what its name says."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data.tokenizer import ByteTokenizer, SentencePieceTokenizer, Tokenizer
from eval.mixing.text import SEES, SHORTEST, empty_text, hash_contexts, reveal, spell

BYTES = ByteTokenizer()


class Here(NamedTuple):
    hashes: list[int]
    repeated: int  # the token that followed the text that repeats; -1: none
    length: int


def after(text: str | Sequence[int], guess: int = 0, tokenizer: Tokenizer = BYTES) -> Here:
    ids = tokenizer.encode(text).tolist() if isinstance(text, str) else text
    known, spellings = empty_text(len(ids) + 1), spell(tokenizer)
    for token in [tokenizer.bos_id, *ids]:
        reveal(known, spellings, token)
    hashes = np.zeros(len(SEES), np.uint64)
    here = known.here[0]
    hash_contexts(known, spellings.klass[here["byte"]], guess, hashes)
    length = int(here["repeat_length"])
    return Here(hashes.tolist(), int(known.history[here["repeat_from"]]) if length else -1, length)


def same(first: Here, second: Here) -> set[str]:
    return {sees for sees, one, other in zip(SEES, first.hashes, second.hashes, strict=True) if one == other}


def test_a_context_does_not_see_what_lies_outside_it() -> None:
    alike = same(after("one two abcdef"), after("six two abcdef"))
    assert {"last 1, last 2, last 3", "word, byte", "word, word 1", "document, last 1", ""} <= alike
    assert "word, word 1, word 2" not in alike


def test_words_are_the_same_in_capitals_and_across_tokens(tokenizer: SentencePieceTokenizer) -> None:
    assert {"word, byte", "word, word 1"} <= same(after("a model"), after("A MODEl"))
    ids = tokenizer.encode("the window")
    spelled = [tokenizer._sp.piece_to_id(f"<0x{byte:02X}>") for byte in b"the window"]
    assert len(ids) < len(spelled)
    assert "word, word 1" in same(after(ids.tolist(), 0, tokenizer), after(spelled, 0, tokenizer))


def test_a_new_document_is_another_place_and_the_guess_is_seen_where_it_is_named() -> None:
    differ = set(SEES) - same(after("text", guess=5), after("text", guess=6))
    assert differ == {sees for sees in SEES if "guess" in sees}
    text = BYTES.encode("a text").tolist()
    first, second = after(text), after([*text, BYTES.bos_id, *text])
    assert not {sees for sees in same(first, second) if "document" in sees}
    assert {"last 1, last 2", "word, word 1"} <= same(first, second)


def test_the_token_above_is_the_one_in_the_next_column_of_the_line_before() -> None:
    assert "above, last 1" in same(after("abcdef\nxy"), after("zzcqqq\nxy"))
    assert "above, last 1" not in same(after("abcdef\nxy"), after("abddef\nxy"))


def test_a_repeat_predicts_what_followed_it() -> None:
    text = "0123456789"
    for more in range(SHORTEST, 9):
        here = after(text + "--" + text[:more])
        assert here.repeated == int(BYTES.encode(text[more])[0])
        assert here.length == more
    assert after(text + "--" + text[: SHORTEST - 1]).repeated == -1
    assert after(text + "--" + text[:7] + "x").repeated == -1
    assert after(text * 100).length > 900
