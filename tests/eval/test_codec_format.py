"""eval.codec_format: what is written is read; files that are cut, damaged or forged are refused in one line."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BadInput
from eval.codec_format import MAGIC, PREFIX, VERSION, CodedText, Rule, read, write

DIGEST = st.binary(min_size=8, max_size=8)
NUMBER = st.integers(0, (1 << 32) - 1)
ANY = st.builds(
    CodedText,
    artifact=DIGEST,
    text=DIGEST,
    environment=st.binary(min_size=4, max_size=4),
    size_bytes=NUMBER,
    tokens=NUMBER,
    rule=st.builds(Rule, NUMBER, NUMBER, NUMBER, st.integers(0, 255)),
    streams=st.lists(st.binary(max_size=300), max_size=4),
)
EXAMPLE = CodedText(
    artifact=b"artifact",
    text=b"thetext.",
    environment=b"here",
    size_bytes=300,
    tokens=200,
    rule=Rule(context=16, stride=8, rows=2, table_bits=20),
    streams=[b"abcd", b"efgh"],
)


@given(ANY)
def test_what_is_written_is_read(coded: CodedText) -> None:
    assert read(write(coded)) == coded


def test_the_layout_never_changes() -> None:
    numbers = b"here\x2c\x01\0\0\xc8\0\0\0\x10\0\0\0\x08\0\0\0\x02\0\0\0\x14"
    body = b"artifactthetext." + numbers + b"\x04\0\0\0abcd\x04\0\0\0efgh"
    assert write(EXAMPLE) == b"GLZ\x03" + zlib.crc32(body).to_bytes(4, "little") + body


def test_no_cut_and_no_flipped_bit_gets_through() -> None:
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
    body = data[PREFIX.size :] + b"\xff\xff\xff\xff"
    with pytest.raises(BadInput, match="stream 2 ends beyond the file"):
        read(PREFIX.pack(MAGIC, VERSION, zlib.crc32(body)) + body)
    with pytest.raises(BadInput, match="version 1;"):
        read(data[:3] + b"\1" + data[4:])
    with pytest.raises(BadInput, match="not a compressed file"):
        read(b"")


@given(st.binary(max_size=80))
def test_forged_bytes_under_a_correct_checksum_are_read_or_refused(body: bytes) -> None:
    try:
        coded = read(PREFIX.pack(MAGIC, VERSION, zlib.crc32(body)) + body)
    except BadInput:
        return
    assert write(coded) == PREFIX.pack(MAGIC, VERSION, zlib.crc32(body)) + body
