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
from typing import NamedTuple

import zstandard

SHORTEST = 1_000  # characters of a constant that may be a program
UNPACKED_BYTES = 1 << 18  # of all that is parsed, together: a few KB can hold gigabytes, and a tree takes more
DEEPEST = 3  # packs within packs
RAW_LZMA = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 26}]
# All that a loader needs in order to run the one program that it holds.
UNPACKERS = {"lzma", "zlib", "bz2", "base64", "zstandard", "binascii"}
UNPACKING = {
    "decompress", "decompressobj", "LZMADecompressor", "BZ2Decompressor", "ZstdDecompressor", "b85decode", "a85decode",
    "b64decode", "decode", "encode", "FORMAT_RAW", "FORMAT_AUTO", "FORMAT_XZ", "FILTER_LZMA1", "FILTER_LZMA2",
}  # fmt: skip
MAKING = {"exec", "eval", "compile", "__import__"}  # code
LONGEST_WORD = 16  # of a loader: the name of an encoding, no program


class Program(NamedTuple):
    text: str
    tree: ast.Module
    constant: ast.Constant  # that it was packed in


def unpacked(tree: ast.AST) -> list[Program]:
    """The programs inside, the outermost first; empty where no constant unpacks to Python."""
    found: list[Program] = []
    waiting, left = [(tree, 0)], [UNPACKED_BYTES]
    while waiting:
        tree, depth = waiting.pop()
        for node, data in _constants(tree) if depth < DEEPEST else ():
            if program := next(_programs(data, left), None):
                found.append(Program(*program, node))
                waiting.append((program[1], depth + 1))
    return found


def sources_inside(source: bytes) -> list[str]:
    """The same, from text; what cannot be parsed holds nothing that could be found."""
    try:
        return [program.text for program in unpacked(ast.parse(source))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def is_loader(tree: ast.Module, programs: list[Program]) -> bool:
    """Whether it does nothing but run its own constants: then what it runs is what is inside.

    Imports, plain names for what unpacks, a line for linecache, calls of exec; whatever else a program may do is not
    told apart from a way to run something that is somewhere else.
    """
    modules: dict[str, str] = {}
    names: set[str] = set()

    def constant(node: ast.AST) -> bool:
        match node:
            case ast.Constant(value=str() | bytes() as value):
                return len(value) <= LONGEST_WORD or any(program.constant is node for program in programs)
            case ast.Constant():
                return True
            case ast.Name(id=name):
                return name in names or modules.get(name) in UNPACKERS or name in {*MAKING, "__file__", "__name__"}
            case ast.Attribute(value=value, attr=attr):
                return attr in UNPACKING and constant(value)
            case ast.Call(func=ast.Name(id="__import__"), args=[ast.Constant(value=module)], keywords=[]):
                return module in UNPACKERS
            case ast.Call(func=func, args=args, keywords=words):
                return all(map(constant, (func, *args, *(word.value for word in words))))
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return all(map(constant, parts))
            case ast.Dict(keys=keys, values=parts):
                return all(part is not None and constant(part) for part in (*keys, *parts))
        return False

    for statement in tree.body:
        match statement:
            case ast.Import(names=imported):
                modules |= {alias.asname or alias.name: alias.name for alias in imported}
                if {*modules} & {*names, *MAKING}:
                    return False
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if constant(value):
                if name in names or name in modules or name in MAKING:
                    return False
                names.add(name)
            case ast.Assign(targets=[ast.Subscript(value=ast.Attribute(value=ast.Name(id=name), attr="cache"))]):
                if modules.get(name) != "linecache":
                    return False
            case ast.Expr(value=ast.Call(func=ast.Name(id="exec")) as call) if constant(call):
                pass
            case _:
                return False
    return True


def _constants(tree: ast.AST) -> Iterator[tuple[ast.Constant, bytes]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and len(node.value) >= SHORTEST:
            value = node.value
            with suppress(UnicodeEncodeError):  # a text that holds bytes holds them a character each
                yield node, value if isinstance(value, bytes) else value.encode("latin-1")


def _programs(data: bytes, left: list[int]) -> Iterator[tuple[str, ast.Module]]:
    """`left`: bytes that may still be parsed, of this file's."""
    for decode in (lambda d: d, base64.b85decode, base64.a85decode, _base64):
        try:
            packed = decode(data)
        except (ValueError, binascii.Error):
            continue
        for expand in EXPANDERS:
            try:
                text = expand(packed, left[0]).decode("utf-8")
                left[0] -= len(text)
                tree = ast.parse(text)
            except (*BROKEN, SyntaxError, RecursionError):
                continue
            yield text, tree


def _base64(data: bytes) -> bytes:
    return base64.b64decode(data, validate=True)


def _bounded(data: bytes, most: int, left: bytes) -> bytes:
    if len(data) >= most or left:
        raise ValueError("unpacks to more than a program has")
    return data


def _lzma(data: bytes, most: int) -> bytes:
    maker = lzma.LZMADecompressor(memlimit=256 << 20)
    return _bounded(maker.decompress(data, most), most, b"" if maker.eof else b"more")


def _raw_lzma(data: bytes, most: int) -> bytes:
    maker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=RAW_LZMA)
    return _bounded(maker.decompress(data, most), most, b"" if maker.eof else b"more")


def _zlib(data: bytes, most: int) -> bytes:
    maker = zlib.decompressobj()
    return _bounded(maker.decompress(data, max(most, 1)), most, maker.unconsumed_tail)  # 0 is no bound to it


def _bz2(data: bytes, most: int) -> bytes:
    maker = bz2.BZ2Decompressor()
    return _bounded(maker.decompress(data, most), most, b"" if maker.eof else b"more")


def _zstd(data: bytes, most: int) -> bytes:
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as stream:
        return _bounded(stream.read(most), most, b"")


EXPANDERS: tuple[Callable[[bytes, int], bytes], ...] = (_lzma, _zlib, _bz2, _zstd, _raw_lzma)
BROKEN = (ValueError, EOFError, OSError, MemoryError, lzma.LZMAError, zlib.error, zstandard.ZstdError)
