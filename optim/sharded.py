"""Matrices that FSDP2 has split by rows over ranks, turned whole on their owners.

One all-to-all brings every owner the rows it lacks, a second one takes the turned rows back; no rank ever holds more
than its own share of whole matrices.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

Turned = Callable[[list[torch.Tensor]], list[torch.Tensor]]


def is_sharded(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, DTensor)


def held(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a tensor: its rows of a sharded one, all of any other. A view, not a copy."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def turned_sharded(shards: list[torch.Tensor], shapes: list[tuple[int, ...]], turn: Turned) -> list[torch.Tensor]:
    """`turn` of whole matrices, of which this rank holds the rows that FSDP2 gave it."""
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
