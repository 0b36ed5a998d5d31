"""What the integers of each kind take in an artifact, beside their entropy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quant.format import PackedTensor


@dataclass(frozen=True)
class KindRow:
    kind: str
    bytes: int  # of its stream
    weights: int
    bits: int  # of the widest tensor
    bits_per_weight: float
    entropy_bits_per_weight: float


def entropy_bits(values: npt.NDArray[np.int8]) -> float:
    """Order-0 entropy of one tensor, in bits: what a coder without contexts cannot beat."""
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float(-(counts * np.log2(counts / counts.sum())).sum()) if values.size else 0.0


def kind_rows(tensors: Sequence[PackedTensor], stream_bytes: Mapping[str, int]) -> list[KindRow]:
    rows = []
    on_grid = [tensor for tensor in tensors if tensor.grid is not None]
    for kind in dict.fromkeys(tensor.kind for tensor in on_grid):
        mine = [tensor for tensor in on_grid if tensor.kind == kind]
        size = sum(tensor.values.size for tensor in mine)
        coded_bytes = stream_bytes[f"integers.{kind}"]
        entropy = sum(entropy_bits(tensor.values) for tensor in mine)
        widest = max(tensor.bits for tensor in mine)
        rows.append(KindRow(kind, coded_bytes, size, widest, 8 * coded_bytes / size, entropy / size))
    return rows
