"""Muon: momentum, then the nearest orthogonal matrix, by a few matrix products (Jordan et al. 2024).

For hidden matrices only; embeddings, heads and vectors go to AdamW (optim/groups.py). The mathematics is pure
functions; the class holds momentum; its step is the same for any number of ranks (optim/distributed.py).
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch.optim import Optimizer

from optim.config import OptimConfig
from optim.distributed import Tensors, apply_together, local_part

# The quintic's coefficients: steep at zero, so that five steps bring every singular value of a matrix of norm 1 that
# is not vanishing to about 0.7 … 1.2. Exactness is not worth more steps.
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalize(update: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """(…, rows, columns) -> about U V^T of its singular value decomposition; bf16 on a GPU, fp32 on a CPU."""
    x: torch.Tensor = update.to(torch.bfloat16) if update.is_cuda else update
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.mT if tall else x


def direction(update: torch.Tensor, steps: int = 5, row_norm: bool = False) -> torch.Tensor:
    """(…, rows, columns) of momentum -> the step's direction, of unit-scale rows.

    `row_norm` divides each row by its length first (MuonEq-R: about -0.001 bpb in the contest).
    """
    if row_norm:
        update = update / (update.norm(dim=-1, keepdim=True) + 1e-7)
    rows, columns = update.shape[-2:]
    return orthogonalize(update, steps).mul(max(1.0, rows / columns) ** 0.5)


Direction = Callable[[torch.Tensor, int, bool], torch.Tensor]


def directions(updates: Tensors, steps: int, row_norm: bool, function: Direction = direction) -> Tensors:
    """The same for many matrices; those of one shape are orthogonalized as one batch."""
    shapes: dict[torch.Size, list[int]] = {}
    for number, update in enumerate(updates):
        shapes.setdefault(update.shape, []).append(number)
    found = dict[int, torch.Tensor]()
    for numbers in shapes.values():
        found.update(zip(numbers, function(torch.stack([updates[n] for n in numbers]), steps, row_norm), strict=True))
    return [found[number] for number in range(len(updates))]


class Muon(Optimizer):
    """For any number of ranks, replicated or sharded. Gradients must already be averaged over ranks."""

    def __init__(self, parameters: Iterable[torch.Tensor], config: OptimConfig, compiled: bool = False) -> None:
        defaults = {"lr": config.matrix_lr, "beta": config.muon_beta, "weight_decay": config.matrix_decay}
        super().__init__(parameters, defaults)
        function = torch.compile(direction, dynamic=False) if compiled else direction
        self._directions = partial(
            directions, steps=config.muon_steps, row_norm=config.muon_row_norm, function=function
        )

    @torch.no_grad()
    def warm_up(self) -> None:
        """Compile for the shapes to come, on zeros; no weight and no momentum moves. All ranks call it together."""
        for group in self.param_groups:
            zeros = [torch.zeros_like(local_part(p)) for p in group["params"]]
            apply_together(zeros, group["params"], self._directions)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if not moving:
                continue
            weights = [local_part(p) for p in moving]
            gradients = [local_part(p.grad) for p in moving]
            momenta = [local_part(self._momentum(p)) for p in moving]
            torch._foreach_mul_(momenta, group["beta"])
            torch._foreach_add_(momenta, gradients)
            updates = list(torch._foreach_add(gradients, momenta, alpha=group["beta"]))  # Nesterov's look-ahead
            found = apply_together(updates, moving, self._directions)
            steps = [step.to(weight.dtype) for step, weight in zip(found, weights, strict=True)]
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, steps, alpha=-group["lr"])

    def _momentum(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: torch.Tensor = state["momentum"]
        return momentum
