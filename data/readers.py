"""One file -> its documents, streamed: .txt, .jsonl, .parquet, each also as .gz, .xz or .zst.

No policy here: a document that cannot be read is yielded as `Bad` with its reason, and the caller decides.
A damaged or truncated file is an error, never a shorter corpus.
"""

import io
import json
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import zstandard

from base.errors import BadInput

TxtUnit = Literal["line", "file"]  # what a document is in plain text
Kind = TxtUnit | Literal["jsonl", "parquet"]

FORMATS = (".txt", ".jsonl", ".parquet")
DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(wbits=31),
    ".xz": lzma.LZMADecompressor,
    ".zst": lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj(),  # `zstd --long` needs that
}
BLOCK_BYTES = 1 << 18


class Document(NamedTuple):
    name: str  # the file, and the line or row where there is one: what an error message points at
    text: str


class Bad(NamedTuple):
    name: str
    reason: str


def format_of(name: str) -> str | None:
    """`.jsonl` for `a.jsonl` and `a.jsonl.xz`; None for what no reader takes."""
    path = Path(name.lower())
    suffix = path.with_suffix("").suffix if path.suffix in DECOMPRESSORS else path.suffix
    return suffix if suffix in FORMATS else None


def read_documents(path: Path, name: str, kind: Kind, field: str) -> Iterator[Document | Bad]:
    """Documents of one file; `name` is how messages call it, `field` the text's key in .jsonl and .parquet."""
    try:
        with _open(path, name, seekable=kind == "parquet") as stream:
            for where, record in _records(stream, name, kind, field):
                text, reason = _text_of(record, kind, field)
                yield Bad(where, reason) if reason else Document(where, text)
    except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise BadInput(f"{name}: damaged or truncated: {error}") from None


def _records(stream: IO[bytes], name: str, kind: Kind, field: str) -> Iterator[tuple[str, Any]]:
    """Where each document is, and what holds it: a file's or a line's bytes, or a cell."""
    if kind == "file":
        yield name, stream.read()
        return
    rows = _cells(stream, name, field) if kind == "parquet" else stream
    for number, row in enumerate(rows, start=1):
        yield f"{name}:{number}", row


def _text_of(record: Any, kind: Kind, field: str) -> tuple[str, str]:
    """The document's text (of an empty line, none), and the reason if it cannot be read."""
    try:
        if kind == "file":
            return record.decode("utf-8"), ""
        if kind == "line":
            return record.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8"), ""
        if kind == "jsonl" and record.isspace():
            return "", ""
        row = {field: record.as_py()} if kind == "parquet" else json.loads(record.decode("utf-8-sig"))
        text = row.get(field) if isinstance(row, dict) else None
        if not isinstance(text, str):
            return "", f"no text in field '{field}' (name another: --field)"
        text.encode("utf-8")
    except UnicodeDecodeError as error:
        return "", f"not UTF-8 at byte {error.start}"
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair
        return "", f"not UTF-8: lone surrogate at character {error.start}"
    except (ValueError, RecursionError) as error:
        return "", f"not JSON: {error}"
    return text, ""


def _cells(stream: IO[bytes], name: str, field: str) -> Iterator[Any]:
    import pyarrow as pa  # half a second to import, and most corpora are not parquet
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(stream, pre_buffer=False, page_checksum_verification=True)  # a page at a time
        if field not in table.schema_arrow.names:
            raise BadInput(f"{name}: no column '{field}'; it has {', '.join(table.schema_arrow.names)} (--field)")
        for batch in table.iter_batches(batch_size=256, columns=[field]):
            yield from batch.column(0)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise BadInput(f"{name}: damaged or truncated: {error}") from None


@contextmanager
def _open(path: Path, name: str, seekable: bool) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed by its name; what must be `seekable` is decompressed to a temporary file."""
    with path.open("rb") as raw:
        decompressor = DECOMPRESSORS.get(Path(name.lower()).suffix)
        if decompressor is None:
            yield raw
            return
        stream = io.BufferedReader(_Blocks(_decompressed(raw, decompressor)), 1 << 20)
        if not seekable:
            yield stream
            return
        with tempfile.TemporaryFile() as spool:
            shutil.copyfileobj(stream, spool, 1 << 20)
            spool.seek(0)
            yield spool


def _decompressed(raw: IO[bytes], new_frame: Callable[[], Any]) -> Iterator[bytes]:
    """Every frame of a .zst, stream of an .xz or member of a .gz; one that is damaged or ends early is an error.

    The libraries' own readers end quietly there: zstandard's inside a frame that was cut off, lzma's at anything that
    follows the first stream and is not another one.
    """
    frame = new_frame()
    while block := raw.read(BLOCK_BYTES):
        while block:
            if frame.eof:
                frame = new_frame()
            yield frame.decompress(block)
            block = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise EOFError("it ends too early")


class _Blocks(io.RawIOBase):
    """An iterator of blocks as a stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        part = self._rest[: len(buffer)]
        buffer[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)
