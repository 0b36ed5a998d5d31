"""data.tokenizer and its training: no text is lost or dropped, and training is deterministic."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import BadInput
from data.bytes import ByteTable
from data.tokenizer import SPACE, WORDS, ByteTokenizer, SentencePieceTokenizer, chunks, load_tokenizer
from data.tokenizer_training import train_tokenizer
from tests.conftest import sentencepiece_like

HOSTILE = [
    "", " ", "  ", "\0", "a\0b\0", SPACE, f" {SPACE}", f"{SPACE} a", f"{SPACE}{SPACE}", f"a{SPACE}b", "\r\n", "\r",
    "\t", "\n \n", " lead", "trail ", "\ufeff", "\u2047", " \u2047 ", "\u2585", "<s>", "</s>", "<unk>", "<pad>",
    "<0x41>", "a<s>b", "e\u0301", "\u200b", "\U0010ffff", "\ue000", "\ufb01 \uff21 \u337f", "x" * 5000, " " * 5000,
    "🙂🇩🇪\U0001f469\u200d\U0001f467", "\x7f\x80\x9f",
]  # fmt: skip

hostile_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    st.sampled_from([SPACE, " ", "\0", "\r", "\n", "\t", "a", "9", "é", "🙂", "\u2585", "<", ">"]), max_size=60
)


def test_hostile_text_comes_back_and_its_bytes_are_counted(tokenizer: SentencePieceTokenizer) -> None:
    for each in (tokenizer, ByteTokenizer()):
        table = ByteTable(each)
        for text in HOSTILE:
            ids = each.encode(text)
            assert each.decode(ids) == text
            assert table.join(ids) == text.encode()


@settings(max_examples=300)
@given(text=hostile_text)
def test_any_text_comes_back_and_its_bytes_are_counted(tokenizer: SentencePieceTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    table = ByteTable(tokenizer)
    assert table.join(ids) == text.encode()
    assert table.exact_bytes(ids).sum() == len(text.encode())
    assert not np.isin(ids, [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id]).any()


@pytest.mark.slow
def test_every_code_point_comes_back(tokenizer: SentencePieceTokenizer) -> None:
    table = ByteTable(tokenizer)
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    for start in range(0, len(points), 500):
        text = "a".join(points[start : start + 500])
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert table.join(ids) == text.encode()


def test_training_repeats_itself_with_the_contests_ids(texts: list[str], tokenizer: SentencePieceTokenizer) -> None:
    assert train_tokenizer(texts, 400).model == tokenizer.model
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2, 3)
    assert len(tokenizer.encode("2048")) - len(tokenizer.encode("204")) == 1  # digits are single pieces


def test_documents_of_any_length_and_with_any_character_are_learned_from() -> None:
    filler = "abc def " * 10
    long = "zyzzyva " * 300_000  # 2.4 MB in one document; SentencePiece's own limit is 4,192 bytes
    held = [filler, long, "quokka\0 " * 500, f"wombat{SPACE} " * 500, "numbat\u2585 " * 500, "\tdunnart\r\n" * 500]
    trained = train_tokenizer(held, 330)
    pieces = " ".join(trained._sp.id_to_piece(i) for i in range(trained.vocab_size))
    for word in ("zyzzyva", "quokka", "wombat", "numbat", "dunnart"):
        assert word in pieces
    without = train_tokenizer(["日本語のテキスト" * 100], 290)
    assert len(without.encode(" ")) == 1  # a text without a space still gets a piece for it
    assert without.lossless


def test_cutting_a_long_text_before_spaces_changes_no_id(tokenizer: SentencePieceTokenizer, texts: list[str]) -> None:
    for text in texts[:20]:
        pieces = [tokenizer.encode(part) for part in chunks(text, 50)]
        assert len(pieces) > 3
        assert np.array_equal(np.concatenate(pieces), tokenizer.encode(text))


def test_words_by_themselves_have_the_ids_that_they_have_in_a_text(
    tokenizer: SentencePieceTokenizer, texts: list[str]
) -> None:
    phrases = sentencepiece_like(
        ["the end of the end of the end"] * 9,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_whitespace=False,
    )
    assert phrases.lossless
    assert any(SPACE in piece.strip(SPACE) for piece in map(phrases._sp.id_to_piece, range(phrases.vocab_size)))
    unigram = sentencepiece_like(
        texts,
        model_type="unigram",
        vocab_size=330,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
    )
    assert [each._word for each in (tokenizer, phrases, unigram)] == [WORDS[0], WORDS[2], WORDS[2]]
    for each in (tokenizer, phrases, unigram):
        for text in [*texts, "  two  spaces \n and\na\tlast one  ", "of the end of", " ", ""]:
            assert each.encode(text).tolist() == each._sp.encode(text), text


def test_a_file_that_is_no_tokenizer_is_refused_and_the_byte_tokenizer_is_the_contests() -> None:
    for model in (b"", b"garbage", b"{", b"{}", b'{"tokenizer_type": "char"}', b"\0" * 100):
        with pytest.raises(BadInput, match="tokenizer"):
            load_tokenizer(model)
    described = json.loads(ByteTokenizer().model)
    assert (described["tokenizer_type"], described["vocab_size"]) == ("pure_byte", 260)
    assert load_tokenizer(ByteTokenizer().model).encode("A\n").tolist() == [69, 14]


def test_a_tokenizer_that_changes_text_is_known(contest_tokenizer: SentencePieceTokenizer, texts: list[str]) -> None:
    prefixed = sentencepiece_like(texts, normalization_rule_name="identity", remove_extra_whitespaces=False)
    assert not prefixed.lossless
    assert not contest_tokenizer.lossless
    table = ByteTable(contest_tokenizer)
    for text in [*texts[:20], " ﬁ  Ａ \n x", f"a{SPACE}b"]:
        ids = contest_tokenizer.encode(text)
        normal = contest_tokenizer.normalize(text)
        assert normal == contest_tokenizer.decode(ids)
        assert table.join(ids) == normal.encode()
