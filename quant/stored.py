"""A tensor as the artifact holds it. Without torch, so that an artifact can be read where there is no model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.dequant import Floats, Grid


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
