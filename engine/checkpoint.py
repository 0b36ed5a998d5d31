"""Read model.pt, a run's complete weights and its resolved config, without executing anything in it.

engine/saver.py writes it, and the folders that an interrupted run resumes from.
"""

from pathlib import Path
from typing import Any

import torch

from base.errors import BadInput
from base.run_folder import MODEL


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


def load_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], where: str) -> None:
    """All weights or none."""
    own = model.state_dict()
    for name in sorted({*own, *weights}):
        if name not in weights or name not in own:
            raise BadInput(f"{where}: weight {name} is {'not in this model' if name in weights else 'missing'}")
        saved, ours = tuple(weights[name].shape), tuple(own[name].shape)
        if saved != ours:
            raise BadInput(f"{where}: weight {name} has shape {saved}; this model has {ours}")
    model.load_state_dict(weights)
