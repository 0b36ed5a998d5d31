"""The header of an artifact, checked as it is parsed: what it records about its run, and the form of every tensor."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from base.config import Layer, build
from base.errors import BadInput
from model.config import ModelConfig
from quant.bits import DEFAULT_BITS

LARGEST_NUMBER = 1 << 31  # in the model's config and in a shape
LARGEST_STEP = 1e30  # what rows and columns make of it is checked where it becomes weights
ROW_COST = 64  # decoding a row of integers takes as long as this many weights
WEIGHTS_PER_BYTE = 256  # no artifact holds more weights for each byte of its own
T = TypeVar("T")


@dataclass(frozen=True)
class ArtifactHeader:
    """What the artifact records about its run; 0 or "" where it was not made by a run."""

    model: ModelConfig
    config: dict[str, Any]  # the run's resolved config
    data_sha256: str
    tokenizer_sha256: str
    seq_len: int  # of training
    stride: int
    context: int  # eval.context, or the training length
    data_path: str


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
class Form:
    """A row of the header's table of tensors, its fields in this order."""

    name: str
    kind: str
    shape: list[int]
    bits: int
    step: str  # fp32 in hexadecimal; "" for floats
    row_scales: int = 0  # 1 where the grid has them; so for the rest
    row_exponents: int = 0
    column_exponents: int = 0
    trellis: int = 0

    def __post_init__(self) -> None:
        flags = (self.row_scales, self.row_exponents, self.column_exponents, self.trellis)
        legal_bits = range(2, 9) if self.step else (16, 32)
        for field, legal in (
            ("name", isinstance(self.name, str)),
            ("kind", self.kind in DEFAULT_BITS),
            ("shape", len(self.shape) <= 2 and all(type(n) is int and 0 <= n < LARGEST_NUMBER for n in self.shape)),
            ("step", isinstance(self.step, str) and abs(float.fromhex(self.step or "0")) < LARGEST_STEP),
            ("bits", self.bits in legal_bits),
            ("flags", all(type(flag) is int and flag in ((0, 1) if self.step else (0,)) for flag in flags)),
        ):
            if not legal:
                raise ValueError(f"tensor {self.name!r:.40} has no legal {field}: {self!r:.120}")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns; a vector is one row."""
        return (self.shape[0], self.shape[1]) if len(self.shape) == 2 else (1, self.size)


def require_plausible(forms: Iterable[Form], payload_bytes: int) -> None:
    """A few bytes must not keep a reader busy for long; the writer makes no artifact that a reader would refuse."""
    work = 0
    for form in forms:
        rows, columns = form.matrix
        work += rows * columns + columns + ROW_COST * rows
    if work > WEIGHTS_PER_BYTE * (payload_bytes + 64):
        raise BadInput(
            f"the artifact would hold more weights than {payload_bytes:,} bytes may: {work:,}; are they all alike?"
        )
