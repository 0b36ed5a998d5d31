"""Integers -> bytes -> the same integers: zstd over one contiguous stream, or an adaptive range coder with contexts.

The range coder works row by row. An entry's context is the magnitude expected there: the running mean of |q| in its
column times the row's own factor, which is sent first. Each quarter of an octave of that magnitude has an adaptive
table of frequencies, and a second one for entries on a trellis's staggered grid. All state is integer, so that every
machine decodes the same.
"""

import math
from collections.abc import Callable, Sequence

import constriction
import numpy as np
import numpy.typing as npt
import zstandard

from quant.dequant import Integers
from quant.trellis import States

LEVEL = 22
LARGEST_WINDOW = 1 << 27  # the most memory that level 22 needs in a reader
FACTORS = 33  # row factors: 2^(-16/4) … 2^(16/4), in 1/256
MEMORY = 64  # rows that a column's running mean remembers
START = 8192  # total of a new table
GAIN = 192  # what one symbol adds to it
FULL = 1 << 26  # a table's total before it is halved: no frequency falls below what the coder can tell from 0

Frequencies = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.integer]
Exchange = Callable[[Frequencies, Symbols], Symbols]


def _quarter(exponent: int, scale_bits: int) -> int:
    """floor(2^(exponent/4 + scale_bits)), by integer arithmetic alone."""
    return math.isqrt(math.isqrt(1 << (4 * scale_bits + exponent)))


FACTOR = np.array([_quarter(n - FACTORS // 2, 8) for n in range(FACTORS)], np.int64)
EDGES = np.array([_quarter(n, 8) for n in range(-16, 25)], np.int64)  # expected |q| from 1/16 to 64, in 1/256


class Contexts:
    """What encoder and decoder both know before each row of a stream."""

    def __init__(self, largest: int) -> None:
        """Symbols are -largest … largest."""
        self.largest = largest
        symbol = 256.0 * np.arange(-largest, largest + 1)  # (S,)
        width = np.append(EDGES, EDGES[-1]).astype(np.float64)[:, None]  # (contexts, 1)
        bell = 1 / (1 + (symbol / width) ** 2) ** 2  # with thick tails, and made by + * / alone: exact on every machine
        tables = np.floor(START * bell / bell.sum(1, keepdims=True)).astype(np.int64) + 1
        self.tables: Frequencies = np.concatenate([tables, tables])  # plain grid, then staggered grid
        self.factors: Frequencies = np.full(FACTORS, 16, np.int64)
        self.columns: Frequencies = np.empty(0, np.int64)
        self.states: States | None = None
        self.rows = 0

    def begin(self, columns: int, trellis: bool) -> None:
        """Start a new matrix, of whose columns nothing is known yet."""
        self.columns = np.full(columns, 1 << 16, np.int64)  # |q| of 1, in 1/65536
        self.states = States(columns) if trellis else None
        self.rows = 0

    def expected(self, factor: int) -> npt.NDArray[np.int64]:
        """(columns,) the context of each entry in a row of this factor."""
        contexts: Frequencies = np.searchsorted(EDGES, (self.columns >> 8) * FACTOR[factor] >> 8, side="right")
        return contexts if self.states is None else contexts + (len(EDGES) + 1) * self.states.staggered

    def best_factor(self, row: Symbols) -> int:
        """The encoder's choice, from the row itself."""
        ratio = max(int(np.abs(row).sum()), 1e-2) * 65536 / max(int(self.columns.sum()), 1)
        return int(np.clip(round(4 * math.log2(ratio)), -(FACTORS // 2), FACTORS // 2)) + FACTORS // 2

    def learn(self, factor: int, row: Symbols) -> None:
        self.factors[factor] += 64
        self.rows += 1
        if self.states is not None:
            self.states.move(row)
        seen = (np.abs(row).astype(np.int64) << 24) // FACTOR[factor]
        self.columns += (seen - self.columns) // min(self.rows + 1, MEMORY)

    def learn_symbols(self, context: int, symbols: Symbols) -> None:
        table = self.tables[context]
        table += GAIN * np.bincount(symbols, minlength=2 * self.largest + 1)
        if table.sum() > FULL:
            table -= table // 2


def categorical(frequencies: Frequencies) -> constriction.stream.model.Categorical:
    # In fp32 its cumulative sums round, and a rare symbol beside frequent ones loses its whole range.
    return constriction.stream.model.Categorical(frequencies.astype(np.float64), perfect=False)


def encode_ranges(matrices: Sequence[Integers], trellises: Sequence[bool]) -> bytes:
    """`trellises` says which of the matrices are on staggered grids."""
    largest = max((int(np.abs(m.astype(np.int64)).max()) for m in matrices if m.size), default=0)
    if not largest:
        return bytes([0])  # nothing but zeros
    coder = constriction.stream.queue.RangeEncoder()

    def send(frequencies: Frequencies, symbols: Symbols) -> Symbols:
        coder.encode(symbols.astype(np.int32), categorical(frequencies))
        return symbols

    _code([matrix.astype(np.int16) for matrix in matrices], trellises, largest, send)
    coded: bytes = coder.get_compressed().astype("<u4").tobytes()
    return bytes([largest]) + coded


def decode_ranges(data: bytes, shapes: Sequence[tuple[int, int]], trellises: Sequence[bool]) -> list[Integers]:
    """The matrices of these shapes; ValueError for bytes that no encoder made."""
    if len(data) % 4 != 1 or data[0] > 128:
        raise ValueError("not a range-coded stream")
    matrices = [np.zeros(shape, np.int16) for shape in shapes]
    if data[0]:
        coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4", offset=1).astype(np.uint32))

        def receive(frequencies: Frequencies, symbols: Symbols) -> Symbols:
            received: Symbols = coder.decode(categorical(frequencies), len(symbols)).astype(np.int64)
            return received

        try:
            _code(matrices, trellises, data[0], receive)
        except AssertionError as error:  # what constriction raises where a symbol has no range
            raise ValueError(f"a damaged range-coded stream: {error}") from None
    return [matrix.astype(np.int8) for matrix in matrices]


def _code(matrices: Sequence[Symbols], trellises: Sequence[bool], largest: int, exchange: Exchange) -> None:
    """Encoder and decoder in one, so that they cannot part ways: `exchange` sends the symbols that it is given, or
    returns as many received ones; the matrices then hold those."""
    contexts = Contexts(largest)
    for matrix, trellis in zip(matrices, trellises, strict=True):
        if not matrix.size:
            continue
        contexts.begin(matrix.shape[1], trellis)
        for row in matrix:
            factor = int(exchange(contexts.factors, np.array([contexts.best_factor(row)]))[0])
            where = contexts.expected(factor)
            for context in np.unique(where):
                here = where == context
                symbols = exchange(contexts.tables[context], row[here] + largest)
                row[here] = symbols - largest
                contexts.learn_symbols(context, symbols)
            contexts.learn(factor, row)


def entropy_bits(integers: Integers) -> float:
    """Order-0 entropy of one matrix, in bits: what a coder without contexts cannot beat."""
    counts = np.unique(integers, return_counts=True)[1].astype(np.float64)
    return float(-(counts * np.log2(counts / counts.sum())).sum()) if integers.size else 0.0


def encode_zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=False).compress(data)


def decode_zstd(data: bytes, size: int) -> bytes:
    """Exactly `size` bytes; never more memory than that. Raises ValueError otherwise."""
    try:
        frame = zstandard.get_frame_parameters(data)  # before the library allocates what the frame declares
        if frame.content_size not in (size, zstandard.CONTENTSIZE_UNKNOWN) or frame.window_size > LARGEST_WINDOW:
            raise ValueError(f"a zstd stream that declares {frame.content_size} bytes where {size} are due")
        plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"a damaged zstd stream: {error}") from None
    if len(plain) != size:
        raise ValueError(f"a zstd stream of {len(plain)} bytes where {size} are due")
    return plain
