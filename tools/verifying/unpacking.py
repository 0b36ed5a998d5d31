"""A packed single file -> its source, by reading alone: the compressed constant is found in the syntax tree and
unpacked under a bound. Nothing is run, whatever the loader around it would do.

Knows lzma, zlib, bz2 and zstd under base85 (both alphabets), base64 or byte for byte.
"""

import ast
import base64
import binascii
import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

import zstandard

SHORTEST = 1_000  # characters of a constant that may be a program
UNPACKED_BYTES = 8 << 20
DEEPEST = 3  # packs within packs
RAW_LZMA = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 26}]


def unpacked(tree: ast.AST) -> list[str]:
    """The sources inside, the outermost first; empty where no constant unpacks to Python."""
    found: list[str] = []
    waiting = [(tree, 0)]
    while waiting:
        tree, depth = waiting.pop()
        for data in _constants(tree) if depth < DEEPEST else ():
            for source in _sources(data):
                found.append(source)
                waiting.append((ast.parse(source), depth + 1))
                break
    return found


def sources_inside(source: bytes) -> list[str]:
    """The same, from text; what cannot be parsed holds nothing that could be found."""
    try:
        return unpacked(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _constants(tree: ast.AST) -> Iterator[bytes]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and len(node.value) >= SHORTEST:
            value = node.value
            with suppress(UnicodeEncodeError):  # a text that holds bytes holds them a character each
                yield value if isinstance(value, bytes) else value.encode("latin-1")


def _sources(data: bytes) -> Iterator[str]:
    for decode in (lambda d: d, base64.b85decode, base64.a85decode, _base64):
        try:
            packed = decode(data)
        except (ValueError, binascii.Error):
            continue
        for expand in EXPANDERS:
            try:
                text = expand(packed).decode("utf-8")
                ast.parse(text)
            except (*BROKEN, SyntaxError, RecursionError):
                continue
            yield text


def _base64(data: bytes) -> bytes:
    return base64.b64decode(data, validate=True)


def _bounded(data: bytes, left: bytes) -> bytes:
    if len(data) >= UNPACKED_BYTES or left:
        raise ValueError("unpacks to more than a program has")
    return data


def _lzma(data: bytes) -> bytes:
    maker = lzma.LZMADecompressor(memlimit=256 << 20)
    return _bounded(maker.decompress(data, UNPACKED_BYTES), b"" if maker.eof else b"more")


def _raw_lzma(data: bytes) -> bytes:
    maker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=RAW_LZMA)
    return _bounded(maker.decompress(data, UNPACKED_BYTES), b"" if maker.eof else b"more")


def _zlib(data: bytes) -> bytes:
    maker = zlib.decompressobj()
    return _bounded(maker.decompress(data, UNPACKED_BYTES), maker.unconsumed_tail)


def _bz2(data: bytes) -> bytes:
    maker = bz2.BZ2Decompressor()
    return _bounded(maker.decompress(data, UNPACKED_BYTES), b"" if maker.eof else b"more")


def _zstd(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as stream:
        return _bounded(stream.read(UNPACKED_BYTES), b"")


EXPANDERS: tuple[Callable[[bytes], bytes], ...] = (_lzma, _zlib, _bz2, _zstd, _raw_lzma)
BROKEN = (ValueError, EOFError, OSError, MemoryError, lzma.LZMAError, zlib.error, zstandard.ZstdError)
