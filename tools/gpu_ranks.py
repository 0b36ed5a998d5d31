"""The collectives of a training step, on every rank that torchrun starts, against one process. For tools.gpu_check.

    torchrun --standalone --nproc_per_node=2 tools/gpu_ranks.py --cpu        one JSON object: how far each is off
    torchrun --standalone --nproc_per_node=2 tools/gpu_ranks.py --cpu --fail         the last rank raises an exception

One GPU has one rank; it then acts as the first of two, so that NCCL runs, and knows that sums over ranks are its own.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # torchrun starts a file, not a module

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import distribute_tensor

from engine.device import Device, gather, run_rank
from engine.gradients import Gradients
from engine.shard import make_placer
from model.config import ModelConfig
from model.gpt import GPT
from optim.distributed import apply_replicated
from optim.muon import directions

CONFIG = ModelConfig(vocab_size=512, layers=3, dim=128, heads=4, kv_heads=2)


def make_model(made: Callable[[nn.Module], None] = lambda block: None) -> GPT:
    torch.manual_seed(0)
    model = GPT(CONFIG, made=made)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    made(model)
    return model


def gradients_of(model: GPT, device: Device) -> list[torch.Tensor]:
    tokens, targets = torch.randint(512, (2, 4, 64), generator=torch.Generator().manual_seed(1)).to(device.torch)
    with device.autocast():
        loss = model.loss(tokens, targets)
    torch.autograd.backward(loss)
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def off(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    one, other = (torch.cat([each.detach().float().flatten() for each in every]) for every in (found, expected))
    return float((one - other).norm() / other.norm())


def compare(device: Device) -> dict[str, float]:
    """`device.ranks` is at least two; the group may have fewer, and a mean over ranks is then as much smaller."""
    share = dist.get_world_size() / device.ranks
    plain = make_model().to(device.torch)
    expected = gradients_of(plain, device)
    model = make_model().to(device.torch)
    replicated = Gradients(list(model.parameters()), device)
    found = gradients_of(model, device)
    replicated.average()
    results = {"averaged gradients": off(found, [share * gradient for gradient in expected])}
    matrices = [gradient for gradient in expected if gradient.shape == (128, 128)]
    orthogonal = partial(directions, steps=5, row_norm=False)
    results["orthogonal matrices"] = off(apply_replicated(matrices, orthogonal), orthogonal(matrices))
    split = make_model(make_placer("fsdp", device))
    own = split.state_dict()
    for name, weight in plain.state_dict().items():
        own[name].copy_(distribute_tensor(weight, own[name].device_mesh, own[name].placements))
    tokens = torch.arange(64, device=device.torch)[None]
    with device.autocast(), torch.no_grad():
        results["logits of a split model"] = off([split(tokens)], [plain(tokens)])
    gradients = [gradient.full_tensor() for gradient in gradients_of(split, device)]  # type: ignore[attr-defined]
    results["gradients of a split model"] = off(gradients, expected)
    return results


def work() -> int:
    flags = argparse.ArgumentParser()
    flags.add_argument("--cpu", action="store_true")
    flags.add_argument("--fail", action="store_true")
    args = flags.parse_args()
    dist.init_process_group("gloo" if args.cpu else "cpu:gloo,cuda:nccl")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    place = torch.device("cpu") if args.cpu else torch.device("cuda", rank)
    if not args.cpu:
        torch.cuda.set_device(place)
    device = Device(place, rank, max(2, ranks))
    if args.fail and rank == ranks - 1:
        raise RuntimeError("a deliberate failure")
    results = compare(device)
    of_all = gather(results, replace(device, ranks=ranks))
    worst = {name: max(found[name] for found in of_all) for name in results}
    print(json.dumps(worst), flush=True)
    return 0


if __name__ == "__main__":
    run_rank(work)
