"""Integers -> bytes -> the same integers: zstd over one contiguous stream, or an adaptive range coder with contexts.

The range coder goes row by row. An entry's context is the magnitude expected there: the running mean of |q| in its
column, over the rows and tensors of the stream so far, times the row's own factor, which is sent first (a quarter of an
octave each). One adaptive table of frequencies for every quarter of an octave of that magnitude, shared by the whole
stream, and another where a trellis holds its staggered grid: nothing but the row factors travels beside the integers.
All state is whole numbers, so that every machine decodes the same; the arithmetic coder is constriction's.
"""

import math
from collections.abc import Sequence

import constriction
import numpy as np
import numpy.typing as npt
import zstandard

from quant.dequant import Integers
from quant.trellis import States

LEVEL = 22
LARGEST_WINDOW = 1 << 27  # what level 22 may ask of a reader
FACTORS = 33  # row factors: 2^(-16/4) … 2^(16/4), in 1/256
MEMORY = 64  # rows over which a column's mean forgets
GAIN, START = 192, 8192  # what one symbol adds to its table, and what a table begins with

FULL = 1 << 26  # a table's total before it forgets half: no frequency falls below what the coder can tell from 0

Frequencies = npt.NDArray[np.int64]


def _quarter(exponent: int, scale_bits: int) -> int:
    """floor(2^(exponent/4 + scale_bits)), in whole numbers alone."""
    return math.isqrt(math.isqrt(1 << (4 * scale_bits + exponent)))


FACTOR = np.array([_quarter(n - FACTORS // 2, 8) for n in range(FACTORS)], np.int64)
EDGES = np.array([_quarter(n, 8) for n in range(-16, 25)], np.int64)  # expected |q| from 1/16 to 64, in 1/256


class Contexts:
    """What encoder and decoder both know before each row; one for a whole stream."""

    def __init__(self, largest: int) -> None:
        """Symbols are -largest … largest."""
        self.largest = largest
        symbol = 256.0 * np.arange(-largest, largest + 1)  # (S,)
        width = np.append(EDGES, EDGES[-1]).astype(np.float64)[:, None]  # (contexts, 1)
        heavy = 1 / (1 + (symbol / width) ** 2) ** 2  # a bell with thick tails, from + * / alone
        tables = np.floor(START * heavy / heavy.sum(1, keepdims=True)).astype(np.int64) + 1
        self.tables: Frequencies = np.concatenate([tables, tables])  # of the plain grid, of the staggered one
        self.factors: Frequencies = np.full(FACTORS, 16, np.int64)
        self.columns: Frequencies = np.empty(0, np.int64)
        self.states: States | None = None
        self.rows = 0

    def begin(self, columns: int, trellis: bool) -> None:
        """A new matrix: nothing is known of its columns but what its first rows will tell."""
        self.columns = np.full(columns, 1 << 16, np.int64)  # |q| of 1, in 1/65536
        self.states = States(columns) if trellis else None
        self.rows = 0

    def expected(self, factor: int) -> npt.NDArray[np.int64]:
        """The context of each column in a row of this factor."""
        contexts: Frequencies = np.searchsorted(EDGES, (self.columns >> 8) * FACTOR[factor] >> 8, side="right")
        return contexts if self.states is None else contexts + (len(EDGES) + 1) * self.states.staggered

    def best_factor(self, row: npt.NDArray[np.int64]) -> int:
        """The encoder's choice, from the row itself."""
        ratio = max(int(np.abs(row).sum()), 1e-2) * 65536 / max(int(self.columns.sum()), 1)
        return int(np.clip(round(4 * math.log2(ratio)), -(FACTORS // 2), FACTORS // 2)) + FACTORS // 2

    def learn(self, factor: int, row: npt.NDArray[np.int64]) -> None:
        self.factors[factor] += 64
        self.rows += 1
        if self.states is not None:
            self.states.move(row)
        seen = (np.abs(row) << 24) // FACTOR[factor]
        self.columns += (seen - self.columns) // min(self.rows + 1, MEMORY)

    def learn_symbols(self, context: int, symbols: npt.NDArray[np.int64]) -> None:
        table = self.tables[context]
        table += GAIN * np.bincount(symbols, minlength=2 * self.largest + 1)
        if table.sum() > FULL:
            table -= table // 2


def _model(frequencies: Frequencies) -> constriction.stream.model.Categorical:
    # In fp32 its cumulative sums round, and a rare symbol beside frequent ones loses its whole range.
    return constriction.stream.model.Categorical(frequencies.astype(np.float64), perfect=False)


def encode_ranges(matrices: Sequence[Integers], trellises: Sequence[bool]) -> bytes:
    """`trellises`: which of the matrices are on staggered grids."""
    largest = max((int(np.abs(m.astype(np.int64)).max()) for m in matrices if m.size), default=0)
    if not largest:
        return bytes([0])  # nothing but zeros
    contexts, coder = Contexts(largest), constriction.stream.queue.RangeEncoder()
    for matrix, trellis in zip(matrices, trellises, strict=True):
        if not matrix.size:
            continue
        contexts.begin(matrix.shape[1], trellis)
        for row in matrix.astype(np.int64):
            factor = contexts.best_factor(row)
            coder.encode(np.array([factor], np.int32), _model(contexts.factors))
            where = contexts.expected(factor)
            for context in np.unique(where):
                symbols = row[where == context] + largest
                coder.encode(symbols.astype(np.int32), _model(contexts.tables[context]))
                contexts.learn_symbols(context, symbols)
            contexts.learn(factor, row)
    coded: bytes = coder.get_compressed().astype("<u4").tobytes()
    return bytes([largest]) + coded


def decode_ranges(data: bytes, shapes: Sequence[tuple[int, int]], trellises: Sequence[bool]) -> list[Integers]:
    """Raises ValueError for bytes that no encoder made."""
    if len(data) % 4 != 1 or data[0] > 128:
        raise ValueError("not a stream of ranges")
    if not data[0]:
        return [np.zeros(shape, np.int8) for shape in shapes]
    contexts = Contexts(data[0])
    try:
        coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4", offset=1).astype(np.uint32))
        return [_decode_matrix(coder, contexts, *form) for form in zip(shapes, trellises, strict=True)]
    except AssertionError as error:  # what constriction raises where a symbol has no range
        raise ValueError(f"a damaged stream of ranges: {error}") from None


def _decode_matrix(
    coder: constriction.stream.queue.RangeDecoder, contexts: Contexts, shape: tuple[int, int], trellis: bool
) -> Integers:
    matrix = np.empty(shape, np.int8)
    if not matrix.size:
        return matrix
    contexts.begin(shape[1], trellis)
    row = np.empty(shape[1], np.int64)
    for number in range(shape[0]):
        factor = int(coder.decode(_model(contexts.factors), 1)[0])
        where = contexts.expected(factor)
        for context in np.unique(where):
            here = where == context
            symbols = coder.decode(_model(contexts.tables[context]), int(here.sum())).astype(np.int64)
            row[here] = symbols - contexts.largest
            contexts.learn_symbols(context, symbols)
        contexts.learn(factor, row)
        matrix[number] = row
    return matrix


def encode_zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=False).compress(data)


def decode_zstd(data: bytes, size: int) -> bytes:
    """Exactly `size` bytes; never more memory than that. Raises ValueError otherwise."""
    try:
        said = zstandard.get_frame_parameters(data)
        if said.content_size not in (size, zstandard.CONTENTSIZE_UNKNOWN) or said.window_size > LARGEST_WINDOW:
            raise ValueError(f"a zstd stream that declares {said.content_size} bytes where {size} are due")
        plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"a damaged zstd stream: {error}") from None
    if len(plain) != size:
        raise ValueError(f"a zstd stream of {len(plain)} bytes where {size} are due")
    return plain
