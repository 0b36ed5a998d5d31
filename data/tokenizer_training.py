"""Training a lossless SentencePiece BPE on the training split: bit for bit the same on every run.

Nothing of the text is dropped. SentencePiece skips a whole "sentence" that is too long or that holds NUL, U+2581
or U+2585; so texts are cut around those characters, which are then byte pieces, and length has no limit.
"""

import io
import re
from collections.abc import Iterable, Iterator
from typing import Literal

import sentencepiece

from base.errors import BadInput
from data.tokenizer import MAX_VOCAB, SPACE, SentencePieceTokenizer, chunks

IdOrder = Literal["golf", "rscalm"]
ID_ORDERS: dict[IdOrder, dict[str, int]] = {
    "golf": {"pad": 0, "bos": 1, "eos": 2, "unk": 3},
    "rscalm": {"unk": 0, "bos": 1, "eos": 2, "pad": 3},
}
SMALLEST = 261
UNLEARNABLE = re.compile("[\0\u2581\u2585]+")


def refuse_vocabulary(size: int) -> None:
    if not SMALLEST <= size <= MAX_VOCAB:
        raise BadInput(
            f"vocabulary of {size}: it holds 4 specials, 256 bytes and a space, and ids are stored as uint16; "
            f"use {SMALLEST} to {MAX_VOCAB}"
        )


def train_tokenizer(texts: Iterable[str], vocab_size: int, order: IdOrder = "golf") -> SentencePieceTokenizer:
    """BPE: identity normalisation, byte fallback, digits apart, white space kept, no dummy prefix."""
    refuse_vocabulary(vocab_size)
    model = io.BytesIO()
    failure: list[BaseException] = []  # of the texts' iterator: SentencePiece would make a RuntimeError of it
    ids = ID_ORDERS[order]
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_learnable(texts, failure),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            byte_fallback=True,
            character_coverage=0.9995,
            required_chars=SPACE,  # a lone ▁ is a piece even where the text has no space
            max_sentence_length=1 << 30,
            num_threads=16,  # written into the model, so it must not depend on the machine
            minloglevel=2,
            pad_id=ids["pad"],
            bos_id=ids["bos"],
            eos_id=ids["eos"],
            unk_id=ids["unk"],
        )
    except RuntimeError as error:
        if failure:
            raise failure[0] from None
        raise BadInput(_explain(str(error), vocab_size)) from None
    return SentencePieceTokenizer(model.getvalue())


def _learnable(texts: Iterable[str], failure: list[BaseException]) -> Iterator[str]:
    try:
        for text in texts:
            for chunk in chunks(text):
                yield from filter(None, UNLEARNABLE.split(chunk))
    except BaseException as error:  # Ctrl-C too
        failure.append(error)
        raise


def _explain(error: str, vocab_size: int) -> str:
    if found := re.search(r"value <= (\d+)", error):
        return f"vocabulary of {vocab_size} is too large for this text; use --vocab {found[1]} or less, or more text"
    if found := re.search(r"required_chars\. \d+ vs (\d+)", error):
        return f"vocabulary of {vocab_size} is too small: bytes, specials and characters take {found[1]} of it"
    return f"the tokenizer cannot be trained on this text: {error.rpartition('] ')[2] or 'there is nothing to learn'}"
