"""eval.any_bytes: for any bytes and any tokenizer, the tokens' bytes are those bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BadInput
from data.bytes import ByteTable
from data.tokenizer import ByteTokenizer, SentencePieceTokenizer
from eval.any_bytes import to_tokens
from tests.conftest import make_text, sentencepiece_like

MIXED = st.lists(st.binary(max_size=6) | st.text(max_size=12).map(str.encode), max_size=8).map(b"".join)


@given(data=MIXED)
def test_any_bytes_come_back(tokenizer: SentencePieceTokenizer, contest_tokenizer, data: bytes) -> None:
    for kind in (tokenizer, contest_tokenizer, ByteTokenizer()):
        table = ByteTable(kind)
        ids = to_tokens(data, kind, table)
        assert table.join(ids) == data
        assert (table.exact_bytes(ids) > 0).all()


def test_text_is_encoded_as_for_training_and_only_the_rest_byte_by_byte(tokenizer: SentencePieceTokenizer) -> None:
    table = ByteTable(tokenizer)
    text = make_text(5)
    plain = tokenizer.encode(text).tolist()
    assert to_tokens(text.encode(), tokenizer, table).tolist() == plain
    broken = to_tokens(text.encode() + b"\xff\xc3" + text.encode(), tokenizer, table).tolist()
    assert broken[: len(plain)] == plain == broken[len(plain) + 2 :]


def test_a_tokenizer_without_byte_pieces_is_refused_for_what_it_cannot_spell(texts: list[str]) -> None:
    without = sentencepiece_like(texts, byte_fallback=False, normalization_rule_name="identity")
    with pytest.raises(BadInput, match="no token for the byte 0xff"):
        to_tokens(b"a\xff", without, ByteTable(without))
