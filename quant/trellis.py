"""Dependent quantization: two staggered grids and a state that chooses between them; a third fewer squared errors.

An eight-state machine runs down each column, moved by the parity of every integer. In four of its states the integer k
means k steps; in the others k less half a step towards zero (0 stays 0). Together the two grids are twice as fine as
one, at nearly its rate (trellis-coded quantization, Marcellin and Fischer 1990; the states are those of NNCodec). The
machine restarts every SEGMENT rows, so that all segments are searched at once, and runs down columns, so that a reader
knows the states of a row before decoding it. Which integers are best: quant/trellis_search.py.
"""

import numpy as np
import numpy.typing as npt

from quant.compiled import compiled

SEGMENT = 64
NEXT = np.array([[0, 2], [5, 7], [1, 3], [6, 4], [2, 0], [4, 6], [3, 1], [7, 5]])  # (state, parity) -> state
STAGGERED = np.arange(8) % 2

Values = npt.NDArray[np.float32]


def halves(integers: npt.NDArray[np.integer]) -> Values:
    """(rows, columns) integers -> their values, in half steps."""
    values = np.empty(integers.shape, np.float32)
    _value(integers, values)
    return values


@compiled
def _value(integers: npt.NDArray[np.integer], values: Values) -> None:
    states = np.zeros(integers.shape[1], np.int64)
    for row in range(len(integers)):
        if row % SEGMENT == 0:
            states[:] = 0
        for column, integer in enumerate(integers[row]):
            state = states[column]
            values[row, column] = 2 * integer - STAGGERED[state] * np.sign(integer)
            states[column] = NEXT[state, integer & 1]
