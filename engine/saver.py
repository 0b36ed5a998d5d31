"""Checkpoints of a run under way: written by all ranks together while training goes on, read by each for itself. And
model.pt, which a run leaves at its end.

    saver = Saver(folder, sharers, device)
    saver.save(step, plain, tensors)              waits for the copy to the CPU alone; a thread writes
    path = saver.find_latest()                    None: there is none
    plain, tensors = load_checkpoint(path, …)     into given tensors, however they are split

`folder/checkpoint-STEP/part-RANK` is a folder of torch.distributed.checkpoint: one for all ranks that share a file
system, named after their first. All parts are read as one checkpoint, by any number of ranks. A new checkpoint is
written beside the old one, takes its name when it is complete everywhere, and only then is the old one deleted.

Nothing in a checkpoint is executed: plain values are JSON in a tensor, tensors are read with `weights_only`, and of
the index, a pickle, nothing is accepted but the classes that an index consists of.
"""

import json
import os
import pickle
import shutil
import socket
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
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
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.tensor import DTensor

from base.errors import BadInput
from base.run_folder import CHECKPOINT, MODEL
from engine.device import Device, from_main, gather
from engine.nodes import Sharers

Tensors = dict[str, torch.Tensor]
Choose = Callable[[str, torch.Size, torch.dtype], torch.Tensor | None]
PLAIN = "plain"
INDEX = ".metadata"
INDEX_MODULES = ("torch", "torch.serialization", "torch.distributed.checkpoint.", "pathlib")
INDEX_NAMES = {
    "Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata", "ChunkStorageMetadata", "TensorProperties",
    "_MEM_FORMAT_ENCODING", "_StorageInfo", "_get_layout", "Size", "PosixPath",
}  # fmt: skip


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
        text = json.dumps(from_main(plain, self._device)).encode()
        if step == self._step:
            return
        self._step = step
        tensors = {**tensors, PLAIN: torch.frombuffer(bytearray(text), dtype=torch.uint8)}
        complete = self.folder / f"{CHECKPOINT}-{step}"
        part = self.folder / f".{complete.name}"
        writer = FileSystemWriter(part / f"part-{self.sharers.ranks[0]}")
        self._written = self._thread.submit(self._write, complete, part, writer, writer.stage(tensors))

    def _write(self, complete: Path, part: Path, writer: FileSystemWriter, tensors: Tensors) -> None:
        if self.sharers.is_leader:  # of a run that was killed; the others write after the leader has planned
            shutil.rmtree(part, ignore_errors=True)
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
            raise BadInput(f"{part}: rank {self.sharers.ranks[rank]} cannot write it: {error}") from failed
        if self.sharers.is_leader:
            part.rename(complete)
        if self._device.ranks > 1:
            dist.barrier(self.sharers.everyone)  # there is a step that all have, at any moment
        if self.sharers.is_leader:
            for path in (*find_checkpoints(self.folder).values(), *self.folder.glob(f".{CHECKPOINT}-*")):
                if path != complete:
                    shutil.rmtree(path)

    def find_latest(self) -> Path | None:
        """Of the newest step that all ranks have: a kill may come when some have completed one more than others."""
        self.wait()
        have = find_checkpoints(self.folder)
        of_all = gather((socket.gethostname(), sorted(have)), self._device)
        common = set(have).intersection(*(steps for _, steps in of_all))
        if not common and any(steps for _, steps in of_all):
            raise BadInput(f"{self.folder}: no checkpoint that all have: {of_all}; copy one to all, or use --name")
        self._step = max(common, default=-1)
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
        index = read_index(path)
        entries: dict[str, Any] = dict(index.state_dict_metadata)
        for name in sorted(entries.keys() - tensors):  # in one order on all ranks
            size, dtype = entries[name].size, entries[name].properties.dtype
            chosen = torch.empty(size, dtype=dtype) if name == PLAIN else choose(name, size, dtype)
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
        return json.loads(tensors.pop(PLAIN).numpy().tobytes()), tensors
    except Exception as error:  # whatever torch and pickle raise for what they cannot read
        raise BadInput(f"{path}: not a checkpoint that can be read: {error!s:.200}") from None


def read_index(path: Path) -> Metadata:
    """What all parts hold, as if one had been written."""
    entries = dict[str, Any]()
    places = dict[MetadataIndex, Any]()
    for file in sorted(path.glob(f"*/{INDEX}")):
        with file.open("rb") as stream:
            part = _IndexUnpickler(stream).load()
        for name, entry in part.state_dict_metadata.items():
            known = entries.setdefault(name, replace(entry, chunks=[]))
            for chunk in entry.chunks:
                at = MetadataIndex(name, chunk.offsets)
                if at not in places:  # else it is replicated
                    known.chunks.append(chunk)
                    stored = part.storage_data[at]
                    places[at] = replace(stored, relative_path=f"{file.parent.name}/{stored.relative_path}")
    return Metadata(entries, storage_data=places)


class _IndexUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and not (name in INDEX_NAMES and module.startswith(INDEX_MODULES)):
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


class _PartPlanner(DefaultSavePlanner):
    def create_global_plan(self, all_plans: list[Any]) -> tuple[list[Any], Metadata]:
        """As the default, without the demand that this part alone is complete: reading makes it of all parts."""
        plans, self.metadata = create_default_global_save_plan(self._dedup_save_plans(all_plans))
        return plans, self.metadata
