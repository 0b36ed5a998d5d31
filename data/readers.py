"""One file -> its documents, streamed: .txt, .jsonl, .parquet, each also as .gz, .xz or .zst.

Not a place for policy: a document that cannot be read is yielded as `Bad` with its reason, and the caller decides.
A damaged or truncated file is an error, never a shorter corpus.
"""

import codecs
import gzip
import io
import json
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

import zstandard

from base.errors import BadInput

TxtUnit = Literal["line", "file"]  # what a document is in plain text
Kind = TxtUnit | Literal["jsonl", "parquet"]

FORMATS = (".txt", ".jsonl", ".parquet")
COMPRESSED = (".gz", ".xz", ".zst")


class Document(NamedTuple):
    name: str  # the file, and the line or row where there is one: what an error message points at
    text: str


class Bad(NamedTuple):
    name: str
    reason: str


def format_of(name: str) -> str | None:
    """`.jsonl` for `a.jsonl` and `a.jsonl.xz`; None for what no reader takes."""
    path = Path(name.lower())
    inner = path.with_suffix("") if path.suffix in COMPRESSED else path
    return inner.suffix if inner.suffix in FORMATS else None


def read_documents(path: Path, name: str, kind: Kind, field: str) -> Iterator[Document | Bad]:
    """Documents of one file; `name` is how messages call it, `field` the text's key in .jsonl and .parquet."""
    try:
        with _open(path, name, seekable=kind == "parquet") as stream:
            if kind == "jsonl":
                yield from _jsonl(stream, name, field)
            elif kind == "parquet":
                yield from _parquet(stream, name, field)
            elif kind == "line":
                yield from _lines(stream, name)
            else:
                yield _decode(name, stream.read())
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zstandard.ZstdError) as error:
        raise BadInput(f"{name}: damaged or truncated: {error}") from None


def _decode(name: str, raw: bytes) -> Document | Bad:
    try:
        return Document(name, raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Bad(name, f"not UTF-8 at byte {error.start}")


def _lines(stream: IO[bytes], name: str) -> Iterator[Document | Bad]:
    for number, line in enumerate(stream, start=1):
        if text := line.removesuffix(b"\n").removesuffix(b"\r"):
            yield _decode(f"{name}:{number}", text)


def _jsonl(stream: IO[bytes], name: str, field: str) -> Iterator[Document | Bad]:
    for number, line in enumerate(stream, start=1):
        if line.isspace():
            continue
        where = f"{name}:{number}"
        try:
            row = json.loads((line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode("utf-8"))
        except UnicodeDecodeError as error:
            yield Bad(where, f"not UTF-8 at byte {error.start}")
            continue
        except (ValueError, RecursionError) as error:
            yield Bad(where, f"not JSON: {error}")
            continue
        yield _checked(where, row.get(field) if isinstance(row, dict) else None, field)


def _checked(where: str, text: Any, field: str) -> Document | Bad:
    if not isinstance(text, str):
        return Bad(where, f"no text in field '{field}' (name another: --field)")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair
        return Bad(where, f"not UTF-8: lone surrogate at character {error.start}")
    return Document(where, text)


def _parquet(stream: IO[bytes], name: str, field: str) -> Iterator[Document | Bad]:
    import pyarrow as pa  # half a second to import, and most corpora are not parquet
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(stream, pre_buffer=False, page_checksum_verification=True)  # a page at a time
        if field not in table.schema_arrow.names:
            raise BadInput(f"{name}: no column '{field}'; it has {', '.join(table.schema_arrow.names)} (--field)")
        number = 0
        for batch in table.iter_batches(batch_size=256, columns=[field]):
            for cell in batch.column(0):
                number += 1
                try:
                    text = cell.as_py()
                except UnicodeDecodeError as error:
                    yield Bad(f"{name}:{number}", f"not UTF-8 at byte {error.start}")
                    continue
                yield _checked(f"{name}:{number}", text, field)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise BadInput(f"{name}: damaged or truncated: {error}") from None


@contextmanager
def _open(path: Path, name: str, seekable: bool) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed by its name; what must be `seekable` goes by way of a spool file then."""
    name = name.lower()
    if name.endswith(COMPRESSED) and path.stat().st_size == 0:
        raise EOFError("an empty file is no compressed file")
    with path.open("rb") as raw:
        stream: IO[bytes]
        if name.endswith(".gz"):
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw))
        elif name.endswith(".xz"):
            stream = io.BufferedReader(_Frames(raw, lzma.LZMADecompressor), 1 << 20)
        elif name.endswith(".zst"):
            stream = io.BufferedReader(_Frames(raw, _zstd_frame), 1 << 20)
        else:
            stream = raw
        if stream is not raw and seekable:
            with tempfile.TemporaryFile() as spool:
                shutil.copyfileobj(stream, spool, 1 << 20)
                spool.seek(0)
                yield spool
        else:
            yield stream


def _zstd_frame() -> Any:
    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()  # `zstd --long` needs that much


class _Frames(io.RawIOBase):
    """Every frame of a .zst, or stream of an .xz, and none that is damaged or ends early.

    The libraries' own readers end quietly there: zstandard's inside a frame that was cut off, lzma's at anything that
    follows the first stream and is not another one.
    """

    def __init__(self, raw: IO[bytes], new_frame: Callable[[], Any]) -> None:
        self._raw, self._new_frame = raw, new_frame
        self._frame: Any = None  # None between frames
        self._input = b""
        self._output = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            if not self._input:
                self._input = self._raw.read(1 << 18)
                if not self._input:
                    if self._frame is not None:
                        raise EOFError("the last frame is not complete")
                    return 0
            if self._frame is None:
                self._input = self._input.lstrip(b"\0")  # .xz may be padded between streams
                if not self._input:
                    continue
                self._frame = self._new_frame()
            self._output = memoryview(self._frame.decompress(self._input))
            self._input = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        return size
