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
from collections.abc import Callable, Collection, Iterator
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

# What a loader needs in order to run what it holds.
UNPACKERS = {"lzma", "zlib", "bz2", "base64", "binascii"}
LOADER_CALLS = {"exec", "eval", "compile", "len"}
LOADER_METHODS = {
    "decompress", "decompressobj", "LZMADecompressor", "BZ2Decompressor", "b85decode", "a85decode",
    "b64decode", "decode", "encode", "splitlines", "cache", "FORMAT_RAW", "FORMAT_AUTO", "FORMAT_XZ", "FILTER_LZMA1",
    "FILTER_LZMA2",
}  # fmt: skip
LOADER_SYNTAX = (
    ast.Module, ast.Import, ast.alias, ast.Assign, ast.Expr, ast.keyword, ast.List, ast.Tuple, ast.Dict, ast.Load,
    ast.Store, ast.Constant,
)  # fmt: skip
WORD = re.compile(r"[\w.<>-]{0,16}")  # the name of a coding or of a file, which is no statement


@dataclass(frozen=True)
class Program:
    text: str
    tree: ast.Module
    constant: ast.AST  # that held it


def unpacked(tree: ast.Module) -> list[Program]:
    """The programs inside, and those inside them."""
    found: list[Program] = []
    left_bytes = UNPACKED_BYTES
    nodes = list(ast.walk(tree))
    for node in nodes:  # grows by what is found
        value = node.value if isinstance(node, ast.Constant) else None
        if not isinstance(value, str | bytes) or len(value) < SHORTEST:
            continue
        for text in _texts(value, left_bytes):
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


def is_loader(tree: ast.Module, packed: Collection[ast.AST]) -> bool:
    """Whether it does nothing but run its own constants, so that all it runs is in `packed`.

    A list of what is allowed: anything else could run something that is elsewhere.
    """
    aliases = [alias for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    imported = {alias.asname or alias.name: alias.name for alias in aliases}
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    usable = {name for name, module in imported.items() if module in {*UNPACKERS, "linecache"}}
    names = {*usable, *stored, *LOADER_CALLS, "__import__", "__file__", "__name__"}

    def is_allowed(node: ast.AST) -> bool:
        match node:
            case ast.Call(func=ast.Name(id="__import__"), args=[ast.Constant(value=module)], keywords=[]):
                return module in UNPACKERS
            case ast.Call(func=ast.Name(id=name)):
                return name in LOADER_CALLS
            case ast.Call(func=func):
                return isinstance(func, ast.Attribute)
            case ast.Name(id=name):
                return name in names
            case ast.Attribute(attr=attr, ctx=ast.Load()):
                return attr in LOADER_METHODS
            case ast.Subscript(ctx=ctx):  # linecache.cache[__file__] = ...
                return isinstance(ctx, ast.Store)
            case ast.Constant(value=str() | bytes() as value):
                text = value if isinstance(value, str) else value.decode("latin-1")
                return node in packed or WORD.fullmatch(text) is not None
        return isinstance(node, LOADER_SYNTAX)

    return not set(imported) & stored and all(map(is_allowed, ast.walk(tree)))
