"""The sliding window's plan: which positions of which window are scored, every target exactly once.

Targets are numbered 0 … n-1; target i is token i+1 of the stream, predicted from the tokens up to i. A window
[start, end) feeds tokens start … end-1 and scores its positions from `score_from` on. Windows begin at 0, stride,
2·stride, …; one is kept only if it adds a target, the first scores all its positions, the others what no window
before them scored (their last `stride`; the last one may be shorter). Numbers in, numbers out.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Windows(NamedTuple):
    start: npt.NDArray[np.int64]  # (W,)
    end: npt.NDArray[np.int64]  # (W,) exclusive
    score_from: npt.NDArray[np.int64]  # (W,) start <= score_from < end, in the stream's numbering


def plan_windows(targets: int, context: int, stride: int) -> Windows:
    """The plan for a stream of `targets` targets (one fewer than its tokens)."""
    if targets < 1:
        raise ValueError(f"{targets} targets: a stream to score has at least two tokens")
    if not 1 <= stride <= context:
        raise ValueError(f"stride {stride} is not between 1 and the context of {context}: targets would be skipped")
    more = max(0, -(-(targets - context) // stride))  # windows after the first that add a target
    start = np.arange(1 + more, dtype=np.int64) * stride
    score_from = start + (context - stride)
    score_from[0] = 0
    return Windows(start, np.minimum(start + context, targets), score_from)
