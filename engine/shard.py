"""FSDP2 for models that do not fit one device: every parameter, gradient and optimizer state split by rows over ranks.

    place = make_placer("fsdp", device)
    model = GPT(config, made=place)      each block is split as soon as it is made
    place(model)                         then the rest

Checkpoints hold complete tensors: `gather_state` makes them on the main rank, `distribute` splits them again, so a run
may resume on another number of ranks or unsharded. With one rank everything here does nothing.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from engine.device import Device


def make_placer(kind: str, device: Device) -> Callable[[nn.Module], None]:
    """A function that moves a module to its device and, under `fsdp` with several ranks, splits it there."""
    bf16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    policy = bf16 if device.torch.type == "cuda" else MixedPrecisionPolicy()

    def place(module: nn.Module) -> None:
        module.to(device.torch)
        if kind == "fsdp" and device.ranks > 1:
            fully_shard(module, mp_policy=policy, reshard_after_forward=True)
            if hasattr(module, "loss"):  # the model's other way in
                register_fsdp_forward_method(module, "loss")

    return place


def gather_state(state: Any) -> Any:
    """The same nested state with every split tensor complete and on the CPU, for the main rank to write.

    All ranks call it together. The others get empty tensors: a split model's state is more than one device holds.
    """
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if dist.get_rank() == 0 else tensor.new_empty(0)
    if isinstance(state, dict):
        return {name: gather_state(value) for name, value in state.items()}
    return [gather_state(value) for value in state] if isinstance(state, list) else state


def distribute(complete: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A complete tensor on the device of `like`, and split as it is."""
    if not isinstance(like, DTensor):
        return complete.to(like.device)
    return distribute_tensor(complete.to(like.device), like.device_mesh, like.placements)


def distribute_optimizer(complete: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state of complete tensors, split as its parameters are; counters stay as they are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        number: {name: distribute(v, parameters[number]) if v.ndim else v for name, v in values.items()}
        for number, values in complete["state"].items()
    }
    return {**complete, "state": state}
