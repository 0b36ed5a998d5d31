"""`model.golf`: magic, version, header, streams, checksum. Bytes in, bytes out; no files, no model, no pickle.

    data = write_artifact(tensors, header, tokenizer, codec)
    contents = read_artifact(data)

Layout: "GOLF", version (u16), the header's packed and plain lengths (u32), header (JSON, zstd), streams, SHA-256 of all
before it. The header names every tensor's shape and form and every stream's size; there are no offsets, so nothing can
overlap. A reader checks the checksum and every size before it allocates, and refuses in one line.
"""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from base.config import Layer, build
from base.errors import BadInput
from model.config import ModelConfig
from quant.bits import DEFAULT_BITS
from quant.coder import decode_ranges, decode_zstd, encode_ranges, encode_zstd
from quant.config import Codec
from quant.dequant import Grid, Integers
from quant.stored import Stored

MAGIC, VERSION = b"GOLF", 2
READABLE = (1, 2)  # 1 knew no trellis
PREFIX = struct.Struct("<4sHII")
CHECKSUM_BYTES = 32
ROW_COST = 64  # decoding a row takes as long as so many weights
LARGEST_STEP = 1e30  # what rows and columns make of it is looked at where it becomes weights
LARGEST_HEADER = 1 << 24  # bytes, of JSON
LARGEST_NUMBER = 1 << 31  # in the model's config
# What a hostile header can make of plain Python: an answer, never a traceback.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError)
KINDS = frozenset(DEFAULT_BITS)
WEIGHTS_A_BYTE = 256  # no artifact holds more weights for a byte of its own
T = TypeVar("T")


@dataclass(frozen=True)
class ArtifactHeader:
    """What the artifact records about its run, parsed once; 0 or "" where it was not made by a run."""

    model: ModelConfig
    config: dict[str, Any]  # the run's resolved config
    data_sha256: str
    tokenizer_sha256: str
    seq_len: int  # of training
    stride: int
    context: int  # eval.context, or the training length
    data_path: str


@dataclass(frozen=True)
class Contents:
    header: ArtifactHeader
    tokenizer: bytes
    tensors: list[Stored]
    stream_bytes: dict[str, int]


@dataclass(frozen=True)
class Written:
    data: bytes
    stream_bytes: dict[str, int]


def write_artifact(tensors: Sequence[Stored], header: dict[str, Any], tokenizer: bytes, codec: Codec) -> Written:
    """`header` is the writer's own (config, hashes); tables of tensors and streams are added to it."""
    streams: list[tuple[str, str, int, bytes]] = []  # name, codec, plain size, bytes

    def add(name: str, plain: bytes) -> None:
        if plain:
            streams.append((name, "zstd", len(plain), encode_zstd(plain)))

    add("tokenizer", tokenizer)
    add("fp16", _planes(_joined(t.values for t in tensors if t.values.dtype == np.float16), 2))
    add("fp32", _planes(_joined(t.values for t in tensors if t.values.dtype == np.float32), 4))
    grids = [t.grid for t in tensors if t.grid is not None]
    add("scales", _planes(_joined(g.scales for g in grids if g.scales is not None), 2))
    add("octaves", _joined(part for g in grids for part in (g.rows, g.columns) if part is not None))
    for kind in dict.fromkeys(t.kind for t in tensors if t.grid is not None):
        mine = [tensor for tensor in tensors if tensor.grid is not None and tensor.kind == kind]
        streams.append(_coded(f"integers.{kind}", mine, codec))
    forms = [_form(tensor) for tensor in tensors]
    _require_worth(sum(_Form(*form).worth for form in forms), sum(len(coded) for *_, coded in streams), "the artifact")
    table = {
        **header,
        "tensors": forms,
        "streams": [[name, used, size, len(coded)] for name, used, size, coded in streams],
    }
    plain = json.dumps(table, separators=(",", ":")).encode()
    packed = encode_zstd(plain)
    body = PREFIX.pack(MAGIC, VERSION, len(packed), len(plain)) + packed + b"".join(coded for *_, coded in streams)
    return Written(body + hashlib.sha256(body).digest(), {name: len(coded) for name, _, _, coded in streams})


def read_artifact(data: bytes) -> Contents:
    try:
        parts = _parts(data)
        tensors = _tensors(parts.forms, parts.coded)
        return Contents(parts.header, parts.tokenizer(), tensors, {n: len(c[2]) for n, c in parts.coded.items()})
    except MALFORMED as error:
        raise BadInput(f"the artifact is malformed: {error!r:.200}") from None


def read_head(data: bytes) -> Contents:
    """All but the tensors, which take the most time: for who asks only what the artifact says of itself."""
    try:
        parts = _parts(data)
        return Contents(parts.header, parts.tokenizer(), [], {n: len(c[2]) for n, c in parts.coded.items()})
    except MALFORMED as error:
        raise BadInput(f"the artifact is malformed: {error!r:.200}") from None


@dataclass(frozen=True)
class _Parts:
    header: ArtifactHeader
    forms: list["_Form"]
    coded: dict[str, tuple[str, int, bytes]]

    def tokenizer(self) -> bytes:
        return _plain(self.coded, "tokenizer", None)


def _parts(data: bytes) -> _Parts:
    body = data[:-CHECKSUM_BYTES]
    if len(data) < PREFIX.size + CHECKSUM_BYTES:
        raise BadInput(f"an artifact of {len(data)} bytes is too short to be one")
    magic, version, length, plain = PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise BadInput(f"not an artifact: it begins with {magic!r}, not {MAGIC!r}")
    if version not in READABLE:
        raise BadInput(f"an artifact of format version {version}; this reader knows versions up to {VERSION}")
    if hashlib.sha256(body).digest() != data[-CHECKSUM_BYTES:]:
        raise BadInput("the artifact is damaged: its checksum is not that of its bytes")
    if length > len(body) - PREFIX.size or plain > LARGEST_HEADER:
        raise ValueError(f"a header of {length} bytes, {plain} unpacked, does not fit")
    text = decode_zstd(body[PREFIX.size : PREFIX.size + length], plain)
    header = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    table, listed = header.pop("tensors"), header.pop("streams")
    payload = body[PREFIX.size + length :]
    forms = [_Form(*form) for form in table]
    _require_worth(sum(form.worth for form in forms), len(payload), "the artifact")
    coded: dict[str, tuple[str, int, bytes]] = {}
    at = 0
    for name, codec, unpacked, size in listed:
        if not (isinstance(size, int) and isinstance(unpacked, int) and 0 <= size <= len(payload) - at):
            raise ValueError(f"stream {name!r:.40} of {size!r:.20} bytes does not fit")
        if name in coded:
            raise ValueError(f"stream {name!r:.40} appears twice")
        coded[name] = (codec, unpacked, payload[at : at + size])
        at += size
    if at != len(payload):
        raise ValueError(f"{len(payload) - at} bytes follow the last stream")
    return _Parts(parse_header(header), forms, coded)


def parse_header(values: dict[str, Any]) -> ArtifactHeader:
    config = values.get("config")
    section = config.get("model") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(section, dict):
        raise BadInput("its header has no model config")
    if any(isinstance(value, int) and abs(value) > LARGEST_NUMBER for value in section.values()):
        raise BadInput(f"its model config has a number beyond {LARGEST_NUMBER:,}")
    seq_len = _value(config, "train", "seq_len", 0)
    return ArtifactHeader(
        model=build(ModelConfig, [Layer("the artifact's header", section)]),
        config=config,
        data_sha256=str(values.get("data_sha256", "")),
        tokenizer_sha256=str(values.get("tokenizer_sha256", "")),
        seq_len=seq_len,
        stride=_value(config, "eval", "stride", 0),
        context=_value(config, "eval", "context", 0) or seq_len,
        data_path=_value(config, "data", "path", ""),
    )


def _value(config: dict[str, Any], section: str, key: str, missing: T) -> T:
    """A value of the type of `missing`, or `missing`."""
    values = config.get(section)
    value = values.get(key) if isinstance(values, dict) else None
    return value if isinstance(value, type(missing)) else missing


@dataclass(frozen=True)
class _Form:
    """A row of the header's tensor table."""

    name: str
    kind: str
    shape: list[int]
    bits: int
    step: str  # fp32 in hexadecimal; "": floats
    scales: int
    rows: int
    columns: int
    trellis: int = 0

    def __post_init__(self) -> None:
        fine = all(isinstance(n, int) and 0 <= n < 1 << 31 for n in self.shape) and len(self.shape) <= 2
        if not (isinstance(self.name, str) and isinstance(self.kind, str) and fine and isinstance(self.step, str)):
            raise ValueError(f"tensor {self.name!r:.40} has shape {self.shape!r:.40}")
        if self.bits not in range(2, 9) if self.step else self.bits not in (16, 32):
            raise ValueError(f"tensor {self.name!r:.40} has {self.bits!r:.20} bits")
        if self.kind not in KINDS:
            raise ValueError(f"tensor {self.name!r:.40} is of kind {self.kind!r:.20}")
        if not all(type(flag) is int and flag in (0, 1) for flag in self.flags):
            raise ValueError(f"tensor {self.name!r:.40} has flags other than 0 and 1")
        if self.step and not abs(float.fromhex(self.step)) < LARGEST_STEP:
            raise ValueError(f"tensor {self.name!r:.40} has step {self.step!r:.20}")

    @property
    def flags(self) -> tuple[int, ...]:
        return self.scales, self.rows, self.columns, self.trellis

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def worth(self) -> int:
        """What reading it takes, in weights."""
        return self.size + sum(self.matrix) + ROW_COST * self.matrix[0] * self.trellis

    @property
    def matrix(self) -> tuple[int, int]:
        return (self.shape[0], self.shape[1]) if len(self.shape) == 2 else (1, self.size)


def _form(tensor: Stored) -> list[Any]:
    grid = tensor.grid
    start = [tensor.name, tensor.kind, list(tensor.shape), tensor.bits]
    if grid is None:
        return [*start, "", 0, 0, 0, 0]
    parts = (grid.scales, grid.rows, grid.columns)
    return [*start, float(grid.step).hex(), *(int(part is not None) for part in parts), int(grid.trellis)]


def _tensors(forms: list[_Form], coded: dict[str, tuple[str, int, bytes]]) -> list[Stored]:
    whole = [form for form in forms if form.step]
    need = {
        "fp16": sum(2 * form.size for form in forms if not form.step and form.bits == 16),
        "fp32": sum(4 * form.size for form in forms if not form.step and form.bits == 32),
        "scales": sum(2 * form.matrix[0] for form in whole if form.scales),
        "octaves": sum(form.matrix[0] * form.rows + form.matrix[1] * form.columns for form in whole),
    }
    fp16 = _Take(_whole(_plain(coded, "fp16", need["fp16"]), 2), np.float16)
    fp32 = _Take(_whole(_plain(coded, "fp32", need["fp32"]), 4), np.float32)
    scales = _Take(_whole(_plain(coded, "scales", need["scales"]), 2), np.float16)
    octaves = _Take(_plain(coded, "octaves", need["octaves"]), np.int8)
    integers = {kind: iter(_integers(coded, kind, whole)) for kind in dict.fromkeys(form.kind for form in whole)}
    extra = set(coded) - {"tokenizer", "fp16", "fp32", "scales", "octaves", *(f"integers.{kind}" for kind in integers)}
    if extra:
        raise ValueError(f"stream {min(extra)!r:.40} belongs to no tensor")
    found = []
    for form in forms:
        shape = tuple(form.shape)
        if not form.step:
            values = (fp16 if form.bits == 16 else fp32)(form.size).reshape(shape)
            if not np.isfinite(values).all():
                raise ValueError(f"tensor {form.name!r:.40} holds NaN or infinity")
            found.append(Stored(form.name, form.kind, shape, form.bits, values, None))
            continue
        grid = Grid(
            float.fromhex(form.step),
            scales(form.matrix[0]) if form.scales else None,
            octaves(form.matrix[0]) if form.rows else None,
            octaves(form.matrix[1]) if form.columns else None,
            bool(form.trellis),
        )
        if grid.scales is not None and not np.isfinite(grid.scales).all():
            raise ValueError(f"tensor {form.name!r:.40} has scales that are no numbers")
        found.append(Stored(form.name, form.kind, shape, form.bits, next(integers[form.kind]), grid))
    return found


class _Take:
    """One array after another off the front of a stream."""

    def __init__(self, data: bytes, dtype: type[np.generic]) -> None:
        self._values, self._at = np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).astype(dtype), 0

    def __call__(self, count: int) -> npt.NDArray[Any]:
        self._at += count
        return self._values[self._at - count : self._at]


def _integers(coded: dict[str, tuple[str, int, bytes]], kind: str, forms: list[_Form]) -> list[Integers]:
    shapes, trellises = zip(*((form.matrix, bool(form.trellis)) for form in forms if form.kind == kind), strict=True)
    codec, plain, data = coded[f"integers.{kind}"]
    if plain != sum(rows * columns for rows, columns in shapes):
        raise ValueError(f"stream integers.{kind} holds {plain} integers; its tensors are of another number")
    if codec == "ans":
        _require_worth(_worth(shapes), len(data), f"stream integers.{kind}")
        return decode_ranges(data, shapes, trellises)
    flat = np.frombuffer(_plain(coded, f"integers.{kind}", plain), np.int8)
    edges = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(flat, edges), shapes, strict=True)]


def _coded(name: str, tensors: list[Stored], codec: Codec) -> tuple[str, str, int, bytes]:
    matrices = [tensor.values for tensor in tensors]
    trellises = [tensor.grid is not None and tensor.grid.trellis for tensor in tensors]
    plain = b"".join(matrix.tobytes() for matrix in matrices)
    ways: dict[str, Callable[[], bytes]] = {
        "zstd": lambda: encode_zstd(plain),
        "ans": lambda: encode_ranges(matrices, trellises),
    }
    tried = {way: ways[way]() for way in (ways if codec == "best" else [codec])}
    used = min(tried, key=lambda way: len(tried[way]))
    _require_worth(
        _worth([m.shape for m in matrices]) if used == "ans" else len(plain), len(tried[used]), f"stream {name}"
    )
    return name, used, len(plain), tried[used]


def _worth(shapes: Iterable[tuple[int, ...]]) -> int:
    """What a stream of ranges takes to read, in weights."""
    return sum(rows * (columns + ROW_COST) for rows, columns in shapes)


def _require_worth(worth: int, size: int, what: str) -> None:
    """A few bytes must not keep a reader busy for long; so a writer makes none that it would refuse."""
    if worth > WEIGHTS_A_BYTE * (size + 64):
        raise BadInput(f"{what} would hold more weights than {size:,} bytes may: {worth:,}; are they all alike?")


def _plain(coded: dict[str, tuple[str, int, bytes]], name: str, size: int | None) -> bytes:
    """A zstd stream's bytes; `size` as the tensors need it, None: as the header says, within reason."""
    codec, said, data = coded.get(name, ("zstd", 0, b""))
    if codec != "zstd" or (size is not None and said != size) or not 0 <= said <= WEIGHTS_A_BYTE * (len(data) + 64):
        raise ValueError(f"stream {name} has {said} bytes by {codec!r:.20}; {size} by zstd are due")
    return decode_zstd(data, said) if said else b""


def _no_constant(name: str) -> None:
    raise ValueError(f"the header holds {name}")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the header holds {text:.20}")
    return number


def _joined(arrays: Iterable[npt.NDArray[Any]]) -> bytes:
    return b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays)


def _planes(data: bytes, width: int) -> bytes:
    """First bytes of all numbers, then their second bytes, …: like stands by like."""
    return np.frombuffer(data, np.uint8).reshape(-1, width).T.tobytes()


def _whole(planes: bytes, width: int) -> bytes:
    return np.frombuffer(planes, np.uint8).reshape(width, -1).T.tobytes()
