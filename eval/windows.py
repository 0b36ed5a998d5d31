"""The sliding window's plan: which positions of which window are scored, every target exactly once.

Targets are numbered 0 … n-1; target i is token i+1 of the stream, predicted from the tokens up to i. A window
[start, end) feeds tokens start … end-1 and scores its positions from `score_from` on. Windows begin at 0, stride,
2·stride, …; one is kept only if it adds a target. The first scores all its positions, the others what no window
before them scored: their last `stride`, or fewer at the end.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Windows(NamedTuple):
    """In the order of the text."""

    start: npt.NDArray[np.int64]  # (W,)
    end: npt.NDArray[np.int64]  # (W,) exclusive
    score_from: npt.NDArray[np.int64]  # (W,) start <= score_from < end, in the stream's numbering

    def select(self, which: slice | npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Windows":
        return Windows(self.start[which], self.end[which], self.score_from[which])

    @property
    def targets(self) -> int:
        """How many targets these windows score."""
        return int((self.end - self.score_from).sum())


def plan_windows(targets: int, context: int, stride: int) -> Windows:
    """The plan for a stream of `targets` targets (one fewer than its tokens)."""
    return plan_documents(np.zeros(1, np.int64), targets, context, stride)


def find_begins(tokens: npt.NDArray[np.integer], mark: int) -> npt.NDArray[np.int64]:
    """Where each document of a stream begins: at its mark, and at token 0 where the stream begins within one."""
    begins = np.flatnonzero(tokens == mark)
    return begins if begins[:1].tolist() == [0] else np.insert(begins, 0, 0)


def plan_documents(begins: npt.NDArray[np.integer], targets: int, context: int, stride: int) -> Windows:
    """The plans of parts of one stream, each as if it were alone; part k is tokens begins[k] … begins[k + 1] - 1.

    The token that begins the next part is the last target of this one.
    """
    if targets < 1:
        raise ValueError(f"{targets} targets: a stream to score has at least two tokens")
    if not 1 <= stride <= context:
        raise ValueError(f"stride {stride} is not between 1 and the context of {context}: targets would be skipped")
    begins = begins[begins < targets].astype(np.int64)  # a part of one token at the very end predicts nothing
    ends = np.append(begins[1:], targets)
    if begins[:1].tolist() != [0] or (ends <= begins).any():
        raise ValueError("parts of a stream begin at its token 0, then each after the one before")
    windows = 1 + np.maximum(0, -(-(ends - begins - context) // stride))  # of each part: the first, and those that add
    part = np.repeat(np.arange(len(begins)), windows)
    number = np.arange(len(part)) - np.repeat(np.cumsum(windows) - windows, windows)  # of each window in its part
    start = begins[part] + number * stride
    return Windows(start, np.minimum(start + context, ends[part]), start + np.where(number, context - stride, 0))
