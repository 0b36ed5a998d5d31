"""What an artifact is made of, in rows: weights, bits, bytes and entropy, by tensor and by kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quant.format import PackedTensor


@dataclass(frozen=True)
class TensorRow:
    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    bits: int
    entropy_bytes: float
    entropy_bits_per_weight: float


@dataclass(frozen=True)
class StreamRow:
    kind: str  # or the name of a stream that is not of one kind
    bytes: int


@dataclass(frozen=True)
class KindRow(StreamRow):
    """All integers of one kind; their bytes are those of its stream."""

    tensors: int
    weights: int
    bits: int  # of the widest tensor
    least_bits: int
    bits_per_weight: float
    entropy_bits_per_weight: float
    over_entropy: float  # bytes above the entropy, as a share of it


def entropy_bits(values: npt.NDArray[np.int8]) -> float:
    """Order-0 entropy of one tensor, in bits: what a coder without contexts cannot beat."""
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float(-(counts * np.log2(counts / counts.sum())).sum()) if values.size else 0.0


def tensor_rows(tensors: Sequence[PackedTensor]) -> list[TensorRow]:
    rows = []
    for tensor in tensors:
        size = tensor.values.size
        bits = entropy_bits(tensor.values) if tensor.grid is not None else 8.0 * tensor.values.nbytes
        rows.append(TensorRow(tensor.name, tensor.kind, tensor.shape, size, tensor.bits, bits / 8, bits / max(size, 1)))
    return rows


def kind_rows(tensors: Sequence[PackedTensor], stream_bytes: Mapping[str, int]) -> list[StreamRow]:
    """One row per kind, then one for each other stream."""
    rows = list[StreamRow]()
    on_grid = [tensor for tensor in tensors if tensor.grid is not None]
    for kind in dict.fromkeys(tensor.kind for tensor in on_grid):
        mine = [tensor for tensor in on_grid if tensor.kind == kind]
        size = sum(tensor.values.size for tensor in mine)
        coded_bytes = stream_bytes[f"integers.{kind}"]
        entropy = sum(entropy_bits(tensor.values) for tensor in mine)
        rows.append(
            KindRow(
                kind=kind,
                bytes=coded_bytes,
                tensors=len(mine),
                weights=size,
                bits=max(tensor.bits for tensor in mine),
                least_bits=min(tensor.bits for tensor in mine),
                bits_per_weight=8 * coded_bytes / max(size, 1),
                entropy_bits_per_weight=entropy / max(size, 1),
                over_entropy=8 * coded_bytes / max(entropy, 1e-9) - 1,
            )
        )
    others = ("fp16", "fp32", "scales", "octaves", "tokenizer")
    return rows + [StreamRow(name, stream_bytes[name]) for name in others if name in stream_bytes]
