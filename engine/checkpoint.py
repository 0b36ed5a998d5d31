"""Checkpoints: one file, written beside and moved into place, read without running anything that it holds.

It carries all that a run needs to go on as if nothing had happened: weights, optimizers, averages, clock, data
position, random state, and the resolved config to compare with.
"""

import os
from pathlib import Path
from typing import Any

import torch

from base.errors import BadInput, CheckFailed
from engine.shard import spread

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any], name: str = CHECKPOINT) -> None:
    """A reader finds the old checkpoint or the whole new one, at whatever moment the run is killed."""
    unfinished = folder / f".{name}"
    with unfinished.open("wb") as stream:
        torch.save({**state, "random": torch.get_rng_state()}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(folder / name)


def load_checkpoint(folder: Path, device: torch.device) -> dict[str, Any] | None:
    path = folder / CHECKPOINT
    return read_state(path, device) if path.exists() else None


def read_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a .pt file holds, as plain data: nothing in it is run."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises whatever its zip and pickle readers do
        raise BadInput(f"{path}: not a checkpoint that can be read: {error!s:.200}") from None
    if not isinstance(state, dict):
        raise BadInput(f"{path}: holds a {type(state).__name__}, no config with weights; name a checkpoint of a run")
    return state


def diverged(step: int, loss: float, folder: Path | None) -> CheckFailed:
    saved = folder is not None and (folder / CHECKPOINT).exists()
    kept = f"the last good checkpoint is {folder}/{CHECKPOINT}" if saved else "nothing was saved yet"
    return CheckFailed(f"step {step}: loss {loss:.4g} has diverged; {kept}; lower the learning rates")


def restore_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["random"].cpu())


def load_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], where: str) -> None:
    """Every weight or none; names that torch.compile prefixed are read too."""
    plain = {name.removeprefix("_orig_mod."): tensor for name, tensor in weights.items()}
    own = model.state_dict()
    for name in sorted({*own, *plain}):
        if name not in plain or name not in own:
            raise BadInput(f"{where}: weight {name} is {'missing' if name not in plain else 'not in this model'}")
        if plain[name].shape != own[name].shape:
            raise BadInput(
                f"{where}: weight {name} has shape {tuple(plain[name].shape)}; this model has {tuple(own[name].shape)}"
            )
    model.load_state_dict({name: spread(tensor, own[name]) for name, tensor in plain.items()})
