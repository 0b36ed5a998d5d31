"""A packed single file -> the programs inside it, by reading alone; nothing is run, whatever the loader would do.

    for program in unpacked(ast.parse(source)): program.text, program.tree, program.constant

Compressed constants are found in the syntax tree and unpacked under a bound: lzma, zlib or bz2, under base85 (both
alphabets), base64 or byte for byte. What is packed in another way counts as unreadable.
"""

import ast
import base64
import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

SHORTEST = 1_000  # characters of a constant that may be a program
UNPACKED_BYTES = 1 << 18  # of all programs together: a few KB can hold gigabytes, and a syntax tree takes more
NOT_PARSED = (SyntaxError, ValueError, RecursionError, MemoryError)

RAW_LZMA = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 26}]
DECODERS: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: data,
    base64.b85decode,
    base64.a85decode,
    lambda data: base64.b64decode(data, validate=True),
)
DECOMPRESSORS: tuple[Callable[[], Any], ...] = (
    lambda: lzma.LZMADecompressor(memlimit=256 << 20),
    lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=RAW_LZMA),
    zlib.decompressobj,
    bz2.BZ2Decompressor,
)
BROKEN = (ValueError, EOFError, OSError, MemoryError, lzma.LZMAError, zlib.error)

# Loaders that do nothing but run the one program that they hold: the contest's usual one, and our first record's.
LOADERS = (
    r"(import ((lzma|zlib|bz2|base64)( as \w+)?(, )?)+\n)+"
    r"exec\(\w+\.decompress\(\w+\.\w+decode\(PROGRAM\)"
    r"(, format=\w+\.FORMAT_RAW, filters=\[\{'id': \w+\.FILTER_LZMA2\}\])?\)(\.decode\(\))?\)",
    r"import lzma, linecache as l\n"
    r"s = lzma\.decompress\(PROGRAM\.encode\('L1'\), 3, None, \[\{[^}]*\}\]\)\.decode\(\)\n"
    r"l\.cache\[__file__\] = \(len\(s\), None, s\.splitlines\(1\), __file__\)\n"
    r"exec\(compile\(s, __file__, 'exec'\)\)",
)


@dataclass(frozen=True)
class Program:
    text: str
    tree: ast.Module
    constant: ast.Constant  # that held it


def unpacked(tree: ast.Module) -> list[Program]:
    """The programs inside, and those inside them."""
    found: list[Program] = []
    left_bytes = UNPACKED_BYTES
    nodes = list(ast.walk(tree))
    for node in nodes:  # grows by what is found
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str | bytes) or len(node.value) < SHORTEST:
            continue
        for text in _texts(node.value, left_bytes):
            left_bytes -= len(text)
            with suppress(*NOT_PARSED):
                found.append(Program(text, ast.parse(text), node))
                nodes += ast.walk(found[-1].tree)
                break
    return found


def _texts(value: str | bytes, most: int) -> Iterator[str]:
    """Whatever a constant unpacks to under `most` bytes. More than one coder may accept it."""
    # A text that holds bytes has one character for each; no other character unpacks.
    data = value if isinstance(value, bytes) else value.encode("latin-1", "replace")
    for decode in DECODERS:
        with suppress(ValueError):
            for plain in _expanded(decode(data), most):
                with suppress(UnicodeDecodeError):
                    text = plain.decode("utf-8")
                    if text.strip():
                        yield text


def _expanded(packed: bytes, most: int) -> Iterator[bytes]:
    if most < 1:  # zlib would take 0 for no bound
        return
    for make in DECOMPRESSORS:
        with suppress(*BROKEN):
            decompressor = make()
            plain: bytes = decompressor.decompress(packed, most)
            if decompressor.eof and not decompressor.unused_data and len(plain) < most:
                yield plain


def is_loader(tree: ast.Module, programs: Sequence[Program]) -> bool:
    """Whether a file is of a known form that runs nothing but its program: any other could run what is elsewhere."""
    text = ast.unparse(tree)
    for program in programs:
        text = text.replace(repr(program.constant.value), "PROGRAM")
    return any(re.fullmatch(form, text) for form in LOADERS)
