"""What is remembered of a text, and its contexts: hashes of features of past tokens. Compiled.

Two tables define everything: what is remembered (`FEATURES`, kept by `reveal`) and which features each context sees
(`SEES`). Words are letters and digits in lower case, across token borders, so that " The", "the" and "\nthe" are
continued alike; a token without bytes that is still to take effect, as "the next letter is a capital", is part of the
word. Contexts with `document` start afresh with each document: its own recent text predicts better than others do.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.tokenizer import Tokenizer
from eval.mixing.compiled import compiled

NEWLINE, SPACE = 10, 32
CLASSES = 8
SHORTEST = 5  # tokens of a repeat
LONGEST = 32  # of its tokens that are compared when it is found
PLACES = 1 << 20  # that are remembered for repeats: as many for a short text, which must not know that it is one
COLUMNS = 1024  # of a line whose tokens the next line sees
MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
HASH_A = np.uint64(0x9E3779B97F4A7C15)
ONE = np.uint64(1)

FEATURES = (
    "last 1", "last 2", "last 3", "last 4", "last 5", "last 6",  # tokens back
    "word", "byte", "word 1", "word 2",  # the word so far, the last byte, the words before
    "line", "line above", "number", "above", "column", "class",  # a line's first token, …, the token right above
    "shapes", "document", "guess",  # of the last 4 tokens; …; the model's best token: its errors repeat
)  # fmt: skip

SEES = (
    "last 1", "last 1, last 2", "last 1, last 2, last 3", "last 1, last 2, last 3, last 4",
    "last 1, last 2, last 3, last 4, last 5, last 6",
    "", "word, byte", "word, word 1", "word, word 1, word 2",
    "line, line above, number", "line, last 1", "line, word, byte", "above, last 1",
    "document", "document, last 1", "document, last 1, last 2", "document, word, byte",
    "document, word, word 1", "document, class", "document, column", "document, above, last 1", "document, shapes",
    "guess", "guess, last 1",
)  # fmt: skip
ORDERS = 5  # the first of SEES are runs of tokens; how many of them were seen before measures familiarity

# Of each context, the features that it sees, one after another; where each context's begin.
SEEN = np.array([FEATURES.index(name) for sees in SEES if sees for name in sees.split(", ")])
SEEN_FROM = np.cumsum([0, *(len(sees.split(", ")) if sees else 0 for sees in SEES)])

COUNTERS = ("tokens", "document", "column", "in_line", "row", "repeat_from", "repeat_length")
HASHES = ("word", "word_1", "word_2", "shapes", "byte", "line", "line_above", "pending")
HERE = np.dtype([(name, np.int64) for name in COUNTERS] + [(name, np.uint64) for name in HASHES])


class Text(NamedTuple):
    history: npt.NDArray[np.int64]  # (most tokens,)
    here: npt.NDArray[np.void]  # (1,) of HERE
    rows: npt.NDArray[np.int64]  # (2, COLUMNS) the token over each column of this line and of the one above, plus one
    places: npt.NDArray[np.int32]  # by hash of SHORTEST tokens: where they ended when last seen


class Spellings(NamedTuple):
    bytes: npt.NDArray[np.int64]  # of all tokens, one after another
    start: npt.NDArray[np.int64]  # (V + 1,)
    shape: npt.NDArray[np.uint64]  # (V,) what a token looks like
    klass: npt.NDArray[np.int64]  # (256,) of a byte
    bos: int


def empty_text(most_tokens: int) -> Text:
    return Text(
        np.zeros(most_tokens, np.int64),
        np.zeros(1, HERE),
        np.zeros((2, COLUMNS), np.int64),
        np.zeros(PLACES, np.int32),
    )


def spell(tokenizer: Tokenizer) -> Spellings:
    spellings = [piece.data for piece in tokenizer.pieces()]
    return Spellings(
        np.frombuffer(b"".join(spellings), np.uint8).astype(np.int64),
        np.cumsum([0, *map(len, spellings)]),
        np.array([_shape(spelling) for spelling in spellings], np.uint64),
        np.array([_class(byte) for byte in range(256)]),
        tokenizer.bos_id,
    )


@compiled
def reveal(text: Text, spellings: Spellings, token: int) -> None:
    here = text.here[0]
    if token == spellings.bos:
        here.document += 1
        here.word = here.word_1 = here.word_2 = here.shapes = here.byte = here.line = here.line_above = 0
        here.column = here.in_line = 0
        text.rows[:] = 0
    _follow(text, token)
    here.shapes = here.shapes << np.uint64(16) | spellings.shape[token]
    begin, end = spellings.start[token], spellings.start[token + 1]
    here.pending = np.uint64(token + 1) if begin == end else np.uint64(0)
    for byte in spellings.bytes[begin:end]:
        _read(text, byte, token)
    if here.column > 0:
        if here.in_line == 0:
            here.line = token + 1
        here.in_line += 1


@compiled
def _read(text: Text, byte: int, token: int) -> None:
    here = text.here[0]
    small = byte | 32 if 65 <= byte <= 90 else byte
    if 97 <= small <= 122 or 48 <= small <= 57 or small > 127 or small == 95:
        here.word = (here.word + np.uint64(small)) * MULTIPLIER
    elif here.word > 0:
        here.word_2 = here.word_1
        here.word_1 = here.word
        here.word = 0
    here.byte = byte
    if byte == NEWLINE:
        text.rows[here.row, here.column :] = 0
        here.row = 1 - here.row
        here.column = here.in_line = 0
        here.line_above = here.line
        here.line = 0
    else:
        if here.column < COLUMNS:
            text.rows[here.row, here.column] = token + 1
        here.column += 1


@compiled
def _follow(text: Text, token: int) -> None:
    """Continue the repeat of earlier text, or find one: where the last SHORTEST tokens occurred last."""
    here, history = text.here[0], text.history
    if here.repeat_length > 0 and history[here.repeat_from] == token:
        here.repeat_length += 1
        here.repeat_from += 1
    else:
        here.repeat_length = 0
    tokens = here.tokens + 1
    history[tokens - 1] = token
    here.tokens = tokens
    if tokens < SHORTEST:
        return
    key = np.uint64(0)
    for last in history[tokens - SHORTEST : tokens]:
        key = (key + np.uint64(last + 1)) * MULTIPLIER
        key ^= key >> np.uint64(29)
    at = key & np.uint64(PLACES - 1)
    before = text.places[at]
    text.places[at] = tokens
    if here.repeat_length == 0 and before > 0:
        same = 0
        while same < min(LONGEST, before) and history[before - 1 - same] == history[tokens - 1 - same]:
            same += 1
        if same >= SHORTEST:
            here.repeat_from = before
            here.repeat_length = same


@compiled
def hash_contexts(text: Text, klass: int, guess: int, hashes: npt.NDArray[np.uint64]) -> None:
    """Fill in (contexts,) `hashes`. `klass`: of the last byte; `guess`: the place of the model's best token."""
    here = text.here[0]
    values = np.zeros(len(FEATURES), np.uint64)
    for back in range(min(6, here.tokens)):
        values[back] = text.history[here.tokens - 1 - back] + 1
    values[6] = here.word + here.pending * HASH_A
    values[7] = here.byte
    values[8] = here.word_1
    values[9] = here.word_2
    values[10] = here.line
    values[11] = here.line_above
    values[12] = min(here.in_line, 3)
    values[13] = text.rows[1 - here.row, here.column] if here.column < COLUMNS else 0
    values[14] = here.column
    values[15] = klass
    values[16] = here.shapes
    values[17] = here.document
    values[18] = guess
    for context in range(len(SEES)):
        key = np.uint64(context)
        for feature in SEEN[SEEN_FROM[context] : SEEN_FROM[context + 1]]:
            key = mix_bits(key + (values[feature] + ONE) * np.uint64(2 * feature + 1))
        hashes[context] = mix_bits(key)


@compiled
def mix_bits(key: np.uint64) -> np.uint64:
    key = (key ^ key >> np.uint64(32)) * MULTIPLIER
    return key ^ key >> np.uint64(29)


def _class(byte: int) -> int:
    """0 nothing, 1 line end, 2 space, 3 digit, 4 letter, 5 stop, 6 beyond ASCII, 7 any other sign."""
    if byte in (0, NEWLINE, SPACE):
        return (0, NEWLINE, SPACE).index(byte)
    if 48 <= byte <= 57:
        return 3
    if 97 <= byte | 32 <= 122:
        return 4
    if byte in b".,;:":
        return 5
    return 6 if byte > 127 else 7


def _shape(spelling: bytes) -> int:
    """What a token looks like: how it ends and, for words, whether it begins with a space; below 1 << 16."""
    if not spelling:
        return 0
    kind = _class(spelling[-1])
    if kind == 4:
        return 8 + 2 * int(spelling.startswith(b" ")) + int(spelling[-1:].islower())
    return kind if kind in (1, 2, 3) else 16 + spelling[-1]
