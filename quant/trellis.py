"""Dependent quantization: two staggered grids, and a state that says which of them holds; a third fewer squared errors.

Down each column an eight-state machine runs, moved by the parity of every integer. In four of its states the integer k
stands for k steps; in the others for k less half a step towards zero (0 stays 0). Together the two grids are twice as
fine as the one, at nearly its rate; `search` finds the integers whose weights lie closest (trellis-coded quantization,
Marcellin and Fischer 1990; the states are those of NNCodec's and ECM's dependent quantization).
The machine begins anew every SEGMENT rows, so that whole columns and segments can be searched at once, and goes down
columns, so that a reader knows the states of a row before it decodes it.
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
SUBSET = 2 * STAGGERED[CAME_FROM] + PARITY  # (8, 2) which of the four sets below the way's value is out of
OFFSET = np.array([[0], [2], [3], [1]], np.float32)  # half steps: 0 4 8 …, 2 6 …, 0 3 7 …, 1 5 …


class States:
    """Of all columns, row by row."""

    def __init__(self, columns: int) -> None:
        self._states, self._row = np.zeros(columns, np.int64), 0

    @property
    def staggered(self) -> Flags:
        flags: Flags = STAGGERED[self._states]
        return flags

    def move(self, row: npt.NDArray[np.integer]) -> None:
        self._row += 1
        self._states = NEXT[self._states, row & 1] if self._row % SEGMENT else np.zeros_like(self._states)


def halves(integers: npt.NDArray[np.integer]) -> Halves:
    """(rows, columns) integers -> what they stand for, in half steps."""
    states, found = States(integers.shape[1]), 2 * integers.astype(np.float32)
    for number, row in enumerate(integers):
        found[number] -= states.staggered * np.sign(row)
        states.move(row)
    return found


def search(wanted: npt.NDArray[np.floating], largest: int) -> npt.NDArray[np.int64]:
    """(rows, columns) half steps -> the integers, none beyond `largest`, that stand for the closest (Viterbi 1967)."""
    rows, columns = wanted.shape
    segments = -(-rows // SEGMENT)
    padded = np.zeros((segments, SEGMENT, columns), np.float32)
    padded.reshape(-1, columns)[:rows] = wanted
    runs = padded.transpose(1, 0, 2).reshape(SEGMENT, -1)  # (SEGMENT, N): every run begins in state 0
    integers, errors = _closest(runs, largest)
    first, other = (errors[:, SUBSET[:, way]] for way in (0, 1))  # (SEGMENT, 8, N) of the two ways into each state
    total = np.full((8, runs.shape[1]), np.inf, np.float32)
    total[0] = 0
    turned = np.empty(first.shape, np.bool_)  # the other way is the better
    for at in range(SEGMENT):
        one, two = total[CAME_FROM[:, 0]] + first[at], total[CAME_FROM[:, 1]] + other[at]
        turned[at], total = two < one, np.minimum(one, two)
    found, state, every = np.empty(runs.shape, np.int64), total.argmin(0), np.arange(runs.shape[1])
    for at in reversed(range(SEGMENT)):
        way = turned[at, state, every].astype(np.int64)
        found[at] = integers[at, SUBSET[state, way], every]
        state = CAME_FROM[state, way]
    plain: npt.NDArray[np.int64] = found.reshape(SEGMENT, segments, columns).transpose(1, 0, 2).reshape(-1, columns)
    return plain[:rows]


def _closest(wanted: Halves, largest: int) -> tuple[npt.NDArray[np.int64], Halves]:
    """(SEGMENT, N) -> (SEGMENT, 4, N) the integer of each subset that is closest, and its squared error."""
    parity, staggered = np.array([[0], [1], [0], [1]]), np.array([[0], [0], [1], [1]])
    size = np.abs(wanted)[:, None]
    value = 4 * np.rint((size - OFFSET) / 4) + OFFSET
    value[:, 2][size[:, 0] < 1.5] = 0
    most = largest - (largest - parity) % 2  # of each parity
    value = np.minimum(value, np.maximum(2 * most - staggered, 0).astype(np.float32))
    integers = (value + staggered * (value > 0)) // 2 * np.where(wanted < 0, -1, 1)[:, None]
    return integers.astype(np.int64), np.square(value - size)
