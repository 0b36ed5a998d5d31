"""How N ranks turn matrices together: each whole matrix is turned on one rank, and everybody gets what he holds of it.

Parameter i is turned on rank i mod N. Replicated parameters (one process, DDP): the owners' results meet in one
all-reduce. Sharded ones (FSDP2, split by rows): one all-to-all brings every owner the rows it lacks, a second one
takes the turned rows back; no rank ever holds more than its own share of whole matrices.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

Turned = Callable[[list[torch.Tensor]], list[torch.Tensor]]


def held(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a tensor: its rows of a sharded one, all of any other. A view, not a copy."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def turned(updates: list[torch.Tensor], parameters: Sequence[torch.Tensor], turn: Turned) -> list[torch.Tensor]:
    """`turn` of the whole matrices; `updates` and the result are what this rank holds of them."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return turn(updates)
    if isinstance(parameters[0], DTensor):
        return _sharded(updates, [tuple(p.shape) for p in parameters], turn)
    return _replicated(updates, turn)


def _replicated(updates: list[torch.Tensor], turn: Turned) -> list[torch.Tensor]:
    flat = torch.zeros(sum(u.numel() for u in updates), dtype=updates[0].dtype, device=updates[0].device)
    slots = [slot.view_as(u) for slot, u in zip(torch.split(flat, [u.numel() for u in updates]), updates, strict=True)]
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    for slot, result in zip(slots[mine], turn(updates[mine]), strict=True):
        slot.copy_(result)
    dist.all_reduce(flat)
    return slots


def _sharded(shards: list[torch.Tensor], shapes: list[tuple[int, ...]], turn: Turned) -> list[torch.Tensor]:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    owned = [range(owner, len(shards), ranks) for owner in range(ranks)]  # owner -> its matrices
    rows = [_rows(shape[0], ranks) for shape in shapes]  # matrix -> rows that each rank holds

    def values(n: int, holder: int) -> int:
        return rows[n][holder] * shapes[n][1]

    to_owner = [sum(values(n, rank) for n in owned[owner]) for owner in range(ranks)]  # of what I hold
    from_holder = [sum(values(n, holder) for n in owned[rank]) for holder in range(ranks)]  # of what I own
    outbox = torch.cat([shards[n].reshape(-1) for owner in range(ranks) for n in owned[owner]])
    inbox = _swap(outbox, to_owner, from_holder)
    pieces = torch.split(inbox, [values(n, holder) for holder in range(ranks) for n in owned[rank]])
    count = len(owned[rank])
    whole = [torch.cat(pieces[at::count]).view(shapes[n]) for at, n in enumerate(owned[rank])]
    results = [torch.split(w, rows[n]) for w, n in zip(turn(whole), owned[rank], strict=True)]
    parts = [result[holder].reshape(-1) for holder in range(ranks) for result in results]
    back = _swap(torch.cat(parts) if parts else inbox, from_holder, to_owner)
    order = [n for owner in range(ranks) for n in owned[owner]]
    mine = dict(zip(order, torch.split(back, [values(n, rank) for n in order]), strict=True))
    return [mine[n].view_as(shard) for n, shard in enumerate(shards)]


def _swap(outbox: torch.Tensor, sent: list[int], awaited: list[int]) -> torch.Tensor:
    inbox = outbox.new_empty(sum(awaited))
    dist.all_to_all_single(inbox, outbox, awaited, sent)
    return inbox


def _rows(rows: int, ranks: int) -> list[int]:
    """How FSDP2 splits rows: even blocks, rounded up, the last ones short or empty."""
    block = -(-rows // ranks)
    return [max(0, min(block, rows - rank * block)) for rank in range(ranks)]
