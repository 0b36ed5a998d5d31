"""The file that `eval.codec` writes: what was compressed, with which artifact, under which rule, and the coded streams.

Layout: magic, version, CRC-32 of all that follows (PREFIX, 8 bytes), the fields of CodedText (FIELDS, 41 bytes), then
each stream after its length (LENGTH, 4 bytes). It is binary because the file's length is a claim: at most the model's
bits + 0.1 % + 64 bytes. Bytes in, bytes out; no model, no files.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from base.errors import BadInput

MAGIC = b"GLZ"
VERSION = 3
PREFIX = struct.Struct("<3s B I")
FIELDS = struct.Struct("<8s 8s 4s 2I 3I B")
LENGTH = struct.Struct("<I")
DIGEST_BYTES = 8
ENVIRONMENT_BYTES = 4
MOST_BYTES = (1 << 32) - 1  # of a text


class Rule(NamedTuple):
    """How the tokens are cut into rows, the window that each is predicted from, and whether the text teaches."""

    context: int
    stride: int
    rows: int
    table_bits: int = 0  # of the table that predictions are mixed with (eval.mixing); 0: they are the model's alone


@dataclass(frozen=True)
class CodedText:
    artifact: bytes  # the first DIGEST_BYTES of its SHA-256
    text: bytes  # the same of the text
    environment: bytes  # of the names of torch and processor, the first ENVIRONMENT_BYTES
    size_bytes: int  # of the text
    tokens: int
    rule: Rule
    streams: list[bytes]


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def write(coded: CodedText) -> bytes:
    body = FIELDS.pack(coded.artifact, coded.text, coded.environment, coded.size_bytes, coded.tokens, *coded.rule)
    body += b"".join(LENGTH.pack(len(stream)) + stream for stream in coded.streams)
    return PREFIX.pack(MAGIC, VERSION, zlib.crc32(body)) + body


def read(data: bytes) -> CodedText:
    """Refuse a file that is cut short, damaged or of another kind. Whether its numbers make sense is not checked."""
    magic, version, stored = PREFIX.unpack(data[: PREFIX.size].ljust(PREFIX.size, b"\0"))
    body = data[PREFIX.size :]
    if magic != MAGIC:
        raise BadInput(f"not a compressed file: it begins with {data[:3]!r}, not {MAGIC!r}")
    if version != VERSION:
        raise BadInput(f"a compressed file of format version {version}; this reader knows version {VERSION}")
    if len(body) < FIELDS.size or zlib.crc32(body) != stored:
        raise BadInput("the compressed file is damaged or cut short: its checksum is not that of its bytes")
    artifact, text, environment, size_bytes, tokens, *rule = FIELDS.unpack_from(body)
    streams = list[bytes]()
    at = FIELDS.size
    while at < len(body):
        begin = at + LENGTH.size
        at = begin + int.from_bytes(body[at:begin], "little")
        if at > len(body):
            raise BadInput(f"the compressed file is malformed: stream {len(streams)} ends beyond the file")
        streams.append(body[begin:at])
    return CodedText(artifact, text, environment, size_bytes, tokens, Rule(*rule), streams)
