"""Schedules as pure functions of progress in [0, 1]: numbers in, a number out, no steps and no clock."""

import math
from typing import Literal

Fall = Literal["linear", "cosine"]


def learning_rate(
    progress: float, warmup: float = 0.0, warmdown: float = 0.0, floor: float = 0.0, shape: Fall = "linear"
) -> float:
    """The multiplier: up over the first `warmup` of the run, 1, down to `floor` over the last `warmdown` of it."""
    if progress < warmup:
        return _eased(progress / warmup, shape)
    left = 1.0 - progress
    if warmdown and left < warmdown:
        return floor + (1.0 - floor) * _eased(max(left, 0.0) / warmdown, shape)
    return 1.0


def momentum(progress: float, start: float, end: float, warmup: float) -> float:
    """Linear from `start` to `end` over the first `warmup` of the run."""
    return end if progress >= warmup else start + (end - start) * progress / warmup


def _eased(share: float, shape: Fall) -> float:
    return share if shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * share)
