"""A model -> its tensors as the artifact stores them: integers on a grid, or floats."""

from collections.abc import Mapping

import numpy as np

from base.errors import BadInput
from model.gpt import GPT, parameter_kind
from quant.config import QuantConfig
from quant.dequant import Floats, Grid, Integers
from quant.format import PackedTensor
from quant.hessian import Cost
from quant.rounding import absmax, clip, feedback, nearest, sigma
from quant.step_sizes import rate_grids

SIDE_BY_SIDE = 1 << 25  # numbers in matrices and their Hessians that go through error feedback at once

Costs = Mapping[str, Cost]
Matrices = Mapping[str, Floats]
Grids = Mapping[str, Grid]


def quantize(model: GPT, config: QuantConfig, costs: Costs | None = None) -> list[PackedTensor]:
    """In the model's own order. `costs` as quant.hessian measures them, for the methods that need them."""
    # Copies: a storage that numpy has seen can no longer be resized, as FSDP2 does with gathered weights.
    weights = {name: p.detach().float().cpu().clone().numpy() for name, p in model.named_parameters()}
    kinds = {name: str(parameter_kind(name, p)) for name, p in model.named_parameters()}
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise BadInput(f"{name}: holds NaN or infinity; nothing can be packed from it")
    config.plan.require(kinds)
    bits = {name: config.plan.bits(name, kind) for name, kind in kinds.items()}
    matrices = {name: as_matrix(weight) for name, weight in weights.items() if bits[name] <= 8}
    if config.method == "rate":
        grids = rate_grids(matrices, bits, costs or {}, config)
    else:
        grids = {name: row_grid(matrix, bits[name], config) for name, matrix in matrices.items()}
    integers = _feed_back(matrices, grids, bits, costs) if costs and config.feedback else {}
    tensors = []
    for name, weight in weights.items():
        if name not in grids:
            values = _to_float(name, weight, bits[name])
        elif name in integers:
            values = integers[name]
        else:
            values = nearest(matrices[name], grids[name], bits[name])
        tensors.append(PackedTensor(name, kinds[name], weight.shape, bits[name], values, grids.get(name)))
    return tensors


def as_matrix(weight: Floats) -> Floats:
    return weight if weight.ndim == 2 else weight.reshape(1, -1)


def _to_float(name: str, weight: Floats, bits: int) -> np.ndarray:
    with np.errstate(over="ignore"):  # refused below, by name
        values: np.ndarray = weight.astype(np.float16 if bits == 16 else np.float32)
    if not np.isfinite(values).all():
        raise BadInput(f"{name}: has weights beyond fp16; give it 32 bits (--bits {name}=32)")
    return values


def row_grid(weight: Floats, bits: int, config: QuantConfig) -> Grid:
    if config.method == "clip":
        return clip(weight, bits)
    if config.method == "sigma":
        return sigma(weight, bits, config.dial * ((1 << (bits - 1)) - 1))
    return absmax(weight, bits)


def _feed_back(matrices: Matrices, grids: Grids, bits: Mapping[str, int], costs: Costs) -> dict[str, Integers]:
    """Matrices of one shape and width go side by side, as many as memory allows."""
    alike = dict[tuple[tuple[int, ...], int], list[str]]()
    for name, matrix in matrices.items():
        if name in costs:
            alike.setdefault((matrix.shape, bits[name]), []).append(name)
    integers = dict[str, Integers]()
    for ((rows, columns), width), group in alike.items():
        size = max(1, SIDE_BY_SIDE // (columns * (rows + columns)))
        for at in range(0, len(group), size):
            names = group[at : at + size]
            hessians = [costs[name].hessian for name in names]
            rounded = feedback([matrices[n] for n in names], [grids[n] for n in names], width, hessians)
            integers.update(zip(names, rounded, strict=True))
    return integers
