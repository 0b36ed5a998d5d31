"""What each weight matrix sees and does: from training batches, how much the loss would mind an error in it.

    costs = measure(model, batches)         name -> Cost; batches are token rows (B, T), of training text only

An error d in a matrix raises the loss by about 1/2 sum_r weight_r d_r H d_r^T: H from what comes in (E[x x^T]) and, by
the Fisher information with labels drawn from the model itself, from what the outputs do to the loss. A table is looked
up with one-hot rows, so its H is diagonal over its width; a tied table is head and table at once, and the two add up.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from model.gpt import GPT


@dataclass(frozen=True)
class Cost:
    hessian: torch.Tensor  # (columns, columns) fp64, the mean output's Fisher information included
    rows: torch.Tensor  # (rows,) fp64 what each row weighs beside the mean, 1

    def nats(self, error: npt.NDArray[np.floating]) -> float:
        """What this error of the weights will cost a token."""
        d = torch.from_numpy(error).double()
        return 0.5 * float((d @ self.hessian * d).sum(1) @ self.rows)


@dataclass
class _Sums:
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, which: dict[str, torch.Tensor], name: str, value: torch.Tensor) -> None:
        which[name] = which[name] + value.double() if name in which else value.double()


def measure(model: GPT, batches: Iterable[torch.Tensor]) -> dict[str, Cost]:
    sums, hooks = _Sums(), []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            hooks.append(module.register_forward_hook(_watch(f"{name}.weight", sums)))
    was_training, seen = model.training, 0
    model.eval()
    draw = torch.Generator().manual_seed(0)
    try:
        for tokens in batches:
            _one_batch(model, tokens, sums, draw)
            seen += tokens.numel()
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
        model.zero_grad(set_to_none=True)
    table, head = "embedding.table.weight", "head.weight"
    costs = {name: _combined(sums, name, seen) for name in sums.inputs if name not in (table, head)}
    if model.head is None:
        lookup, product = _combined(sums, table, seen), _combined(sums, head, seen)
        weight = lookup.rows * lookup.hessian.diagonal().mean() + product.rows * product.hessian.diagonal().mean()
        costs[table] = Cost(lookup.hessian + product.hessian, weight / weight.mean())
    else:
        costs |= {name: _combined(sums, name, seen) for name in (table, head)}
    return costs


def _watch(name: str, sums: _Sums) -> Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
    """Add up what comes in and, once the backward passes, the squares of what the loss says of what goes out."""

    def seen(module: nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if isinstance(module, nn.Embedding):
            sums.add(sums.inputs, name, torch.bincount(args[0].flatten(), minlength=module.num_embeddings))
        else:
            x = args[0].detach().flatten(0, -2)
            sums.add(sums.inputs, name, x.mT @ x)
        output.register_hook(  # type: ignore[no-untyped-call]
            lambda grad: sums.add(sums.outputs, name, grad.flatten(0, -2).square().sum(0))
        )

    return seen


def _one_batch(model: GPT, tokens: torch.Tensor, sums: _Sums, draw: torch.Generator) -> None:
    hidden = model.trunk(tokens)
    z = model.logits(hidden)  # (B, T, V)
    labels = torch.multinomial(z.detach().softmax(-1).flatten(0, 1).cpu(), 1, generator=draw).to(tokens.device)
    slope = torch.autograd.grad(F.cross_entropy(z.flatten(0, 1), labels[:, 0], reduction="sum"), z, retain_graph=True)
    z.backward(slope[0])  # type: ignore[no-untyped-call]
    # The head is a product inside `logits`, tied or not, which no hook sees.
    x, cap = model.norm(hidden).detach().flatten(0, 1), model.config.softcap
    before_cap = slope[0] * (1 - (z.detach() / cap).square()) if cap else slope[0]
    sums.add(sums.inputs, "head.weight", x.mT @ x)
    sums.add(sums.outputs, "head.weight", before_cap.flatten(0, 1).square().sum(0))


def _combined(sums: _Sums, name: str, seen: int) -> Cost:
    came, fisher = sums.inputs[name].cpu() / seen, sums.outputs[name].cpu() / seen
    if came.ndim == 1:  # a table: its rows are the inputs, its columns the outputs
        rows, hessian = came, torch.diag(fisher) * came.mean()
    else:
        rows, hessian = fisher, came * fisher.mean()
    mean = rows.mean()
    return Cost(hessian, rows / mean if mean > 0 else torch.ones_like(rows))
