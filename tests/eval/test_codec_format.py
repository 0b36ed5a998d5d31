"""eval.codec_format: what is written is read; what is cut, flipped or forged is refused in one line."""

import dataclasses
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BadInput
from eval.codec_format import MAGIC, PREFIX, VERSION, Compressed, read, write

NUMBER = st.integers(0, (1 << 63) - 1)
ANY = st.builds(
    Compressed,
    artifact=st.binary(min_size=8, max_size=8), text=st.binary(min_size=8, max_size=8), size_bytes=NUMBER,
    tokens=NUMBER, rows=NUMBER, context=NUMBER, stride=NUMBER,
    environment=st.text("2.13.0+cpu AVX512", max_size=200), streams=st.lists(st.binary(max_size=300), max_size=4),
)  # fmt: skip
EXAMPLE = Compressed(
    artifact=b"artifact", text=b"thetext.", size_bytes=300, tokens=200, rows=2, context=16, stride=8,
    environment="2.13.0+cpu AVX512", streams=[b"abcd", b"efgh"],
)  # fmt: skip


@given(ANY)
def test_what_is_written_is_read(compressed: Compressed) -> None:
    assert read(write(compressed)) == compressed


def test_the_layout_never_changes() -> None:
    body = b"artifactthetext.\xac\x02\xc8\x01\x02\x10\x08\x02\x112.13.0+cpu AVX512\x04abcdefgh"
    assert write(EXAMPLE) == b"GLZ\x01" + zlib.crc32(body).to_bytes(4, "little") + body


def test_no_cut_and_no_flipped_bit_goes_through() -> None:
    data = write(EXAMPLE)
    for end in range(len(data)):
        with pytest.raises(BadInput):
            read(data[:end])
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadInput):
            read(bytes(flipped))
    with pytest.raises(BadInput, match="checksum"):
        read(data + b"\0")
    with pytest.raises(BadInput, match="version 2"):
        read(data[:3] + b"\2" + data[4:])
    with pytest.raises(BadInput, match="not a compressed file"):
        read(b"")


@given(st.binary(max_size=80))
def test_forged_bytes_under_a_right_checksum_are_read_or_refused(body: bytes) -> None:
    try:
        compressed = read(PREFIX.pack(MAGIC, VERSION, zlib.crc32(body)) + body)
    except BadInput:
        return
    assert sum(map(len, compressed.streams)) < len(body)


def test_a_number_of_streams_that_are_not_there_is_refused_at_once() -> None:
    data = write(dataclasses.replace(EXAMPLE, environment="", streams=[]))
    body = data[PREFIX.size : -2] + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\0"
    with pytest.raises(BadInput, match="malformed"):
        read(PREFIX.pack(MAGIC, VERSION, zlib.crc32(body)) + body)
