"""What an error in each weight matrix costs: measured on training batches, in nats per token.

    costs = measure(model, batches, device)     name -> Cost; batches are token rows (B, T), of training text only

An error d in a matrix raises the loss by about 1/2 sum_r importance_r d_r H d_r^T. H is the second moment of the inputs
(E[x x^T]) times the mean output's Fisher information, with labels drawn from the model itself; the importance of a row
is its own output's Fisher information over that mean. A table is looked up with one-hot rows: its H is diagonal over
its width, and the importance of a row is its token's frequency. A tied table is table and head at once: they add up.

Rows of tables and of the head are as rare as their tokens and need all of the text; the matrices between them are
measured as well on a quarter of it (docs/LOG.md), and no backward pass is made for the rest. Ranks take turns at the
batches and add up their fp64 sums: what N measure differs from what one does by the last bits.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.distributed as dist
from torch import nn

from engine.device import Device, gather
from model.gpt import GPT

TABLE, HEAD = "embedding.table.weight", "head.weight"
DEEP_EVERY = 4  # batches; of one of them, matrices are measured, too
DAMPING = 0.01  # of the Hessian's mean diagonal


@dataclass(frozen=True)
class Cost:
    hessian: torch.Tensor  # (columns, columns) fp64, the mean output's Fisher information included
    importance: torch.Tensor  # (rows,) fp64, of mean 1

    def nats(self, error: torch.Tensor) -> float:
        """What this error of the weights costs per token."""
        d = error.double()
        return 0.5 * float((d @ self.hessian * d).sum(1) @ self.importance)

    # What follows is computed once, however often a cap makes the matrix be rounded.

    @cached_property
    def prices(self) -> torch.Tensor:
        """(columns,) U_cc in the matrix's own order: close to that of error feedback, and nothing to send."""
        prices: torch.Tensor = 1 / _root(self.hessian).diagonal()
        return prices

    @cached_property
    def order(self) -> torch.Tensor:
        """(columns,) in which error feedback takes them: those of the largest inputs first."""
        return torch.argsort(self.hessian.diagonal(), descending=True, stable=True)

    @cached_property
    def upper(self) -> torch.Tensor:
        """(columns, columns) U in that order, fp32. It is the upper Cholesky factor of the damped inverse,
        H^-1 = U^T U: 1/U_cc^2 is what an error in column c costs once the columns after it have compensated for what
        they can."""
        root = _root(self.hessian[self.order][:, self.order])
        eye = torch.eye(len(root), dtype=root.dtype, device=root.device)
        inverse: torch.Tensor = torch.linalg.solve_triangular(root, eye, upper=True)
        return inverse.float()


def _root(hessian: torch.Tensor) -> torch.Tensor:
    """The upper triangular R with R R^T = the damped H; its inverse is U."""
    damped = hessian.flip(0, 1)
    mean = float(damped.diagonal().mean())
    damped.diagonal().add_(DAMPING * mean if mean > 0 else 1.0)
    lower: torch.Tensor = torch.linalg.cholesky(damped)
    return lower.flip(0, 1)


Sums = dict[str, torch.Tensor]  # over all tokens, by the name of the weight


def measure(model: GPT, batches: Iterable[torch.Tensor], device: Device) -> dict[str, Cost]:
    """Leaves the model in eval mode. All ranks call it together, each with all batches."""
    inputs = Sums()  # x x^T, or the count of each row of a table
    outputs = Sums()  # squares of the loss's gradient
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            hooks.append(module.register_forward_hook(_watch(f"{name}.weight", inputs, outputs)))
    model.eval()
    model.requires_grad_(False)  # of the weights: only the outputs' gradients count, and take two thirds of the time
    tokens_seen = tokens_deep = 0
    for number, tokens in enumerate(batches):
        is_deep = number % DEEP_EVERY == 0
        tokens_seen += tokens.numel()
        tokens_deep += tokens.numel() * is_deep
        turn = number // DEEP_EVERY if is_deep else number
        if turn % device.ranks == device.rank:
            draw = torch.Generator(tokens.device).manual_seed(number)
            with torch.set_grad_enabled(is_deep):
                x, slope = _head_inputs_and_slope(model, tokens, draw)  # the head is a product that no hook sees
            _add(inputs, HEAD, x.mT @ x)
            _add(outputs, HEAD, slope.square().sum(0))
    for hook in hooks:
        hook.remove()
    model.requires_grad_(True)
    inputs, outputs = _over_ranks(inputs, device), _over_ranks(outputs, device)
    costs = dict[str, Cost]()
    for name in list(inputs):
        moments = inputs.pop(name)
        of_inputs = tokens_seen if name == HEAD or moments.ndim == 1 else tokens_deep
        of_outputs = tokens_seen if name == HEAD else tokens_deep
        costs[name] = _cost(moments / of_inputs, outputs[name] / of_outputs)
    if model.head is None:
        costs[TABLE] = _added(costs[TABLE], costs.pop(HEAD))
    return costs


def _add(total: Sums, name: str, value: torch.Tensor) -> None:
    total[name] = total[name].add_(value) if name in total else value.double()


def _over_ranks(sums: Sums, device: Device) -> Sums:
    if device.ranks == 1:
        return sums
    shapes = gather({name: total.shape for name, total in sums.items()}, device)[0]  # a rank may have had no batch
    added = Sums()
    for name, shape in shapes.items():
        added[name] = sums[name] if name in sums else torch.zeros(shape, dtype=torch.float64, device=device.torch)
        dist.all_reduce(added[name])
    return added


def _watch(name: str, inputs: Sums, outputs: Sums) -> Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
    """A hook that adds up what comes in and, in the backward pass, the squared gradient of what goes out."""

    def watch(module: nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if isinstance(module, nn.Embedding):
            _add(inputs, name, torch.bincount(args[0].flatten(), minlength=module.num_embeddings))
        if not torch.is_grad_enabled():
            return
        if isinstance(module, nn.Linear):
            x = args[0].detach().flatten(0, -2)
            _add(inputs, name, x.mT @ x)
        if not output.requires_grad:  # it is the first that is computed
            output.requires_grad_()
        output.register_hook(  # type: ignore[no-untyped-call]
            lambda grad: _add(outputs, name, grad.flatten(0, -2).square().sum(0))
        )

    return watch


def _head_inputs_and_slope(
    model: GPT, tokens: torch.Tensor, draw: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, dim) and (N, V) of the head before the soft cap, on labels drawn from the model; with a backward pass where
    gradients are on."""
    hidden = model.trunk(tokens)
    z = model.logits(hidden, tokens)  # (B, T, V)
    p = z.detach().softmax(-1)
    labels = torch.multinomial(p.flatten(0, 1), 1, generator=draw).view(*tokens.shape, 1)
    slope = p.scatter_add_(-1, labels, -torch.ones_like(p[..., :1]))  # of the loss, the sum over all tokens
    if z.requires_grad:
        torch.autograd.backward(z, slope)
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
