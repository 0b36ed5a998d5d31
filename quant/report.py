"""What an artifact is made of, in rows: weights, bits, bytes, entropy and squared error, by tensor and by kind."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.stored import Stored


def entropy_bits(values: npt.NDArray[np.int8]) -> float:
    """Order-0, over one tensor: what a coder without contexts cannot beat. Total bits."""
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float(-(counts * np.log2(counts / counts.sum())).sum()) if values.size else 0.0


def tensor_rows(
    tensors: Sequence[Stored], originals: Mapping[str, npt.NDArray[np.float32]] | None = None
) -> list[dict[str, Any]]:
    rows = []
    for tensor in tensors:
        size = tensor.values.size
        bits = entropy_bits(tensor.values) if tensor.grid is not None else 8.0 * tensor.values.nbytes
        row = {
            "name": tensor.name, "kind": tensor.kind, "shape": list(tensor.shape), "weights": size, "bits": tensor.bits,
            "entropy_bytes": bits / 8, "entropy_bits_per_weight": bits / max(size, 1),
        }  # fmt: skip
        if originals is not None and size:
            original = originals[tensor.name]
            power = float(np.square(original).mean()) or 1.0
            row["relative_error"] = float(np.square(tensor.weights() - original).mean()) / power
        rows.append(row)
    return rows


def kind_rows(
    tensors: Sequence[Stored], stream_bytes: Mapping[str, int], foretold: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """One row a kind; its bytes are its integers' stream. Floats, scales and octaves are rows of their own.

    `foretold`: nats by tensor, where they were measured: at the best trade, like for every weight.
    """
    rows = []
    for kind in dict.fromkeys(tensor.kind for tensor in tensors if tensor.grid is not None):
        mine = [tensor for tensor in tensors if tensor.kind == kind and tensor.grid is not None]
        size = sum(tensor.values.size for tensor in mine)
        coded = stream_bytes[f"integers.{kind}"]
        entropy = sum(entropy_bits(tensor.values) for tensor in mine)
        rows.append(
            {
                "kind": kind, "tensors": len(mine), "weights": size, "bits": max(tensor.bits for tensor in mine),
                "least_bits": min(tensor.bits for tensor in mine),
                "foretold_nats": sum(foretold.get(tensor.name, 0.0) for tensor in mine) if foretold else None,
                "bytes": coded, "bits_per_weight": 8 * coded / max(size, 1),
                "entropy_bits_per_weight": entropy / max(size, 1), "over_entropy": 8 * coded / max(entropy, 1e-9) - 1,
            }
        )  # fmt: skip
    for name in ("fp16", "fp32", "scales", "octaves", "tokenizer"):
        if stream_bytes.get(name):
            rows.append({"kind": name, "bytes": stream_bytes[name]})
    return rows
