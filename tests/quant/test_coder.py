"""quant.coder: the same integers come back, whatever they are, and fewer bytes than zstd where columns differ."""

import contextlib

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quant import coder
from quant.dequant import Integers

matrices = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 40)).flatmap(
        lambda shape: st.integers(1, 128).flatmap(
            lambda most: arrays(np.int8, shape, elements=st.integers(-most, min(most, 127)))
        )
    ),
    max_size=4,
)


@settings(max_examples=300)
@given(matrices, st.integers(0, 15))
def test_any_integers_come_back(given_matrices: list[Integers], which: int) -> None:
    trellises = [bool(which >> n & 1) for n in range(len(given_matrices))]
    coded = coder.encode_ranges(given_matrices, trellises)
    back = coder.decode_ranges(coded, [(m.shape[0], m.shape[1]) for m in given_matrices], trellises)
    for a, b in zip(given_matrices, back, strict=True):
        assert b.dtype == np.int8
        assert np.array_equal(a, b)


def spread(rows: int, columns: int, seed: int) -> Integers:
    """Integers as trained weights leave them: heavy-tailed columns of unequal spread."""
    random = np.random.default_rng(seed)
    scale = 2.0 ** random.normal(0.8, 0.7, columns)
    return np.clip(np.rint(random.standard_t(8, (rows, columns)) * scale), -127, 127).astype(np.int8)


def test_contexts_beat_zstd_and_order_0_entropy_where_columns_differ() -> None:
    stack = [spread(200, 128, seed) for seed in range(6)]
    coded = len(coder.encode_ranges(stack, [False] * 6))
    assert coded < 0.94 * len(coder.encode_zstd(b"".join(matrix.tobytes() for matrix in stack)))
    assert coded < 0.97 * sum(coder.entropy_bits(matrix) for matrix in stack) / 8
    even = np.clip(np.rint(np.random.default_rng(1).normal(0, 3, (512, 256))), -127, 127).astype(np.int8)
    assert len(coder.encode_ranges([even], [False])) < 1.01 * coder.entropy_bits(even) / 8  # nothing to gain here


def test_the_range_coder_is_constrictions_to_the_bit() -> None:
    """However rare a symbol is beside the others, it has a range; what it carries reaches the words before."""
    random = np.random.default_rng(0)
    for _ in range(200):
        state, words = np.array([0, coder.ALL, 0, 0], np.uint64), np.empty(700, np.uint32)
        theirs = constriction.stream.queue.RangeEncoder()
        for count in (257, 2, 33):
            table = np.floor(2.0 ** random.uniform(0, np.log2(coder.FULL), count)).astype(np.int64)
            table[random.random(count) < 0.5] = 1
            bounds = np.empty(300, np.int64)
            coder._set_bounds(bounds, table)
            model = constriction.stream.model.Categorical(table.astype(np.float64), perfect=False)
            for symbols in (np.arange(count), random.choice(count, 50, p=table / table.sum())):
                theirs.encode(symbols.astype(np.int32), model)
                for symbol in symbols:
                    coder._exchange(bounds, count, symbol, state, words)
        assert np.array_equal(words[: coder._finish(state, words)], theirs.get_compressed())


def test_a_damaged_stream_is_an_error_or_other_integers_but_no_crash() -> None:
    coded = coder.encode_ranges([spread(20, 30, 1)], [True])
    for at in range(len(coded)):
        broken = bytearray(coded)
        broken[at] ^= 0x55
        with contextlib.suppress(ValueError):
            assert coder.decode_ranges(bytes(broken), [(20, 30)], [True])[0].shape == (20, 30)
        with contextlib.suppress(ValueError):
            coder.decode_ranges(coded[:at], [(20, 30)], [True])


def test_zstd_returns_exactly_the_expected_bytes_or_refuses() -> None:
    data = np.random.default_rng(0).integers(0, 9, 5000, np.uint8).tobytes()
    coded = coder.encode_zstd(data)
    assert coder.decode_zstd(coded, 5000) == data
    for given_bytes, size in ((coded, 0), (coded, 4999), (coded, 5001), (coded, 1 << 20), (coded[:-3], 5000)):
        with pytest.raises(ValueError, match="zstd stream"):
            coder.decode_zstd(given_bytes, size)
