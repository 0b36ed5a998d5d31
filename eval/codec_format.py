"""The file that `eval.codec` writes: what was compressed, with what, under which rule, and the coded streams.

Layout: "GLZ", version (u8), CRC-32 of all that follows (u32), the first 8 bytes of the artifact's SHA-256 and of the
text's, varints (the numbers from `size_bytes` to `stride`, how many streams, the environment's length), the
environment, then the streams; each but the last has its length before it (varint). It says no more than a reader
needs, because a file's length is a claim: the model's bits + 0.1 % + 64 bytes. Bytes in, bytes out; no model, no files.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass

from base.errors import BadInput

MAGIC, VERSION = b"GLZ", 1
PREFIX = struct.Struct("<3sBI")
DIGEST_BYTES = 8
LONGEST_VARINT = 9  # bytes: 63 bits


@dataclass(frozen=True, kw_only=True)
class Compressed:
    artifact: bytes  # the first DIGEST_BYTES of its SHA-256
    text: bytes
    size_bytes: int  # of the text
    tokens: int
    rows: int
    context: int
    stride: int
    environment: str
    streams: list[bytes]


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def write(compressed: Compressed) -> bytes:
    c, said = compressed, compressed.environment.encode()
    numbers = (c.size_bytes, c.tokens, c.rows, c.context, c.stride, len(c.streams), len(said))
    body = c.artifact + c.text + b"".join(map(_varint, numbers)) + said
    body += b"".join(_varint(len(stream)) + stream for stream in c.streams[:-1]) + b"".join(c.streams[-1:])
    return PREFIX.pack(MAGIC, VERSION, zlib.crc32(body)) + body


def read(data: bytes) -> Compressed:
    """Refuses what is cut short, damaged or of another kind; what the numbers mean is not its business."""
    magic, version, checksum = PREFIX.unpack(data[: PREFIX.size].ljust(PREFIX.size, b"\0"))
    if magic != MAGIC:
        raise BadInput(f"not a compressed file: it begins with {data[:3]!r}, not {MAGIC!r}")
    if version != VERSION:
        raise BadInput(f"a compressed file of format version {version}; this reader knows version {VERSION}")
    if zlib.crc32(data[PREFIX.size :]) != checksum:
        raise BadInput("the compressed file is damaged or cut short: its checksum is not that of its bytes")
    rest = _Rest(data[PREFIX.size :])
    try:
        artifact, text = rest.take(DIGEST_BYTES), rest.take(DIGEST_BYTES)
        size_bytes, tokens, rows, context, stride, count, said = (rest.varint() for _ in range(7))
        environment = rest.take(said).decode("ascii")
        streams = []
        for left in range(count, 0, -1):  # each takes a byte at least, or the last, all: no count can ask for more
            streams.append(rest.take(rest.varint() if left > 1 else rest.size))
        if rest.size:
            raise ValueError(f"{rest.size} bytes follow the last stream")
    except ValueError as error:
        raise BadInput(f"the compressed file is malformed: {error}") from None
    return Compressed(
        artifact=artifact, text=text, size_bytes=size_bytes, tokens=tokens, rows=rows, context=context, stride=stride,
        environment=environment, streams=streams,
    )  # fmt: skip


class _Rest:
    """What is left to read; asking for more than that is a ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def size(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.size:
            raise ValueError(f"{size:,} bytes are due where {self.size:,} are left")
        self._at += size
        return self._data[self._at - size : self._at]

    def varint(self) -> int:
        """Seven bits a byte, lowest first; the last byte is below 128."""
        value = 0
        for place in range(LONGEST_VARINT):
            byte = self.take(1)[0]
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value
        raise ValueError(f"a number of more than {LONGEST_VARINT} bytes")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
