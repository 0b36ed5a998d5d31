"""Integers -> bytes -> the same integers: zstd over one contiguous stream, or an adaptive range coder with contexts.

The range coder works row by row. An entry's context is the magnitude expected there: the running mean of |q| in its
column times the row's own factor, which is sent first. Each quarter of an octave of that magnitude has an adaptive
table of frequencies, and a second one for entries on a trellis's staggered grid. All state is integer, and
shares are one division and one product of fp64 numbers, so that every machine decodes the same.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import zstandard

from quant.compiled import compiled
from quant.dequant import Integers
from quant.trellis import NEXT, SEGMENT, STAGGERED

LEVEL = 22
LARGEST_WINDOW = 1 << 27  # the most memory that level 22 needs in a reader
FACTORS = 33  # row factors: 2^(-16/4) … 2^(16/4), in 1/256
MEMORY = 64  # rows that a column's running mean remembers
START = 8192  # total of a new table
GAIN = 192  # what one symbol adds to it
FULL = 1 << 26  # a table's total before it is halved: no frequency falls below what the coder can tell from 0
TOTAL = 1 << 24  # the shares that a table divides an interval into

Frequencies = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]
# The range coder: the low end of its interval (a decoder's: how far its point lies above that), the interval's width,
# the count of words written or read, and whether it decodes.
Coder = npt.NDArray[np.uint64]
LOW, WIDTH, AT, DECODING = range(4)
ALL = (1 << 64) - 1
U = np.uint64


def _quarter(exponent: int, scale_bits: int) -> int:
    """floor(2^(exponent/4 + scale_bits)), by integer arithmetic alone."""
    return math.isqrt(math.isqrt(1 << (4 * scale_bits + exponent)))


FACTOR = np.array([_quarter(n - FACTORS // 2, 8) for n in range(FACTORS)], np.int64)
EDGES = np.array([_quarter(n, 8) for n in range(-16, 25)], np.int64)  # expected |q| from 1/16 to 64, in 1/256
CONTEXT = np.searchsorted(EDGES, np.arange(EDGES[-1] + 1), side="right")  # of an expected |q|


def encode_ranges(matrices: Sequence[Integers], trellises: Sequence[bool]) -> bytes:
    """`trellises` says which of the matrices are on staggered grids."""
    largest = max((int(np.abs(m.astype(np.int16)).max()) for m in matrices if m.size), default=0)
    if not largest:
        return bytes([0])  # nothing but zeros
    symbols = sum(matrix.size + len(matrix) for matrix in matrices)
    words = np.empty(symbols + 2, np.uint32)  # no symbol takes more than 24 bits
    coder = _code(matrices, trellises, largest, np.array([0, ALL, 0, 0], np.uint64), words)
    coded: bytes = words[: _finish(coder, words)].astype("<u4").tobytes()
    return bytes([largest]) + coded


def decode_ranges(data: bytes, shapes: Sequence[tuple[int, int]], trellises: Sequence[bool]) -> list[Integers]:
    """The matrices of these shapes; ValueError for bytes that no encoder made."""
    if len(data) % 4 != 1 or data[0] > 128:
        raise ValueError("not a range-coded stream")
    matrices = [np.zeros(shape, np.int8) for shape in shapes]
    if data[0]:
        words = np.frombuffer(data, "<u4", offset=1).astype(np.uint32)
        first, second = (int(word) for word in np.append(words, [0, 0])[:2])
        coder = _code(matrices, trellises, data[0], np.array([first << 32 | second, ALL, 2, 1], np.uint64), words)
        if int(coder[AT]) - len(words) not in (0, 1):  # words that a decoder has read, beyond those that were written
            raise ValueError(f"a range-coded stream of {len(words)} words, of which {int(coder[AT])} are due")
    elif len(data) > 1:
        raise ValueError("a range-coded stream of zeros, with more behind it")
    return matrices


def _code(matrices: Sequence[Integers], trellises: Sequence[bool], largest: int, coder: Coder, words: Words) -> Coder:
    tables = first_tables(largest)
    factors = np.full(FACTORS, 16, np.int64)
    for matrix, trellis in zip(matrices, trellises, strict=True):
        if matrix.size:
            _code_matrix(matrix, trellis, tables, factors, coder, words)
    return coder


def first_tables(largest: int) -> Frequencies:
    """(contexts, symbols) the frequencies before the first matrix; symbols are -largest … largest."""
    symbol = 256.0 * np.arange(-largest, largest + 1)  # (S,)
    width = np.append(EDGES, EDGES[-1]).astype(np.float64)[:, None]  # (contexts, 1)
    bell = 1 / (1 + (symbol / width) ** 2) ** 2  # with thick tails, and made by + * / alone: exact on every machine
    tables = np.floor(START * bell / bell.sum(1, keepdims=True)).astype(np.int64) + 1
    return np.concatenate([tables, tables])  # plain grid, then staggered grid


@compiled
def _code_matrix(
    matrix: Integers, trellis: bool, tables: Frequencies, factors: Frequencies, coder: Coder, words: Words
) -> None:
    """Encoder and decoder in one, so that they cannot part ways: it sends the integers, or fills in received ones."""
    rows, columns = matrix.shape
    contexts, symbols = tables.shape
    largest = symbols // 2
    means = np.full(columns, 1 << 16)  # of |q|, in 1/65536; of a new matrix nothing is known
    states = np.zeros(columns, np.int64)
    context = np.empty(columns, np.int64)
    order = np.empty(columns, np.int64)
    ends = np.empty(contexts + 1, np.int64)
    bounds = np.empty(max(FACTORS, symbols) + 1, np.int64)
    for r in range(rows):
        _set_bounds(bounds, factors)
        factor = _exchange(bounds, FACTORS, _best_factor(matrix[r], means), coder, words)
        factors[factor] += 64
        ends[:] = 0
        for c in range(columns):
            context[c] = CONTEXT[min((means[c] >> 8) * FACTOR[factor] >> 8, EDGES[-1])]
            if trellis:
                context[c] += contexts // 2 * STAGGERED[states[c]]
            ends[context[c] + 1] += 1
        for n in range(contexts):
            ends[n + 1] += ends[n]
        for c in range(columns):  # by context, and within one from left to right
            order[ends[context[c]]] = c
            ends[context[c]] += 1
        begin = 0
        for n in range(contexts):
            if begin < ends[n]:
                _set_bounds(bounds, tables[n])
                for i in range(begin, ends[n]):
                    at = (r, order[i])
                    matrix[at] = _exchange(bounds, symbols, matrix[at] + largest, coder, words) - largest
                _learn(tables[n], matrix[r], order[begin : ends[n]])
                begin = ends[n]
        for c in range(columns):
            seen = (abs(np.int64(matrix[r, c])) << 24) // FACTOR[factor]
            means[c] += (seen - means[c]) // min(r + 2, MEMORY)
            states[c] = NEXT[states[c], matrix[r, c] & 1] if (r + 1) % SEGMENT else 0


@compiled
def _learn(table: Frequencies, row: Integers, columns: Frequencies) -> None:
    for c in columns:
        table[row[c] + len(table) // 2] += GAIN
    if table.sum() > FULL:
        for symbol in range(len(table)):
            table[symbol] -= table[symbol] // 2


@compiled
def _best_factor(row: Integers, means: Frequencies) -> int:
    """The encoder's choice, from the row itself."""
    size = 0.0
    for integer in row:
        size += abs(float(integer))
    ratio = max(size, 1e-2) * 65536 / max(means.sum(), 1)
    half = FACTORS // 2
    return int(min(max(round(4 * math.log2(ratio)), -half), half)) + half


@compiled
def _set_bounds(bounds: Frequencies, frequencies: Frequencies) -> None:
    """Where each symbol's share of 2^24 begins, and where the last one's ends; each has one at least."""
    scale = (TOTAL - len(frequencies)) / frequencies.sum()
    below = 0
    for symbol in range(len(frequencies)):
        bounds[symbol] = int(below * scale) + symbol
        below += frequencies[symbol]
    bounds[len(frequencies)] = TOTAL


@compiled
def _exchange(bounds: Frequencies, symbols: int, symbol: int, coder: Coder, words: Words) -> int:
    """Sends the symbol, or receives another in its place: constriction's RangeEncoder and RangeDecoder to the bit."""
    scale = coder[WIDTH] >> U(24)
    if coder[DECODING]:
        share = coder[LOW] // scale
        if share >= U(TOTAL):
            raise ValueError("a damaged range-coded stream")
        symbol, above = 0, symbols
        while above - symbol > 1:
            middle = (symbol + above) // 2
            if U(bounds[middle]) <= share:
                symbol = middle
            else:
                above = middle
        coder[LOW] -= scale * U(bounds[symbol])
    else:
        _add(scale * U(bounds[symbol]), coder, words)
    coder[WIDTH] = scale * U(bounds[symbol + 1] - bounds[symbol])
    if coder[WIDTH] >> U(32) == 0:
        at = coder[AT]
        coder[WIDTH] <<= U(32)
        if coder[DECODING]:
            coder[LOW] = coder[LOW] << U(32) | (U(words[at]) if at < U(len(words)) else U(0))
        else:
            words[at] = coder[LOW] >> U(32)
            coder[LOW] <<= U(32)
        coder[AT] += U(1)
    return symbol


@compiled
def _add(value: np.uint64, coder: Coder, words: Words) -> None:
    """To the low end of the encoder's interval; what it carries goes into the words before."""
    coder[LOW] += value
    at = coder[AT]
    while coder[LOW] < value:
        at -= U(1)
        words[at] += np.uint32(1)
        if words[at]:
            break


@compiled
def _finish(coder: Coder, words: Words) -> int:
    """The count of words, once the last ones name a point within the interval."""
    end = coder[LOW] + coder[WIDTH]
    _add(U(0xFFFFFFFF), coder, words)
    at = int(coder[AT])
    words[at] = coder[LOW] >> U(32)
    words[at + 1] = 0
    return at + (2 if end >> U(32) == coder[LOW] >> U(32) else 1)


def entropy_bits(integers: Integers) -> float:
    """Order-0 entropy of one matrix, in bits: what a coder without contexts cannot beat."""
    counts = np.bincount(integers.reshape(-1).view(np.uint8), minlength=1)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / integers.size)).sum())


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
