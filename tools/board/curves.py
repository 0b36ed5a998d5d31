"""metrics_seed*.jsonl -> the training loss over time, smoothed and thinned to what a small chart can show."""

import json
import math
from typing import Any, NamedTuple

from base.errors import BadInput

POINTS = 120
SMOOTHED = 0.95  # of the running mean that stays at each step: as the run's own picture does


class Curve(NamedTuple):
    seconds: tuple[float, ...]
    losses: tuple[float, ...]  # nats a token


def parse_metrics(data: bytes, name: str) -> Curve:
    """Lines that have a loss; a line that is none of JSON's objects spoils the file."""
    steps: list[tuple[float, float]] = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            row: Any = json.loads(line)
            if "loss" in row:
                steps.append((float(row["elapsed_s"]), float(row["loss"])))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise BadInput(f"{name}: line {number} holds no step and no validation") from None
        if steps and not all(math.isfinite(value) and abs(value) < 1e9 for value in steps[-1]):
            raise BadInput(f"{name}: line {number} has a number that no curve can show")
    if len(steps) < 2:
        raise BadInput(f"{name}: {len(steps)} steps make no curve")
    return thinned(smoothed(sorted(steps, key=lambda step: step[0])))


def smoothed(steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A running mean whose start counts fully: the first value is the first loss."""
    found, total, weight = [], 0.0, 0.0
    for at, loss in steps:
        total, weight = SMOOTHED * total + (1 - SMOOTHED) * loss, SMOOTHED * weight + (1 - SMOOTHED)
        found.append((at, total / weight))
    return found


def thinned(steps: list[tuple[float, float]]) -> Curve:
    """At most POINTS of them, evenly, the last among them."""
    count = min(POINTS, len(steps))
    picked = [steps[round(i * (len(steps) - 1) / (count - 1))] for i in range(count)]
    seconds, losses = zip(*picked, strict=True)
    return Curve(seconds, losses)
