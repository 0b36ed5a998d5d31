"""What every width would cost every tensor, in bytes and in nats: the table that `--fit` solves for absmax, clip, gptq.

Bytes are entropies and scales; nats are half the error in the measured metric (quant.hessian), conditioned where error
feedback will follow, since the columns to come make up for a part.
"""

from collections.abc import Mapping

import torch

from model.gpt import GPT, parameter_kind
from quant.bits import DEFAULT_BITS, parse_bits
from quant.budget import Option
from quant.config import QuantConfig
from quant.hessian import Cost
from quant.quantize import as_matrix, simply
from quant.report import entropy_bits
from quant.rounding import conditioned

FREE = dict.fromkeys(DEFAULT_BITS, 0) | {"control": DEFAULT_BITS["control"]}


def width_options(model: GPT, config: QuantConfig, costs: Mapping[str, Cost]) -> dict[str, list[Option]]:
    """Of every tensor that the words of `config.bits` leave free."""
    said, table = parse_bits(config.bits, FREE), dict[str, list[Option]]()
    for name, parameter in model.named_parameters():
        if said.bits(name, str(parameter_kind(name, parameter))):
            continue
        weight, cost = as_matrix(parameter.detach().float().cpu().numpy()), costs[name]
        if config.method == "gptq":
            cost = Cost(torch.diag(conditioned(cost.hessian).diagonal() ** -2), cost.rows)
        table[name] = []
        for bits in range(2, 9):
            integers, grid = simply(weight, bits, config)
            size = entropy_bits(integers) / 8 + 2 * len(weight)
            table[name].append(Option(bits, size, cost.nats(grid.weights(integers) - weight)))
    return table
