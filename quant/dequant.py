"""The weight of an integer: integer * step * row * column, the same bits on every machine.

With a trellis the integer's value may be half a step less (quant.trellis). Row factors are fp16 scales or exponents in
eighths of an octave, column factors exponents; each may be absent. 2^(n/8) comes from a table, and only products of
fp32 numbers are computed, which IEEE arithmetic defines to the last bit.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quant.trellis import halves

Integers = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]

# 2^(n/8) for n = 0 … 7, rounded to fp32; octaves are exact.
EIGHTHS = np.array(
    [1.0, 1.0905077, 1.1892071, 1.2968396, 1.4142135, 1.5422108, 1.6817929, 1.8340081], np.float32
)  # fmt: skip


@dataclass(frozen=True)
class Grid:
    step: float = 1.0  # fp32
    row_scales: npt.NDArray[np.float16] | None = None  # (rows,)
    row_exponents: Integers | None = None  # (rows,) eighths of an octave
    column_exponents: Integers | None = None  # (columns,) eighths of an octave
    trellis: bool = False

    def row_steps(self, count: int) -> Floats:
        """(rows,) the step of each row, before the column's factor."""
        steps = np.full(count, self.step, np.float32)
        if self.row_scales is not None:
            steps = steps * self.row_scales.astype(np.float32)
        return steps if self.row_exponents is None else steps * octaves(self.row_exponents)

    def column_factors(self, count: int) -> Floats:
        return np.ones(count, np.float32) if self.column_exponents is None else octaves(self.column_exponents)

    def values(self, integers: Integers) -> Floats:
        """(rows, columns) the values of the integers, in steps; exact."""
        return halves(integers) * np.float32(0.5) if self.trellis else integers.astype(np.float32)

    def weights(self, integers: Integers) -> Floats:
        """(rows, columns) integers -> weights."""
        rows, columns = integers.shape
        return (self.values(integers) * self.row_steps(rows)[:, None]) * self.column_factors(columns)


def octaves(eighths: Integers) -> Floats:
    exponents = eighths.astype(np.int32)
    factors: Floats = np.ldexp(EIGHTHS[exponents % 8], exponents // 8).astype(np.float32)
    return factors


def to_eighths(factors: npt.NDArray[np.floating]) -> Integers:
    """The nearest eighths of an octave of positive factors."""
    eighths: Integers = np.clip(np.round(8 * np.log2(factors)), -127, 127).astype(np.int8)
    return eighths
