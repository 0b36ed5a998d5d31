"""A model -> its tensors as the artifact stores them: integers on a grid, or floats.

The work is done where the weights are. Ranks share the error feedback, which takes most of it; all get all integers.
"""

from collections.abc import Mapping

import numpy as np
import torch

from base.errors import BadInput
from engine.device import Device, gather
from model.gpt import GPT, parameter_kind
from quant.config import QuantConfig
from quant.dequant import Grid, Integers
from quant.format import PackedTensor
from quant.hessian import Cost
from quant.rounding import absmax, clip, feedback, nearest, sigma
from quant.step_sizes import rate_grids

SIDE_BY_SIDE = 1 << 25  # numbers in matrices and their Hessians that go through error feedback at once

ALONE = Device(torch.device("cpu"))  # one rank

Costs = Mapping[str, Cost]
Matrices = Mapping[str, torch.Tensor]
Grids = Mapping[str, Grid]


def quantize(model: GPT, config: QuantConfig, costs: Costs | None = None, device: Device = ALONE) -> list[PackedTensor]:
    """In the model's own order. `costs` as quant.hessian measures them, for the methods that need them."""
    weights = {name: p.detach().float() for name, p in model.named_parameters()}
    kinds = {name: str(parameter_kind(name, p)) for name, p in model.named_parameters()}
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise BadInput(f"{name}: holds NaN or infinity; nothing can be packed from it")
    config.plan.require(kinds)
    bits = {name: config.plan.bits(name, kind) for name, kind in kinds.items()}
    matrices = {name: as_matrix(weight) for name, weight in weights.items() if bits[name] <= 8}
    if config.method == "rate":
        grids = rate_grids(matrices, bits, costs or {}, config)
    else:
        grids = {name: row_grid(matrix, bits[name], config) for name, matrix in matrices.items()}
    integers = _feed_back(matrices, grids, bits, costs, device) if costs and config.feedback else {}
    tensors = []
    for name, weight in weights.items():
        if name not in grids:
            values = _to_float(name, weight, bits[name])
        elif name in integers:
            values = integers[name]
        else:
            values = _to_numpy(nearest(matrices[name], grids[name], bits[name]))
        tensors.append(PackedTensor(name, kinds[name], tuple(weight.shape), bits[name], values, grids.get(name)))
    return tensors


def as_matrix(weight: torch.Tensor) -> torch.Tensor:
    return weight if weight.ndim == 2 else weight.reshape(1, -1)


def _to_float(name: str, weight: torch.Tensor, bits: int) -> np.ndarray:
    values = weight.to(torch.float16 if bits == 16 else torch.float32, copy=True).cpu()
    if not values.isfinite().all():
        raise BadInput(f"{name}: has weights beyond fp16; give it 32 bits (--bits {name}=32)")
    return values.numpy()


def _to_numpy(integers: torch.Tensor) -> Integers:
    return np.ascontiguousarray(integers.cpu().numpy())


def row_grid(weight: torch.Tensor, bits: int, config: QuantConfig) -> Grid:
    if config.method == "clip":
        return clip(weight, bits)
    if config.method == "sigma":
        return sigma(weight, bits, config.dial * ((1 << (bits - 1)) - 1))
    return absmax(weight, bits)


def _feed_back(
    matrices: Matrices, grids: Grids, bits: Mapping[str, int], costs: Costs, device: Device
) -> dict[str, Integers]:
    """Every N-th matrix of a shape and width is this rank's, and goes side by side with others as memory allows."""
    alike = dict[tuple[tuple[int, ...], int], list[str]]()
    for name, matrix in matrices.items():
        if name in costs:
            alike.setdefault((tuple(matrix.shape), bits[name]), []).append(name)
    integers = dict[str, Integers]()
    for number, (((rows, columns), width), group) in enumerate(alike.items()):
        mine = group[(device.rank - number) % device.ranks :: device.ranks]
        size = max(1, SIDE_BY_SIDE // (columns * (rows + columns)))
        for at in range(0, len(mine), size):
            names = mine[at : at + size]
            chosen = [costs[name] for name in names]
            rounded = feedback([matrices[n] for n in names], [grids[n] for n in names], width, chosen)
            integers.update(zip(names, map(_to_numpy, rounded), strict=True))
    return {name: values for part in gather(integers, device) for name, values in part.items()}
