"""Checkpoints of a run under way: written by all ranks together while training goes on, read by each for itself. And
model.pt, which a run leaves at its end.

    saver = Saver(folder, sharers, device)
    saver.save(step, plain, tensors)              waits for the copy to the CPU alone; a thread writes
    path = saver.find_latest()                    None: there is none
    plain, tensors = load_checkpoint(path, …)     into given tensors, however they are split

`folder/checkpoint-STEP/part-RANK` is a folder of torch.distributed.checkpoint: one for all ranks that share a file
system, named after their first. All parts are read as one checkpoint, by any number of ranks. A new checkpoint is
written beside the old one, takes its name when it is complete everywhere, and only then is the old one deleted.

Nothing in a checkpoint is executed: index and plain values are JSON, and torch reads tensors with `weights_only`.
"""

import os
import platform
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import (  # type: ignore[attr-defined]
    CheckpointException,
    DefaultLoadPlanner,
    DefaultSavePlanner,
    FileSystemReader,
    FileSystemWriter,
    Metadata,
    save,
)
from torch.distributed.checkpoint.default_planner import create_default_global_save_plan
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.tensor import DTensor

from base.errors import BadInput
from base.files import is_inside, read_json_object, write_json
from base.run_folder import CHECKPOINT, MODEL
from engine.device import Device, from_main, gather
from engine.nodes import Sharers

Tensors = dict[str, torch.Tensor]
Choose = Callable[[str, torch.Size, torch.dtype], torch.Tensor | None]
INDEX = "index.json"
DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


class Saver:
    """All ranks call its methods together."""

    def __init__(self, folder: Path, sharers: Sharers, device: Device) -> None:
        self.folder = folder
        self.sharers = sharers
        self._device = device
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._written: Future[None] | None = None
        self._step = -1  # of the last checkpoint
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process is no mistake

    @property
    def is_writing(self) -> bool:
        """Raises what went wrong, at the next step: other nodes may wait for this one's part."""
        is_done = self._written is None or self._written.done()
        if is_done:
            self.wait()
        return not is_done

    def wait(self) -> None:
        """Until what is being written is complete; raises what went wrong with it."""
        if self._written is not None:
            self._written.result()

    def save(self, step: int, plain: dict[str, Any], tensors: Tensors) -> None:
        """Each rank gives the tensors that it holds; of what several hold, one copy is written. Of `plain`, which is
        JSON, the main rank's counts."""
        self.wait()
        plain = from_main(plain, self._device)
        if step == self._step:
            return
        self._step = step
        complete = self.folder / f"{CHECKPOINT}-{step}"
        unfinished = self.folder / f".{complete.name}"
        writer = _Writer(unfinished / f"part-{self.sharers.ranks[0]}", plain)
        self._written = self._thread.submit(self._write, complete, unfinished, writer, writer.stage(tensors))

    def _write(self, complete: Path, unfinished: Path, writer: FileSystemWriter, tensors: Tensors) -> None:
        self._remove(self.folder.glob(f".{CHECKPOINT}-*"))  # of saves that failed or were killed
        self._meet()
        try:
            save(
                tensors,
                storage_writer=writer,
                planner=_PartPlanner(flatten_state_dict=False),
                process_group=self.sharers.group,
                no_dist=self._device.ranks == 1,
            )
        except CheckpointException as failed:
            rank, (error, _) = next(iter(failed.failures.items()))
            raise BadInput(f"{unfinished}: rank {self.sharers.ranks[rank]} cannot write it: {error}") from failed
        self._meet()  # all have written; what is left is a rename
        if self.sharers.is_leader:
            unfinished.rename(complete)
        self._meet()  # there is a step that all have, at any moment
        self._remove(path for path in find_checkpoints(self.folder).values() if path != complete)

    def _meet(self) -> None:
        if self._device.ranks > 1:
            dist.barrier(self.sharers.everyone)

    def _remove(self, paths: Iterable[Path]) -> None:
        if self.sharers.is_leader:
            for path in paths:
                shutil.rmtree(path, ignore_errors=True)

    def find_latest(self) -> Path | None:
        """Of the newest step that all ranks have: a kill may come when some have completed one more than others."""
        self.wait()
        have = find_checkpoints(self.folder)
        of_all = gather((platform.node(), sorted(have)), self._device)
        common = set(have).intersection(*(steps for _, steps in of_all))
        if not common and any(steps for _, steps in of_all):
            raise BadInput(f"{self.folder}: no checkpoint that all have: {of_all}; copy one to all, or use --name")
        self._step = max(common, default=-1)
        self._remove(path for step, path in have.items() if step > self._step)  # which others lack: they come again
        return have[self._step] if common else None


def save_model(folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """Streamed to a file beside it, then renamed: it is there when it is complete."""
    unfinished = folder / f".{MODEL}"
    with unfinished.open("wb") as stream:
        torch.save({"config": config, "weights": weights}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(folder / MODEL)


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """Step -> complete checkpoint."""
    found = {path.name.rpartition("-")[2]: path for path in folder.glob(f"{CHECKPOINT}-*")}
    return {int(step): path for step, path in found.items() if step.isdecimal()}


def load_checkpoint(path: Path, tensors: Tensors, choose: Choose) -> tuple[dict[str, Any], Tensors]:
    """Plain values, and `tensors` filled; for names beyond them, `choose` gives what to fill, or None."""
    try:
        plain, index = read_index(path)
        entries: dict[str, Any] = dict(index.state_dict_metadata)
        if not entries:
            raise ValueError(f"no */{INDEX} is in it")
        for name in sorted(entries.keys() - tensors):  # in one order on all ranks
            chosen = choose(name, entries[name].size, entries[name].properties.dtype)
            if chosen is not None:
                tensors[name] = chosen
        planner = DefaultLoadPlanner(flatten_state_dict=False)
        planner.set_up_planner(tensors, index)
        plan = planner.create_local_plan()
        found = Counter[str]()
        for item in plan.items:
            found[item.dest_index.fqn] += item.lengths.numel()
        for name, tensor in tensors.items():
            if found[name] < (tensor.to_local() if isinstance(tensor, DTensor) else tensor).numel():
                raise ValueError(f"parts of {name} are on other nodes: copy their part-* here, or share runs/")
        reader = FileSystemReader(path)
        reader.set_up_storage_reader(index, True)
        reader.read_data(plan, planner).wait()
        return plain, tensors
    except Exception as error:  # whatever torch raises for what it cannot read
        raise BadInput(f"{path}: not a checkpoint that can be read: {error!s:.200}") from None


def read_index(path: Path) -> tuple[dict[str, Any], Metadata]:
    """The plain values, and what all parts hold as if one had been written."""
    plain = dict[str, Any]()
    entries = dict[str, TensorStorageMetadata]()
    places = dict[MetadataIndex, Place]()
    for file in sorted(path.glob(f"*/{INDEX}")):
        part = read_json_object(file.read_text(), str(file))
        plain = part["plain"]
        for name, tensor in part["tensors"].items():
            size = torch.Size(tensor["size"])
            known = entries.setdefault(name, TensorStorageMetadata(TensorProperties(DTYPES[tensor["dtype"]]), size, []))
            for offsets, sizes, *place in tensor["chunks"]:
                at = MetadataIndex(name, offsets)
                if at not in places:  # else it is replicated
                    known.chunks.append(ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)))
                    places[at] = Place.inside(file.parent.name, *place)
    return plain, Metadata({**entries}, storage_data=places)


@dataclass(frozen=True)
class Place:
    """Where a chunk is; the names of the fields are those that torch reads."""

    relative_path: str
    offset: int
    length: int
    transform_descriptors: None = None

    @staticmethod
    def inside(folder: str, file: str, offset: int, length: int) -> "Place":
        if not is_inside(file):
            raise ValueError(f"'{file:.60}' is not a name inside {folder}")
        return Place(f"{folder}/{file}", offset, length)


class _Writer(FileSystemWriter):
    """With an index in JSON where torch would write a pickle."""

    def __init__(self, folder: Path, plain: dict[str, Any]) -> None:
        super().__init__(folder)
        self._folder = folder
        self._plain = plain

    def finish(self, metadata: Metadata, results: list[list[Any]]) -> None:
        places = {result.index: result.storage_data for of_rank in results for result in of_rank}
        tensors = dict[str, Any]()
        entries: dict[str, Any] = metadata.state_dict_metadata
        for name, entry in entries.items():
            chunks = []
            for chunk in entry.chunks:
                place = places[MetadataIndex(name, chunk.offsets)]
                chunks.append([[*chunk.offsets], [*chunk.sizes], place.relative_path, place.offset, place.length])
            dtype = str(entry.properties.dtype)
            tensors[name] = {"size": [*entry.size], "dtype": dtype, "chunks": chunks}
        write_json(self._folder / INDEX, {"plain": self._plain, "tensors": tensors})


class _PartPlanner(DefaultSavePlanner):
    def create_global_plan(self, all_plans: list[Any]) -> tuple[list[Any], Metadata]:
        """As the default, without the demand that this part alone is complete: reading makes it of all parts."""
        plans, self.metadata = create_default_global_save_plan(self._dedup_save_plans(all_plans))
        return plans, self.metadata
