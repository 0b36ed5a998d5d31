"""Training a lossless SentencePiece BPE on the training split: the same bytes on every run.

No text is dropped. SentencePiece skips every "sentence" that is too long or that holds NUL, U+2581 or U+2585; so texts
are cut around those characters, which are encoded as byte pieces, and length has no limit.
"""

import io
import re
from collections.abc import Iterable, Iterator

import sentencepiece

from base.errors import BadInput
from data.caseops import NO_TRANSFORM, Transform
from data.tokenizer import SPACE, SentencePieceTokenizer, chunks

SMALLEST_VOCAB = 261  # 4 specials, 256 bytes and a space
UNLEARNABLE = re.compile("[\0\u2581\u2585]+")


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, transform: Transform = NO_TRANSFORM
) -> SentencePieceTokenizer:
    """BPE: identity normalisation, byte fallback, digits apart, white space kept, no dummy prefix."""
    model = io.BytesIO()
    failure: list[BaseException] = []  # of the texts' iterator: SentencePiece would make a RuntimeError of it
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_learnable(map(transform.fold, texts), failure),
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
            user_defined_symbols=list(transform.operators),
            required_chars=SPACE,  # a lone ▁ is a piece even where the text has no space
            max_sentence_length=1 << 30,
            num_threads=16,  # written into the model, so it must not depend on the machine
            minloglevel=2,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
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
