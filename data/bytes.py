"""The byte oracle: the exact bytes of every token id. Every bits-per-byte figure in this project divides by its sums.

Two conventions, by name:
  exact    the bytes a token adds to the decoded text. Byte pieces count 1, specials and a transform's operators 0, a
           space is a space.
  contest  what Parameter Golf's script counts: a space that begins a document is not counted, and one inside a piece
           counts three bytes (▁). Our vocabularies have such pieces (indentation), where a score made with this
           number would be too good. It is for comparison, never for scoring.

`decode([id])` is never used to count: it turns half a character into U+FFFD.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from base.errors import CheckFailed
from data.tokenizer import Ids, Tokenizer

COUNTED_BLOCK = 1 << 20  # tokens at a time, so that a book in one document does not take many times its size


def bits_per_byte(nats: float, size_bytes: int) -> float:
    if size_bytes <= 0:
        raise CheckFailed(f"{size_bytes} bytes were scored: there is nothing to divide by")
    if not math.isfinite(nats):
        raise CheckFailed(f"the losses add up to {nats}: no text has such a length")
    return nats / math.log(2) / size_bytes


class ByteTable:
    """`exact[id]` bytes for each id of one tokenizer, and `join` to prove them against decoded text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = tokenizer.pieces()
        self.vocab_size = len(pieces)
        self._spellings = np.array([piece.spelling for piece in pieces], object)
        self._transform = tokenizer.transform
        self.exact = np.array([len(piece.data) for piece in pieces], np.int64)
        self._contest = np.array([piece.contest_bytes for piece in pieces], np.int64)
        self._leading_space = np.array([piece.leading_space for piece in pieces])
        self.boundary = np.array([piece.boundary for piece in pieces])

    def totals(self, tokens: Ids | npt.NDArray[np.integer], before: int) -> tuple[int, int]:
        """(exact, contest) bytes of a run of tokens that follows the token `before`, a block at a time."""
        exact = contest = 0
        for start in range(0, len(tokens), COUNTED_BLOCK):
            targets = np.asarray(tokens[start : start + COUNTED_BLOCK])
            previous = np.concatenate([[before], targets[:-1]])
            exact += int(self.exact_bytes(targets).sum())
            contest += int(self.contest_bytes(previous, targets).sum())
            before = int(targets[-1])
        return exact, contest

    def join(self, ids: Sequence[int] | Ids) -> bytes:
        """The bytes that `exact` counts, to be compared with the text itself."""
        spelled = b"".join(self._spellings[np.asarray(ids, np.int64)].tolist())
        return self._transform.unfold_bytes(spelled)

    def exact_bytes(self, targets: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Bytes of each target token."""
        counted: npt.NDArray[np.int64] = self.exact[self._checked(targets)]
        return counted

    def contest_bytes(self, previous: npt.ArrayLike, targets: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Bytes of each target under the contest's rule, which depends on the token before it."""
        target = self._checked(targets)
        uncounted: npt.NDArray[np.bool_] = self._leading_space[target] & self.boundary[self._checked(previous)]
        counted: npt.NDArray[np.int64] = self._contest[target] - uncounted
        return counted

    def _checked(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Ids as indices; one outside the vocabulary is an error, never clamped or wrapped."""
        array = np.asarray(ids).astype(np.int64)
        if array.size and not (0 <= array.min() and array.max() < self.vocab_size):
            outside = array[(array < 0) | (array >= self.vocab_size)].flat[0]
            raise ValueError(f"token {outside} is outside the tokenizer's vocabulary of {self.vocab_size}")
        return array
