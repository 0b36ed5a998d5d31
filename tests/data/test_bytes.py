"""data.bytes: the two conventions, and where they differ."""

import numpy as np

from data.bytes import ByteTable
from data.tokenizer import ByteTokenizer, SentencePieceTokenizer
from data.tokenizer_training import train_tokenizer
from tests.conftest import contest_rule


def test_specials_are_zero_bytes_and_byte_pieces_one(tokenizer: SentencePieceTokenizer) -> None:
    table = ByteTable(tokenizer)
    assert table.exact[[tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id]].tolist() == [0] * 4
    assert table.exact[4:260].tolist() == [1] * 256
    assert ByteTable(ByteTokenizer()).exact.tolist() == [0] * 4 + [1] * 256


def test_the_conventions_differ_where_a_document_begins_with_a_space(tokenizer: SentencePieceTokenizer) -> None:
    table = ByteTable(tokenizer)
    for text, uncounted in (("the model", 0), (" the model", 1), ("\n the", 0), ("", 0)):
        ids = tokenizer.encode(text)
        stream = np.concatenate([[tokenizer.bos_id], ids])
        assert table.exact_bytes(ids).sum() == len(text.encode())
        assert table.contest_bytes(stream[:-1], stream[1:]).sum() == len(text.encode()) - uncounted


def test_a_space_inside_a_piece_is_one_byte_and_the_contest_takes_it_for_three() -> None:
    indented = train_tokenizer(["def f(x):\n        return x\n\n" * 50], 290)
    table = ByteTable(indented)
    text = "x:\n        y"
    ids = indented.encode(text)
    stream = np.concatenate([[indented.bos_id], ids])
    assert max(len(indented._sp.id_to_piece(i)) for i in ids.tolist()) == 8  # eight spaces are one piece
    assert table.exact_bytes(ids).sum() == len(text.encode()) == 12
    assert table.contest_bytes(stream[:-1], stream[1:]).sum() == contest_rule(indented, stream.tolist()) == 12 + 7 * 2
