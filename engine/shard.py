"""FSDP2 for models that do not fit one device: every parameter, gradient and optimizer state split by rows over ranks.

    place = placer("fsdp", device)
    model = GPT(config, made=place)      each block is split as soon as it is made
    place(model)                         then the rest
    with whole(model): ...               every weight gathered, to score with any number of forwards on each rank

Checkpoints hold whole tensors: `gathered` makes them on the main rank, `spread` splits them again, so that a run may
go on with another number of ranks or unsharded. With one rank nothing here is needed and nothing is done.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from engine.device import Device


def placer(kind: str, device: Device) -> Callable[[nn.Module], None]:
    """Puts a module on its device; under `fsdp` with several ranks splits it there, gathered only while in use."""
    bf16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    policy = bf16 if device.torch.type == "cuda" else MixedPrecisionPolicy()

    def place(module: nn.Module) -> None:
        module.to(device.torch)
        if kind == "fsdp" and device.ranks > 1:
            fully_shard(module, mp_policy=policy, reshard_after_forward=True)
            if hasattr(module, "loss"):  # the model's other way in
                register_fsdp_forward_method(module, "loss")

    return place


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """All weights on every rank for a while: forwards inside meet nobody, so ranks may do different numbers of them."""
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    yield
    for part in parts:
        part.reshard()
        part.set_reshard_after_forward(True, recurse=False)


def value(number: torch.Tensor) -> float:
    """Of a scalar, split or not; all ranks must call it together."""
    return float(number.full_tensor() if isinstance(number, DTensor) else number)


def gathered(state: Any) -> Any:
    """The same nested state for the main rank to write, every split tensor whole and on the CPU; all ranks must call it
    together. The others get nothing: weights and optimizer of a model that is split are more than one device holds."""
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if dist.get_rank() == 0 else tensor.new_empty(0)
    if isinstance(state, dict):
        return {name: gathered(value) for name, value in state.items()}
    return [gathered(value) for value in state] if isinstance(state, list) else state


def spread(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, where and split as `like` is."""
    if not isinstance(like, DTensor):
        return whole.to(like.device)
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)


def spread_optimizer(whole: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state of whole tensors, split as its parameters are; counters stay as they are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        number: {name: spread(v, parameters[number]) if v.ndim else v for name, v in values.items()}
        for number, values in whole["state"].items()
    }
    return {**whole, "state": state}
