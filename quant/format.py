"""`model.golf`: magic, version, header, streams, checksum. Bytes in, bytes out; no files, no torch, no pickle.

Layout: "GOLF", version (u16), the header's packed and plain lengths (u32 each), header (JSON, zstd), streams, SHA-256
of everything before it. The header lists the form of every tensor and the size of every stream, both in order; there
are no offsets, so nothing can overlap. A reader checks the checksum and every size before it allocates.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from base.errors import BadInput
from base.files import read_json_object
from quant.coder import decode_ranges, decode_zstd, encode_ranges, encode_zstd
from quant.config import Codec
from quant.dequant import Floats, Grid, Integers
from quant.header import WEIGHTS_PER_BYTE, ArtifactHeader, Form, parse_header, require_plausible

MAGIC = b"GOLF"
VERSION = 2
READABLE = (1, 2)  # version 1 had no trellis
PREFIX = struct.Struct("<4sHII")
CHECKSUM_BYTES = 32
LARGEST_HEADER = 1 << 24  # bytes of JSON
# The plain streams beside the tokenizer, each of one type of number: what they hold, in the order of the tensors.
NUMBERS = {"fp16": "<f2", "fp32": "<f4", "scales": "<f2", "octaves": "|i1"}
# What a hostile header can raise in plain Python: an answer in one line, never a traceback.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError)


@dataclass(frozen=True)
class PackedTensor:
    """One tensor as the artifact holds it; without a grid its values are floats, kept as they are."""

    name: str
    kind: str
    shape: tuple[int, ...]
    bits: int
    values: npt.NDArray[Any]  # int8 (rows, columns) on the grid; else fp16 or fp32 in the tensor's own shape
    grid: Grid | None

    def weights(self) -> Floats:
        plain = self.values.astype(np.float32) if self.grid is None else self.grid.weights(self.values)
        return plain.reshape(self.shape)

    @property
    def form(self) -> Form:
        start = (self.name, self.kind, list(self.shape), self.bits)
        if self.grid is None:
            return Form(*start, step="")
        factors = (self.grid.row_scales, self.grid.row_exponents, self.grid.column_exponents)
        scales, rows, columns = (int(factor is not None) for factor in factors)
        return Form(*start, float(self.grid.step).hex(), scales, rows, columns, int(self.grid.trellis))


@dataclass(frozen=True)
class Contents:
    header: ArtifactHeader
    tokenizer: bytes
    tensors: list[PackedTensor]
    stream_bytes: dict[str, int]


class Stream(NamedTuple):
    codec: str
    plain_size: int  # bytes before packing
    data: bytes


Streams = Mapping[str, Stream]


@contextmanager
def refuse_malformed() -> Iterator[None]:
    try:
        yield
    except MALFORMED as error:
        raise BadInput(f"the artifact is malformed: {error!r:.200}") from None


# -- writing --------------------------------------------------------------------------------------------------------


def write_artifact(tensors: Sequence[PackedTensor], header: dict[str, Any], tokenizer: bytes, codec: Codec) -> bytes:
    """`header` is the writer's own (config, hashes); the tables of tensors and streams are added to it."""
    grids = [tensor.grid for tensor in tensors if tensor.grid is not None]
    exponents = [part for grid in grids for part in (grid.row_exponents, grid.column_exponents)]
    plain = {
        "tokenizer": tokenizer,
        "fp16": _to_planes("fp16", [tensor.values for tensor in tensors if tensor.bits == 16]),
        "fp32": _to_planes("fp32", [tensor.values for tensor in tensors if tensor.bits == 32]),
        "scales": _to_planes("scales", [grid.row_scales for grid in grids if grid.row_scales is not None]),
        "octaves": _to_planes("octaves", [part for part in exponents if part is not None]),
    }
    streams = {name: Stream("zstd", len(data), encode_zstd(data)) for name, data in plain.items() if data}
    kinds = dict[str, list[PackedTensor]]()
    for tensor in tensors:
        if tensor.grid is not None:
            kinds.setdefault(tensor.kind, []).append(tensor)
    with ThreadPoolExecutor() as pool:  # the coders leave the interpreter's lock alone
        packed_kinds = pool.map(lambda members: _pack_integers(members, codec), kinds.values())
        streams |= zip([f"integers.{kind}" for kind in kinds], packed_kinds, strict=True)
    forms = [tensor.form for tensor in tensors]
    payload = b"".join(stream.data for stream in streams.values())
    require_plausible(forms, len(payload))
    table = {
        **header,
        "tensors": [astuple(form) for form in forms],
        "streams": [[name, stream.codec, stream.plain_size, len(stream.data)] for name, stream in streams.items()],
    }
    text = json.dumps(table, separators=(",", ":")).encode()
    packed = encode_zstd(text)
    body = PREFIX.pack(MAGIC, VERSION, len(packed), len(text)) + packed + payload
    return body + hashlib.sha256(body).digest()


def _pack_integers(tensors: Sequence[PackedTensor], codec: Codec) -> Stream:
    """The integers of one kind, by the codec or the better of both."""
    on_grid = [(tensor.values, tensor.grid.trellis) for tensor in tensors if tensor.grid is not None]
    matrices = [values for values, _ in on_grid]
    plain = b"".join(values.tobytes() for values in matrices)
    packed = []
    if codec != "ans":
        packed.append(Stream("zstd", len(plain), encode_zstd(plain)))
    if codec != "zstd":
        packed.append(Stream("ans", len(plain), encode_ranges(matrices, [trellis for _, trellis in on_grid])))
    return min(packed, key=lambda stream: len(stream.data))


def _to_planes(name: str, arrays: Iterable[npt.NDArray[Any]]) -> bytes:
    """The first bytes of all numbers, then their second bytes, …: like beside like, for zstd."""
    numbers = b"".join(array.astype(NUMBERS[name]).tobytes() for array in arrays)
    return np.frombuffer(numbers, np.uint8).reshape(-1, np.dtype(NUMBERS[name]).itemsize).T.tobytes()


# -- reading --------------------------------------------------------------------------------------------------------


def read_artifact(data: bytes) -> Contents:
    with refuse_malformed():
        head, forms, streams = _open(data)
        return replace(head, tensors=_unpack_tensors(forms, streams))


def read_head(data: bytes) -> Contents:
    """Everything but the tensors, which take most of the time."""
    with refuse_malformed():
        return _open(data)[0]


def _open(data: bytes) -> tuple[Contents, list[Form], Streams]:
    body = data[:-CHECKSUM_BYTES]
    if len(data) < PREFIX.size + CHECKSUM_BYTES:
        raise BadInput(f"an artifact of {len(data)} bytes is too short to be one")
    magic, version, packed_size, text_size = PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise BadInput(f"not an artifact: it begins with {magic!r}, not {MAGIC!r}")
    if version not in READABLE:
        raise BadInput(f"an artifact of format version {version}; this reader knows versions up to {VERSION}")
    if hashlib.sha256(body).digest() != data[-CHECKSUM_BYTES:]:
        raise BadInput("the artifact is damaged: its checksum is not that of its bytes")
    if packed_size > len(body) - PREFIX.size or text_size > LARGEST_HEADER:
        raise ValueError(f"a header of {packed_size} bytes, {text_size} unpacked, does not fit")
    text = decode_zstd(body[PREFIX.size : PREFIX.size + packed_size], text_size)
    header = read_json_object(text.decode(), "the artifact's header")
    payload = body[PREFIX.size + packed_size :]
    forms = [Form(*row) for row in header.pop("tensors")]
    require_plausible(forms, len(payload))
    streams = _split(payload, header.pop("streams"))
    sizes = {name: len(stream.data) for name, stream in streams.items()}
    return Contents(parse_header(header), _decode(streams["tokenizer"]), [], sizes), forms, streams


def _split(payload: bytes, table: Sequence[Any]) -> Streams:
    streams = dict[str, Stream]()
    at = 0
    for name, codec, plain_size, size in table:
        if not (isinstance(size, int) and isinstance(plain_size, int) and 0 <= size <= len(payload) - at):
            raise ValueError(f"stream {name!r:.40} of {size!r:.20} bytes does not fit")
        if name in streams:
            raise ValueError(f"stream {name!r:.40} appears twice")
        streams[name] = Stream(codec, plain_size, payload[at : at + size])
        at += size
    if at != len(payload):
        raise ValueError(f"{len(payload) - at} bytes follow the last stream")
    return streams


def _unpack_tensors(forms: Sequence[Form], streams: Streams) -> list[PackedTensor]:
    left = {name: _unpack_numbers(streams, name) for name in NUMBERS}

    def take(name: str, count: int) -> npt.NDArray[Any]:
        if count > len(left[name]):
            raise ValueError(f"stream {name} holds fewer numbers than its tensors have")
        taken = left[name][:count]
        left[name] = left[name][count:]
        return taken

    kinds = dict[str, list[Form]]()
    for form in forms:
        if form.step:
            kinds.setdefault(form.kind, []).append(form)
    integers = {kind: _unpack_integers(streams[f"integers.{kind}"], members) for kind, members in kinds.items()}
    tensors = []
    for form in forms:
        grid = None
        if form.step:
            rows, columns = form.matrix
            grid = Grid(
                step=float.fromhex(form.step),
                row_scales=take("scales", rows) if form.row_scales else None,
                row_exponents=take("octaves", rows) if form.row_exponents else None,
                column_exponents=take("octaves", columns) if form.column_exponents else None,
                trellis=bool(form.trellis),
            )
        values = next(integers[form.kind]) if grid else take(f"fp{form.bits}", form.size).reshape(form.shape)
        tensors.append(PackedTensor(form.name, form.kind, tuple(form.shape), form.bits, values, grid))
    unused = streams.keys() - {"tokenizer", *NUMBERS, *(f"integers.{kind}" for kind in kinds)}
    unused |= {name for name, numbers in left.items() if len(numbers)}
    if unused:
        raise ValueError(f"stream {min(unused)!r:.40} holds what belongs to no tensor")
    return tensors


def _unpack_numbers(streams: Streams, name: str) -> npt.NDArray[Any]:
    dtype = np.dtype(NUMBERS[name])
    data = _decode(streams[name]) if name in streams else b""
    planes = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
    numbers = np.frombuffer(planes.T.tobytes(), dtype).astype(dtype.newbyteorder("="))
    if not np.isfinite(numbers).all():
        raise ValueError(f"stream {name} holds NaN or infinity")
    return numbers


def _unpack_integers(stream: Stream, forms: Sequence[Form]) -> Iterator[Integers]:
    """The matrices of one kind."""
    sizes = [form.size for form in forms]
    if stream.plain_size != sum(sizes):
        raise ValueError(f"a stream holds {stream.plain_size} integers; its tensors have {sum(sizes)}")
    shapes = [form.matrix for form in forms]
    if stream.codec == "ans":
        return iter(decode_ranges(stream.data, shapes, [bool(form.trellis) for form in forms]))
    parts = np.split(np.frombuffer(_decode(stream), np.int8), np.cumsum(sizes)[:-1])
    return (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))


def _decode(stream: Stream) -> bytes:
    if stream.codec != "zstd" or not 0 <= stream.plain_size <= WEIGHTS_PER_BYTE * (len(stream.data) + 64):
        raise ValueError(f"a stream of {stream.plain_size} bytes by {stream.codec!r:.20} where zstd is due")
    return decode_zstd(stream.data, stream.plain_size)
