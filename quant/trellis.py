"""Dependent quantization: two staggered grids and a state that chooses between them; a third fewer squared errors.

An eight-state machine runs down each column, moved by the parity of every integer. In four of its states the integer k
means k steps; in the others k less half a step towards zero (0 stays 0). Together the two grids are twice as fine as
one, at nearly its rate (trellis-coded quantization, Marcellin and Fischer 1990; the states are those of NNCodec). The
machine restarts every SEGMENT rows, so that all segments are searched at once, and runs down columns, so that a reader
knows the states of a row before decoding it.
"""

import numpy as np
import numpy.typing as npt

Halves = npt.NDArray[np.float32]  # whole numbers of half steps
Flags = npt.NDArray[np.bool_]

SEGMENT = 64
NEXT = np.array([[0, 2], [5, 7], [1, 3], [6, 4], [2, 0], [4, 6], [3, 1], [7, 5]])  # (state, parity) -> state
STAGGERED = np.arange(8) % 2 == 1
# The two ways into each state: where from, and with which parity.
CAME_FROM = np.array([[s for s in range(8) if t in NEXT[s]] for t in range(8)])  # (8, 2)
PARITY = np.array([[int(NEXT[s, 1] == t) for s in CAME_FROM[t]] for t in range(8)])
SUBSET = 2 * STAGGERED[CAME_FROM] + PARITY  # (8, 2) which of the four sets below the value of that way is from
OFFSET = np.array([[0], [2], [3], [1]], np.float32)  # half steps: 0 4 8 …, 2 6 …, 0 3 7 …, 1 5 …


class States:
    """The states of all columns, advanced row by row."""

    def __init__(self, columns: int) -> None:
        self._states = np.zeros(columns, np.int64)
        self._row = 0

    @property
    def staggered(self) -> Flags:
        flags: Flags = STAGGERED[self._states]
        return flags

    def move(self, row: npt.NDArray[np.integer]) -> None:
        self._row += 1
        self._states = NEXT[self._states, row & 1] if self._row % SEGMENT else np.zeros_like(self._states)


def halves(integers: npt.NDArray[np.integer]) -> Halves:
    """(rows, columns) integers -> their values, in half steps."""
    states = States(integers.shape[1])
    values = 2 * integers.astype(np.float32)
    for number, row in enumerate(integers):
        values[number] -= states.staggered * np.sign(row)
        states.move(row)
    return values


def search(wanted: npt.NDArray[np.floating], largest: int) -> npt.NDArray[np.int64]:
    """(rows, columns) half steps -> the integers within ±`largest` whose values lie closest (Viterbi 1967)."""
    rows, columns = wanted.shape
    segments = -(-rows // SEGMENT)
    padded = np.zeros((segments, SEGMENT, columns), np.float32)
    padded.reshape(-1, columns)[:rows] = wanted
    runs = padded.transpose(1, 0, 2).reshape(SEGMENT, -1)  # (SEGMENT, N): every run begins in state 0
    integers, errors = _closest(runs, largest)
    first, second = errors[:, SUBSET[:, 0]], errors[:, SUBSET[:, 1]]  # (SEGMENT, 8, N) of the two ways into each state
    total = np.full((8, runs.shape[1]), np.inf, np.float32)
    total[0] = 0
    took_second = np.empty(first.shape, np.bool_)
    for at in range(SEGMENT):
        by_first = total[CAME_FROM[:, 0]] + first[at]
        by_second = total[CAME_FROM[:, 1]] + second[at]
        took_second[at] = by_second < by_first
        total = np.minimum(by_first, by_second)
    path = np.empty(runs.shape, np.int64)
    state = total.argmin(0)
    every = np.arange(runs.shape[1])
    for at in reversed(range(SEGMENT)):
        way = took_second[at, state, every].astype(np.int64)
        path[at] = integers[at, SUBSET[state, way], every]
        state = CAME_FROM[state, way]
    found: npt.NDArray[np.int64] = path.reshape(SEGMENT, segments, columns).transpose(1, 0, 2).reshape(-1, columns)
    return found[:rows]


def _closest(wanted: Halves, largest: int) -> tuple[npt.NDArray[np.int64], Halves]:
    """(SEGMENT, N) -> (SEGMENT, 4, N) the closest integer of each subset, and its squared error."""
    parity = np.array([[0], [1], [0], [1]])
    staggered = np.array([[0], [0], [1], [1]])
    size = np.abs(wanted)[:, None]
    value = 4 * np.rint((size - OFFSET) / 4) + OFFSET
    value[:, 2][size[:, 0] < 1.5] = 0
    largest_of_parity = largest - (largest - parity) % 2
    value = np.minimum(value, np.maximum(2 * largest_of_parity - staggered, 0).astype(np.float32))
    integers = (value + staggered * (value > 0)) // 2 * np.where(wanted < 0, -1, 1)[:, None]
    return integers.astype(np.int64), np.square(value - size)
