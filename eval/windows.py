"""The sliding window's plan: which positions of which window are scored, every target exactly once.

Targets are numbered 0 … n-1; target i is token i+1 of the stream, predicted from the tokens up to i. A window
[start, end) feeds tokens start … end-1 and scores its positions from `score_from` on. Windows begin at 0, stride,
2·stride, …; one is kept only if it adds a target, the first scores all its positions, the others what no window
before them scored (their last `stride`; the last one may be shorter). Documents may be planned one by one, so that no
window reaches from one into the next. Numbers in, numbers out.
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
    return plan_documents(np.zeros(1, np.int64), targets, context, stride)


def plan_documents(begins: npt.NDArray[np.integer], targets: int, context: int, stride: int) -> Windows:
    """The plans of parts of one stream, each as if it were alone; part k goes from token begins[k] to begins[k + 1].

    What begins the next part is the last target of this one: predicted from this part's text, as its end.
    """
    if targets < 1:
        raise ValueError(f"{targets} targets: a stream to score has at least two tokens")
    if not 1 <= stride <= context:
        raise ValueError(f"stride {stride} is not between 1 and the context of {context}: targets would be skipped")
    begins = begins[begins < targets].astype(np.int64)  # one token at the very end predicts nothing
    ends = np.append(begins[1:], targets)
    if begins[:1].tolist() != [0] or (ends <= begins).any():
        raise ValueError("parts of a stream begin at its token 0, then each after the one before")
    more = np.maximum(0, -(-(ends - begins - context) // stride))  # windows after a part's first that add a target
    part = np.repeat(np.arange(len(begins)), 1 + more)
    number = np.arange(len(part)) - np.repeat(np.cumsum(1 + more) - (1 + more), 1 + more)  # of each window in its part
    start = begins[part] + number * stride
    return Windows(start, np.minimum(start + context, ends[part]), start + np.where(number, context - stride, 0))
