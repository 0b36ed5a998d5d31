"""FSDP2 for models that do not fit one device: every parameter, gradient and optimizer state split by rows over ranks.

    place = make_placer("fsdp", device)
    model = GPT(config, made=place)      each block is split as soon as it is made
    place(model)                         then the rest

model.pt holds complete tensors, which `gather_weights` makes on the main rank. With one rank everything here does
nothing.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from engine.device import Device


def make_placer(kind: str, device: Device, replicate: int = 1) -> Callable[[nn.Module], None]:
    """A function that moves a module to its device and, under `fsdp` with several ranks, splits it there: over all of
    them, or over each of `replicate` groups of neighbours that hold the same (HSDP)."""
    bf16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    policy = bf16 if device.torch.type == "cuda" else MixedPrecisionPolicy()
    mesh = None
    if replicate > 1:
        shape = (replicate, device.ranks // replicate)
        mesh = init_device_mesh(device.torch.type, shape, mesh_dim_names=("replicate", "shard"))

    def place(module: nn.Module) -> None:
        module.to(device.torch)
        if kind == "fsdp" and device.ranks > 1:
            fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
            if hasattr(module, "loss"):  # the model's other way in
                register_fsdp_forward_method(module, "loss")

    return place


def gather_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's state with every split tensor complete and on the CPU, for the main rank to write.

    All ranks call it together. The others get empty tensors: a split model's state is more than one device holds.
    """

    def complete(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        whole = tensor.full_tensor()
        return whole.cpu() if dist.get_rank() == 0 else whole.new_empty(0)

    return {name: complete(tensor) for name, tensor in model.state_dict().items()}
