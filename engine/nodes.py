"""Which ranks see the same run folder: a file system that nodes share is found, never assumed."""

import secrets
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from engine.device import WITHOUT_LIMIT, Device, barrier, from_main, gather


@dataclass(frozen=True)
class Sharers:
    ranks: tuple[int, ...] = (0,)  # those that see this rank's folder, itself among them
    is_leader: bool = True  # the one that writes for them
    group: dist.ProcessGroup | None = None  # of them, and of all ranks, for the thread that writes checkpoints alone:
    everyone: dist.ProcessGroup | None = None  # its collectives must not meet those of the training


def find_sharers(folder: Path, device: Device) -> Sharers:
    """Each rank leaves a mark and looks for those of the others; the folder is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if device.ranks == 1:
        return Sharers()
    token = from_main(secrets.token_hex(8), device)
    marks = [folder / f".{token}-{rank}" for rank in range(device.ranks)]
    marks[device.rank].touch()
    barrier(device)
    seen = tuple(rank for rank, mark in enumerate(marks) if mark.exists())
    of_all = gather(seen, device)
    marks[device.rank].unlink()
    groups = {ranks: dist.new_group(ranks, WITHOUT_LIMIT, "gloo") for ranks in sorted(set(of_all))}
    everyone = dist.new_group(timeout=WITHOUT_LIMIT, backend="gloo")
    return Sharers(seen, device.rank == seen[0], groups[seen], everyone)
