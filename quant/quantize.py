"""A model -> its tensors as they will be stored: integers on a grid, or floats. What pack and the training's end call.

tensors = quantize(model, config, statistics)      list of Stored, in the model's own order
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from base.errors import BadInput
from model.gpt import GPT, parameter_kind
from quant.bits import DEFAULT_BITS, parse_bits
from quant.config import QuantConfig
from quant.dequant import Floats, Grid, Integers
from quant.hessian import Cost
from quant.rounding import absmax, clip, feedbacks, nearest, sigma
from quant.step_sizes import RateParts, Shape, grid_at, shapes
from quant.stored import Stored

SIDE_BY_SIDE = 1 << 25  # numbers of matrices and their Hessians that go through error feedback at once


def quantize(model: GPT, config: QuantConfig, costs: Mapping[str, Cost] | None = None) -> list[Stored]:
    """`costs` as quant.hessian measures them, for the methods that need them."""
    # Copies: a storage that numpy has seen can no longer be resized, as FSDP2 does with gathered weights.
    parameters = {name: p.detach().float().cpu().clone().numpy() for name, p in model.named_parameters()}
    kinds = {name: str(parameter_kind(name, p)) for name, p in model.named_parameters()}
    for name, weight in parameters.items():
        if not np.isfinite(weight).all():
            raise BadInput(f"{name}: holds NaN or infinity; nothing can be packed from it")
    # An entropy coder behind `rate` makes the width a mere clamp: unless told otherwise, none.
    plan = parse_bits(
        config.bits, dict.fromkeys(DEFAULT_BITS, 8) | {"control": 16} if config.method == "rate" else DEFAULT_BITS
    )
    plan.require(kinds)
    bits = {name: plan.bits(name, kinds[name]) for name in parameters}
    matrices = {name: as_matrix(weight) for name, weight in parameters.items() if bits[name] <= 8}
    parts = RateParts(config.by_tensor, config.columns, config.rows, config.trellis)
    forms = shapes(matrices, costs or {}, parts) if config.method == "rate" else {}
    rounded = _rounded(matrices, bits, forms, costs or {}, config)
    return [
        Stored(
            name,
            kinds[name],
            weight.shape,
            bits[name],
            *(rounded.get(name) or (_floats(name, weight, bits[name]), None)),
        )
        for name, weight in parameters.items()
    ]


def _floats(name: str, weight: Floats, bits: int) -> npt.NDArray[np.floating]:
    with np.errstate(over="ignore"):  # refused below, by name
        values: npt.NDArray[np.floating] = weight.astype(np.float16 if bits == 16 else np.float32)
    if not np.isfinite(values).all():
        raise BadInput(f"{name}: has weights beyond fp16; give it 32 bits (--bits {name}=32)")
    return values


def _rounded(
    matrices: Mapping[str, Floats],
    bits: Mapping[str, int],
    forms: Mapping[str, Shape],
    costs: Mapping[str, Cost],
    config: QuantConfig,
) -> dict[str, tuple[Integers, Grid]]:
    found = dict[str, tuple[Integers, Grid]]()
    alike = dict[tuple[tuple[int, ...], int, bool], list[str]]()  # what error feedback can take side by side
    for name, matrix in matrices.items():
        fed = name in costs and config.calibrated and config.feedback
        if config.method == "rate":
            grid = grid_at(forms[name], config.dial, matrix, bits[name])
            integers = np.empty(matrix.shape, np.int8) if fed else nearest(matrix, grid, bits[name])
        else:
            integers, grid = simply(matrix, bits[name], config)
        found[name] = integers, grid
        if fed:
            alike.setdefault((matrix.shape, bits[name], grid.trellis), []).append(name)
    for ((rows, columns), width, _), names in alike.items():
        size = max(1, SIDE_BY_SIDE // (columns * (rows + columns)))
        for some in (names[at : at + size] for at in range(0, len(names), size)):
            grids = [found[name][1] for name in some]
            fed_back = feedbacks([matrices[n] for n in some], grids, width, [costs[n].hessian for n in some])
            found |= {name: (integers, grid) for name, integers, grid in zip(some, fed_back, grids, strict=True)}
    return found


def simply(weight: Floats, bits: int, config: QuantConfig) -> tuple[Integers, Grid]:
    if config.method == "clip":
        return clip(weight, bits)
    if config.method == "sigma":
        return sigma(weight, bits, config.dial * ((1 << (bits - 1)) - 1))
    return absmax(weight, bits)


def as_matrix(weight: Floats) -> Floats:
    return weight if weight.ndim == 2 else weight.reshape(1, -1)
