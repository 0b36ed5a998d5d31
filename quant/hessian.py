"""What an error in each weight matrix costs: measured on training batches, in nats per token.

    costs = measure(model, batches)         name -> Cost; batches are token rows (B, T), of training text only

An error d in a matrix raises the loss by about 1/2 sum_r importance_r d_r H d_r^T. H is the second moment of the inputs
(E[x x^T]) times the mean output's Fisher information, with labels drawn from the model itself; the importance of a row
is its own output's Fisher information over that mean. A table is looked up with one-hot rows: its H is diagonal over
its width, and the importance of a row is its token's frequency. A tied table is table and head at once: they add up.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from model.gpt import GPT

TABLE, HEAD = "embedding.table.weight", "head.weight"


@dataclass(frozen=True)
class Cost:
    hessian: torch.Tensor  # (columns, columns) fp64, the mean output's Fisher information included
    importance: torch.Tensor  # (rows,) fp64, of mean 1

    def nats(self, error: npt.NDArray[np.floating]) -> float:
        """What this error of the weights costs per token."""
        d = torch.from_numpy(error).double()
        return 0.5 * float((d @ self.hessian * d).sum(1) @ self.importance)


Sums = dict[str, torch.Tensor]  # over all tokens, by the name of the weight


def measure(model: GPT, batches: Iterable[torch.Tensor]) -> dict[str, Cost]:
    """Leaves the model in eval mode."""
    inputs = Sums()  # x x^T, or the count of each row of a table
    outputs = Sums()  # squares of the loss's gradient
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            hooks.append(module.register_forward_hook(_watch(f"{name}.weight", inputs, outputs)))
    model.eval()
    draw = torch.Generator().manual_seed(0)
    tokens_seen = 0
    for tokens in batches:
        x, slope = _head_inputs_and_slope(model, tokens, draw)  # the head is a product that no hook sees
        _add(inputs, HEAD, x.mT @ x)
        _add(outputs, HEAD, slope.square().sum(0))
        tokens_seen += tokens.numel()
    for hook in hooks:
        hook.remove()
    model.zero_grad(set_to_none=True)
    costs = {name: _cost(inputs[name].cpu() / tokens_seen, outputs[name].cpu() / tokens_seen) for name in inputs}
    if model.head is None:
        costs[TABLE] = _added(costs[TABLE], costs.pop(HEAD))
    return costs


def _add(total: Sums, name: str, value: torch.Tensor) -> None:
    total[name] = total[name] + value.double() if name in total else value.double()


def _watch(name: str, inputs: Sums, outputs: Sums) -> Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
    """A hook that adds up what comes in and, in the backward pass, the squared gradient of what goes out."""

    def watch(module: nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if isinstance(module, nn.Embedding):
            _add(inputs, name, torch.bincount(args[0].flatten(), minlength=module.num_embeddings))
        else:
            x = args[0].detach().flatten(0, -2)
            _add(inputs, name, x.mT @ x)
        output.register_hook(  # type: ignore[no-untyped-call]
            lambda grad: _add(outputs, name, grad.flatten(0, -2).square().sum(0))
        )

    return watch


def _head_inputs_and_slope(
    model: GPT, tokens: torch.Tensor, draw: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, dim) and (N, V) of the head before the soft cap, from a forward and a backward pass on labels drawn from the
    model."""
    hidden = model.trunk(tokens)
    z = model.logits(hidden, tokens)  # (B, T, V)
    labels = torch.multinomial(z.detach().softmax(-1).flatten(0, 1).cpu(), 1, generator=draw).to(tokens.device)
    loss = F.cross_entropy(z.flatten(0, 1), labels[:, 0], reduction="sum")
    (slope,) = torch.autograd.grad(loss, z, retain_graph=True)
    z.backward(slope)  # type: ignore[no-untyped-call]
    cap = model.config.softcap
    # Where a token is forbidden z is not what the cap gave, and the slope is next to nothing.
    before_cap = slope * (1 - (z.detach() / cap).square()) if cap else slope
    return model.norm(hidden).detach().flatten(0, 1), before_cap.flatten(0, 1)


def _cost(inputs: torch.Tensor, fisher: torch.Tensor) -> Cost:
    """From means over tokens."""
    if inputs.ndim == 1:  # a table: its rows are the inputs, its columns the outputs
        return Cost(torch.diag(fisher) * inputs.mean(), _of_mean_1(inputs))
    return Cost(inputs * fisher.mean(), _of_mean_1(fisher))


def _added(table: Cost, head: Cost) -> Cost:
    """The cost of one matrix used as both."""
    as_table = table.importance * table.hessian.diagonal().mean()
    as_head = head.importance * head.hessian.diagonal().mean()
    return Cost(table.hessian + head.hessian, _of_mean_1(as_table + as_head))


def _of_mean_1(values: torch.Tensor) -> torch.Tensor:
    mean = values.mean()
    return values / mean if mean > 0 else torch.ones_like(values)
