"""Context features for the mixer, all of them functions of past tokens: hashes, the last byte's class, a repeat.

A context is a set of features of the text so far. Two tables define everything: what is remembered (`FEATURES`, kept
by `Contexts.reveal`) and which features each context sees (`SEES`). Words are letters and digits in lower case, across
token borders, so that " The", "the" and "\nthe" are continued alike. Contexts with `document` start afresh with each
document: its own recent text predicts better than other documents do.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.tokenizer import Tokenizer

Hashes = npt.NDArray[np.uint64]

MASK = (1 << 64) - 1
MULTIPLIER = 0xD6E8FEB86659FD93
NEWLINE, SPACE = 10, 32
CLASSES = 8
SHORTEST = 5  # tokens of a repeat
LENGTHS = 21  # buckets of a repeat's length
PLACES = 1 << 20  # that are remembered for repeats

FEATURES = (
    "last 1", "last 2", "last 3", "last 4", "last 5", "last 6",  # tokens back
    "word", "byte", "word 1", "word 2",  # the word so far, the last byte, the words before
    "line", "line above", "number", "above", "column", "class",  # a line's first token, …, the token right above
    "shapes", "document", "guess",  # of the last 4 tokens; …; the model's best token: its errors repeat
)  # fmt: skip

SEES = (
    "last 1", "last 1, last 2", "last 1, last 2, last 3", "last 1, last 2, last 3, last 4",
    "last 1, last 2, last 3, last 4, last 5, last 6",
    "", "last 2, last 3",
    "word, byte", "word, word 1", "word, word 1, word 2",
    "line, line above, number", "line, last 1", "line, word, byte", "above, last 1",
    "document", "document, last 1", "document, last 1, last 2", "document, last 2", "document, word, byte",
    "document, word, word 1", "document, class", "document, column", "document, above, last 1", "document, shapes",
    "guess", "guess, last 1",
)  # fmt: skip
ORDERS = 5  # the first of SEES are runs of tokens; how many of them were seen before measures familiarity


class Here(NamedTuple):
    hashes: Hashes  # (contexts,)
    klass: int  # of the last byte, below CLASSES
    repeated: int  # the token that followed the text that repeats; -1: none
    length: int  # its bucket, below LENGTHS


class Contexts:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._spellings = [piece.data for piece in tokenizer.pieces()]
        self._shape = [_shape(spelling) for spelling in self._spellings]
        self._bos_id = tokenizer.bos_id
        self._keys = _keys()
        self._history: list[int] = []
        self._places = np.zeros(PLACES, np.int64)  # by hash of SHORTEST tokens: where they ended when last seen
        self._from = 0  # the repeat: the place of the token that it predicts,
        self._length = 0  # and how long it is
        self._document = 0
        self._clear()

    def _clear(self) -> None:
        self._word = self._word_1 = self._word_2 = 0  # hashes of this word and the two before
        self._shapes = 0
        self._byte = 0
        self._column = 0  # bytes of this line
        self._in_line = 0  # tokens of this line
        self._line = self._line_above = 0  # the first token of each, plus one
        self._row: list[tuple[int, int]] = []  # (column where it ends, token) of this line
        self._row_above: list[tuple[int, int]] = []

    def here(self, guess: int) -> Here:
        """`guess`: the model's best next token."""
        last = [token + 1 for token in self._history[-1:-7:-1]]
        last += [0] * (6 - len(last))
        above = next((token for column, token in self._row_above if column > self._column), 0)
        klass = _class(self._byte)
        values = (
            *last,
            self._word, self._byte, self._word_1, self._word_2,
            self._line, self._line_above, min(self._in_line, 3), above, self._column, klass,
            self._shapes, self._document, guess,
        )  # fmt: skip
        mixed = (np.array(values, np.uint64) + np.uint64(1)) * np.uint64(MULTIPLIER)
        mixed ^= mixed >> np.uint64(32)
        mixed *= np.uint64(MULTIPLIER)
        mixed ^= mixed >> np.uint64(29)
        hashes = self._keys[:, :-1] @ mixed + self._keys[:, -1]
        repeated = self._history[self._from] if self._length else -1
        return Here(hashes, klass, repeated, _length_bucket(self._length))

    def reveal(self, token: int) -> None:
        if token == self._bos_id:
            self._document += 1
            self._clear()
        self._follow(token)
        self._shapes = (self._shapes << 16 | self._shape[token]) & MASK
        for byte in self._spellings[token]:
            self._read(byte)
        if self._column:
            self._row.append((self._column, token))
            if not self._in_line:
                self._line = token + 1
            self._in_line += 1

    def _read(self, byte: int) -> None:
        small = byte | 32 if 65 <= byte <= 90 else byte
        if 97 <= small <= 122 or 48 <= small <= 57 or small > 127 or small == 95:
            self._word = ((self._word + small) * MULTIPLIER) & MASK
        elif self._word:
            self._word_2, self._word_1, self._word = self._word_1, self._word, 0
        self._byte = byte
        if byte == NEWLINE:
            self._column = 0
            self._in_line = 0
            self._line_above, self._line = self._line, 0
            self._row_above, self._row = self._row, []
        else:
            self._column += 1

    def _follow(self, token: int) -> None:
        """Continue the repeat of earlier text, or find one: where the last SHORTEST tokens occurred last."""
        history = self._history
        if self._length and history[self._from] == token:
            self._length += 1
            self._from += 1
        else:
            self._length = 0
        history.append(token)
        if len(history) >= SHORTEST:
            run = history[-SHORTEST:]
            at = hash(tuple(run)) % PLACES
            before = int(self._places[at])
            if not self._length and before and history[before - SHORTEST : before] == run:
                self._from = before
                self._length = SHORTEST
            self._places[at] = len(history)


def _keys() -> Hashes:
    """(contexts, features + 1): odd where a context sees a feature, else 0; the last column separates contexts."""
    keys = np.random.Generator(np.random.PCG64(465)).integers(0, 1 << 63, (len(SEES), len(FEATURES) + 1), np.uint64)
    seen = np.array([[name in sees.split(", ") for name in FEATURES] + [True] for sees in SEES])
    return np.where(seen, keys * np.uint64(2) + np.uint64(1), np.uint64(0))


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


def _length_bucket(length: int) -> int:
    return length if length < 16 else min(16 + (length - 16) // 8, LENGTHS - 1)
