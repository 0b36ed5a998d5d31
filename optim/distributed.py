"""How N ranks turn matrices together: each whole matrix is turned on one rank, and everybody gets what he holds of it.

Parameter i is turned on rank i mod N. Replicated parameters (one process, DDP): the owners' results meet in one
all-reduce. Sharded ones (FSDP2): optim/sharded.py.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist

from optim.sharded import Turned, is_sharded, turned_sharded


def turned(updates: list[torch.Tensor], parameters: Sequence[torch.Tensor], turn: Turned) -> list[torch.Tensor]:
    """`turn` of the whole matrices; `updates` and the result are what this rank holds of them."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return turn(updates)
    if is_sharded(parameters[0]):
        return turned_sharded(updates, [tuple(p.shape) for p in parameters], turn)
    return _replicated(updates, turn)


def _replicated(updates: list[torch.Tensor], turn: Turned) -> list[torch.Tensor]:
    flat = torch.zeros(sum(u.numel() for u in updates), dtype=updates[0].dtype, device=updates[0].device)
    slots = [slot.view_as(u) for slot, u in zip(torch.split(flat, [u.numel() for u in updates]), updates, strict=True)]
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    for slot, result in zip(slots[mine], turn(updates[mine]), strict=True):
        slot.copy_(result)
    dist.all_reduce(flat)
    return slots
