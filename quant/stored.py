"""A tensor as the artifact holds it, and how it becomes weights again."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from base.errors import BadInput
from quant.grid import Floats, Grid


@dataclass(frozen=True)
class Stored:
    """One tensor as the artifact holds it; `grid` None: `values` are floats, kept as they are."""

    name: str
    kind: str
    shape: tuple[int, ...]
    bits: int
    values: npt.NDArray[Any]  # int8 (rows, columns) on the grid; else fp16 or fp32 in the tensor's own shape
    grid: Grid | None

    def weights(self) -> Floats:
        plain = self.values.astype(np.float32) if self.grid is None else self.grid.weights(self.values)
        return plain.reshape(self.shape)


@torch.no_grad()
def put_into(model: torch.nn.Module, tensors: Iterable[Stored]) -> None:
    """The model as every reader of the artifact has it; the tensors must be exactly its own."""
    parameters, put = dict(model.named_parameters()), set[str]()
    for tensor in tensors:
        own = parameters.get(tensor.name)
        if own is None or tensor.name in put or tuple(own.shape) != tensor.shape:
            raise BadInput(f"tensor {tensor.name!r:.60} of shape {tensor.shape} is not this model's")
        weights = tensor.weights()
        if not np.isfinite(weights).all():
            raise BadInput(f"tensor {tensor.name!r:.60}: its steps make weights that are no numbers")
        own.copy_(torch.from_numpy(weights))
        put.add(tensor.name)
    if missing := set(parameters) - put:
        raise BadInput(f"tensor {min(missing)} is missing")
