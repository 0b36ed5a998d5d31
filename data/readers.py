"""One file -> its documents, streamed: .txt and .jsonl, each also as .gz, .xz or .zst, and .parquet.

No policy here: a document that cannot be read is yielded as `Bad` with its reason, and the caller decides.
A damaged or truncated file is an error, never a shorter corpus.
"""

import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import zstandard

from base.errors import BadInput
from data.remote import RemoteFile, one_line_errors

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
    if path.suffix not in DECOMPRESSORS:
        return path.suffix if path.suffix in FORMATS else None
    inner = path.with_suffix("").suffix
    return inner if inner in FORMATS and inner != ".parquet" else None


def read_documents(path: Path | RemoteFile, name: str, kind: Kind, field: str) -> Iterator[Document | Bad]:
    """Documents of one file; `name` is how messages call it, `field` the text's key in .jsonl and .parquet."""
    try:
        with one_line_errors(path.url) if isinstance(path, RemoteFile) else nullcontext():
            for where, record in _records(path, name, kind, field):
                try:
                    yield Document(where, _text_of(record, kind, field))
                except (ValueError, RecursionError) as error:  # UnicodeError is a ValueError
                    yield Bad(where, f"not readable as {kind}: {error}")
    except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise BadInput(f"{name}: damaged or truncated: {error}") from None


def _records(path: Path | RemoteFile, name: str, kind: Kind, field: str) -> Iterator[tuple[str, Any]]:
    """Where each document is, and what holds it: a file's or a line's bytes, or a cell."""
    if kind == "file":
        yield name, b"".join(_blocks(path, name))
        return
    rows = _cells(path, name, field) if kind == "parquet" else _lines(_blocks(path, name))
    for number, row in enumerate(rows, start=1):
        yield f"{name}:{number}", row


def _text_of(record: Any, kind: Kind, field: str) -> str:
    """The document's text (of an empty line, none); a ValueError if it cannot be read."""
    text: Any
    if kind == "parquet":
        text = record.as_py()
    elif kind == "jsonl":
        row = json.loads(record.decode("utf-8-sig")) if record.strip() else {field: ""}
        text = row.get(field) if isinstance(row, dict) else None
    else:
        text = record.decode("utf-8")
    if not isinstance(text, str):
        raise ValueError(f"no text in field '{field}' (name another: --field)")
    text.encode("utf-8")  # JSON can spell half a surrogate pair
    return text


def _cells(path: Path | RemoteFile, name: str, field: str) -> Iterator[Any]:
    import pyarrow as pa  # half a second to import, and most corpora are not parquet
    import pyarrow.parquet as pq

    try:
        file = path.open("rb") if isinstance(path, RemoteFile) else path
        table = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)  # a page at a time
        if field not in table.schema_arrow.names:
            raise BadInput(f"{name}: no column '{field}'; it has {', '.join(table.schema_arrow.names)} (--field)")
        for batch in table.iter_batches(batch_size=256, columns=[field]):
            yield from batch.column(0)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise BadInput(f"{name}: damaged or truncated: {error}") from None


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines without their ends, \\n or \\r\\n."""
    parts: list[bytes] = []
    for block in blocks:
        rest, *lines = block.split(b"\n")
        parts.append(rest)
        for line in lines:
            yield b"".join(parts).removesuffix(b"\r")
            parts = [line]
    yield b"".join(parts).removesuffix(b"\r")  # nothing where the file ends with a line's end: an empty document


def _blocks(path: Path | RemoteFile, name: str) -> Iterator[bytes]:
    """The file's bytes, decompressed as its name requires."""
    new_frame = DECOMPRESSORS.get(Path(name.lower()).suffix)
    with path.open("rb") as stream:
        blocks = iter(partial(stream.read, BLOCK_BYTES), b"")
        yield from _decompress(blocks, new_frame) if new_frame else blocks


def _decompress(blocks: Iterable[bytes], new_frame: Callable[[], Any]) -> Iterator[bytes]:
    """Every frame of a .zst, stream of an .xz or member of a .gz; one that is damaged or ends early is an error.

    The libraries' own readers end quietly there: zstandard's inside a frame that was cut off, lzma's at anything that
    follows the first stream and is not another one.
    """
    frame = new_frame()
    for block in blocks:
        rest = block
        while rest:
            if frame.eof:
                frame = new_frame()
            yield frame.decompress(rest)
            rest = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise EOFError("it ends too early")
