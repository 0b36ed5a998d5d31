"""model.pt: a run's complete weights and its resolved config in one file, read without executing anything in it.

What an interrupted run resumes from is in folders (engine/saver.py).
"""

import os
from pathlib import Path
from typing import Any

import torch

from base.errors import BadInput, CheckFailed
from base.run_folder import MODEL
from engine.config import DIVERGED
from engine.shard import distribute


def save_model(folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """Streamed to a file beside it, then renamed: it is there when it is complete."""
    unfinished = folder / f".{MODEL}"
    with unfinished.open("wb") as stream:
        torch.save({"config": config, "weights": weights}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(folder / MODEL)


def read_state(path: Path) -> dict[str, Any]:
    """The contents of a .pt file as plain data on the CPU; nothing in it is executed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its zip and pickle readers do
        raise BadInput(f"{path}: not a checkpoint that can be read: {error!s:.200}") from None
    if not isinstance(state, dict):
        raise BadInput(f"{path}: holds a {type(state).__name__}, no config with weights; name a checkpoint of a run")
    return state


def read_run(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The resolved config and the weights in a run's model.pt."""
    return run_from(read_state(path), path)


def run_from(state: dict[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    config = state.get("config")
    weights = state.get("weights")
    sections = [config.get("model"), config.get("train")] if isinstance(config, dict) else []
    if not isinstance(config, dict) or not all(isinstance(each, dict) for each in [weights, *sections]):
        raise BadInput(f"{path}: holds no config with weights; name the {MODEL} of a finished run")
    return config, state["weights"]


def report_divergence(step: int, loss: float, grad_norm: float, saved: Path | None) -> CheckFailed:
    kept = f"the last good checkpoint is {saved}" if saved else "nothing was saved yet"
    what = f"step {step}: loss {loss:.4g}, gradient norm {grad_norm:.4g}: the run {DIVERGED}"
    return CheckFailed(f"{what}; {kept}; lower the learning rates")


def get_random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of this rank's random generators."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Empty for a rank that was added since the save: it keeps its own seed."""
    for kind, state in states.items():
        if kind == "cpu":
            torch.set_rng_state(state)
        elif device.type == kind == "cuda":
            torch.cuda.set_rng_state(state, device)
        elif device.type == kind == "mps":
            torch.mps.set_rng_state(state)


def load_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], where: str) -> None:
    """All weights or none."""
    own = model.state_dict()
    for name in sorted({*own, *weights}):
        if name not in weights or name not in own:
            raise BadInput(f"{where}: weight {name} is {'not in this model' if name in weights else 'missing'}")
        saved, ours = tuple(weights[name].shape), tuple(own[name].shape)
        if saved != ours:
            raise BadInput(f"{where}: weight {name} has shape {saved}; this model has {ours}")
    model.load_state_dict({name: distribute(tensor, own[name]) for name, tensor in weights.items()})
