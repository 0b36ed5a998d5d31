"""Distributed Muon: each matrix is orthogonalized on one rank, and every rank receives its own part of the result.

Matrix i belongs to rank i mod N. Replicated parameters (one process, DDP): one all-gather, in bf16 on a GPU. Sharded
ones (FSDP2 splits them by rows): two all-to-alls. Gradients are averaged for all ranks and not for each matrix's owner
alone: a reduce-scatter would save half of a transfer that takes half a millisecond for 25 million weights on eight
H100, and momenta that are split over ranks would have to be collected for every checkpoint.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

Tensors = list[torch.Tensor]
Function = Callable[[Tensors], Tensors]  # of complete matrices


def apply_together(updates: Tensors, parameters: Sequence[torch.Tensor], function: Function) -> Tensors:
    """`function` of the complete matrices; `updates` and the result are this rank's parts of them."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return function(updates)
    if isinstance(parameters[0], DTensor):
        mesh = parameters[0].device_mesh
        group = mesh.get_group(mesh.ndim - 1)  # replicas of a split model (HSDP) each do the same work
        return _apply_sharded(updates, [tuple(p.shape) for p in parameters], function, group)
    return apply_replicated(updates, function)


def apply_replicated(updates: Tensors, function: Function) -> Tensors:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    owned = [range(owner, len(updates), ranks) for owner in range(ranks)]  # owner -> its matrices
    most = max(sum(updates[n].numel() for n in numbers) for numbers in owned)
    results = function([updates[n] for n in owned[rank]])
    mine = torch.zeros(most, dtype=_width(updates[0]), device=updates[0].device)
    if results:
        flat = torch.cat([result.reshape(-1) for result in results])
        mine[: len(flat)] = flat
    every = mine.new_empty(ranks * most)
    dist.all_gather_into_tensor(every, mine)
    found = dict[int, torch.Tensor]()
    for numbers, part in zip(owned, torch.split(every, most), strict=True):
        sizes = [updates[n].numel() for n in numbers]
        found.update(zip(numbers, torch.split(part[: sum(sizes)], sizes), strict=True))
    return [found[n].view_as(update) for n, update in enumerate(updates)]


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor: its rows of a sharded one, all of any other. A view, not a copy."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _apply_sharded(
    shards: Tensors, shapes: list[tuple[int, ...]], function: Function, group: dist.ProcessGroup
) -> Tensors:
    """One all-to-all brings every owner the rows that it lacks, a second one takes the results back.

    No rank ever holds more than its own share of complete matrices.
    """
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    owned = [range(owner, len(shards), ranks) for owner in range(ranks)]  # owner -> its matrices
    rows = [_rows(shape[0], ranks) for shape in shapes]  # matrix -> rows that each rank holds

    def values(n: int, holder: int) -> int:
        return rows[n][holder] * shapes[n][1]

    to_owner = [sum(values(n, rank) for n in owned[owner]) for owner in range(ranks)]  # of what this rank holds
    from_holder = [sum(values(n, holder) for n in owned[rank]) for holder in range(ranks)]  # of what this rank owns
    outbox = torch.cat([shards[n].reshape(-1) for owner in range(ranks) for n in owned[owner]])
    inbox = _swap(outbox, to_owner, from_holder, group)
    pieces = torch.split(inbox, [values(n, holder) for holder in range(ranks) for n in owned[rank]])
    count = len(owned[rank])
    complete = [torch.cat(pieces[at::count]).view(shapes[n]) for at, n in enumerate(owned[rank])]
    results = [torch.split(w, rows[n]) for w, n in zip(function(complete), owned[rank], strict=True)]
    parts = [result[holder].reshape(-1) for holder in range(ranks) for result in results]
    back = _swap(torch.cat(parts) if parts else inbox.to(_width(inbox)), from_holder, to_owner, group)
    order = [n for owner in range(ranks) for n in owned[owner]]
    mine = dict(zip(order, torch.split(back, [values(n, rank) for n in order]), strict=True))
    return [mine[n].view_as(shard) for n, shard in enumerate(shards)]


def _width(update: torch.Tensor) -> torch.dtype:
    """Of the results, as `optim.muon.orthogonalize` makes them."""
    return torch.bfloat16 if update.is_cuda else update.dtype


def _swap(outbox: torch.Tensor, sent: list[int], awaited: list[int], group: dist.ProcessGroup) -> torch.Tensor:
    inbox = outbox.new_empty(sum(awaited))
    dist.all_to_all_single(inbox, outbox, awaited, sent, group)
    return inbox


def _rows(rows: int, ranks: int) -> list[int]:
    """How FSDP2 splits rows: even blocks, rounded up, the last ones short or empty."""
    block = -(-rows // ranks)
    return [max(0, min(block, rows - rank * block)) for rank in range(ranks)]
