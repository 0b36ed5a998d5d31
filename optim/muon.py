"""Muon: momentum, then the nearest orthogonal matrix, by a few matrix products (Jordan et al. 2024).

For hidden matrices only; embeddings, heads and vectors go to AdamW (optim/groups.py). The mathematics is two pure
functions; the class holds momentum and shares the work: with N ranks each orthogonalises every N-th matrix and one
all-reduce hands the results round, so the step is the same for any N.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch.optim import Optimizer

# The quintic's coefficients: steep at zero, so that five steps bring every singular value of a matrix of norm 1 that
# is not vanishing to about 0.7 … 1.2. Exactness is not worth more steps.
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalise(update: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """(…, rows, columns) -> about U V^T of its singular value decomposition; bf16 on a GPU, fp32 on a CPU."""
    x: torch.Tensor = update.to(torch.bfloat16) if update.is_cuda else update
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    x = x.mT if tall else x
    return x.to(update.dtype)


def muon_update(
    gradient: torch.Tensor, momentum: torch.Tensor, beta: float, steps: int = 5, row_norm: bool = False
) -> torch.Tensor:
    """The step's direction, of unit-scale rows; `momentum` is moved in place. Nesterov's look-ahead is built in.

    `row_norm` divides each row by its length first (MuonEq-R: about -0.001 bpb in the contest).
    """
    momentum.mul_(beta).add_(gradient)
    update = gradient.add(momentum, alpha=beta)
    if row_norm:
        update = update / (update.norm(dim=-1, keepdim=True) + 1e-7)
    rows, columns = update.shape[-2:]
    return orthogonalise(update, steps).mul(max(1.0, rows / columns) ** 0.5)


class Muon(Optimizer):
    """One class for 1 … N ranks. Gradients must already be averaged over ranks (DDP does it)."""

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        lr: float,
        beta: float = 0.95,
        weight_decay: float = 0.0,
        steps: int = 5,
        row_norm: bool = False,
    ) -> None:
        matrices = list(parameters)
        if flat := [tuple(p.shape) for p in matrices if p.ndim != 2]:
            raise ValueError(f"Muon turns matrices, and a parameter has shape {flat[0]}; give it to AdamW")
        defaults = {"lr": lr, "beta": beta, "weight_decay": weight_decay, "steps": steps, "row_norm": row_norm}
        super().__init__(matrices, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            updates = self._shared(moving, group) if _ranks() > 1 else self._updates(moving, group)
            for parameter, update in zip(moving, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"])

    def _updates(self, parameters: list[torch.Tensor], group: dict[str, object]) -> list[torch.Tensor]:
        """Every matrix's update; matrices of one shape are orthogonalised as one batch."""
        shapes: dict[torch.Size, list[int]] = {}
        for number, parameter in enumerate(parameters):
            shapes.setdefault(parameter.shape, []).append(number)
        updates: list[torch.Tensor] = [torch.empty(0)] * len(parameters)
        for numbers in shapes.values():
            gradients = torch.stack([_gradient(parameters[n]) for n in numbers])
            momenta = torch.stack([self._momentum(parameters[n]) for n in numbers])
            beta, steps, row_norm = group["beta"], group["steps"], group["row_norm"]
            moved = muon_update(gradients, momenta, beta, steps, row_norm)  # type: ignore[arg-type]
            for at, n in enumerate(numbers):
                self.state[parameters[n]]["momentum"].copy_(momenta[at])
                updates[n] = moved[at]
        return updates

    def _shared(self, parameters: list[torch.Tensor], group: dict[str, object]) -> list[torch.Tensor]:
        """The same updates, each computed on one rank: parameter i on rank i mod N."""
        mine = list(range(dist.get_rank(), len(parameters), _ranks()))
        flat = torch.zeros(sum(p.numel() for p in parameters), dtype=parameters[0].dtype, device=parameters[0].device)
        slots = torch.split(flat, [p.numel() for p in parameters])
        for n, update in zip(mine, self._updates([parameters[n] for n in mine], group), strict=True):
            slots[n].copy_(update.reshape(-1))
        dist.all_reduce(flat)
        return [slot.view_as(parameter) for slot, parameter in zip(slots, parameters, strict=True)]

    def _momentum(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: torch.Tensor = state["momentum"]
        return momentum


def _gradient(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
