"""Averages gradients over ranks while the backward pass still runs: a bucket goes out as soon as it is complete.

    gradients = Gradients(weights, device)
    for each micro-batch:
        gradients.is_last = ...          the others only add up on each rank
        torch.autograd.backward(loss)
    gradients.average()                  waits for what is still under way

A compiled backward pass hands over all its gradients at its end: buckets then overlap each other and nothing else.
Split weights (FSDP2) average their own gradients and have no part in this.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from engine.device import Device

BUCKET_BYTES = 32 << 20  # large enough for a collective's full speed, small enough that several overlap


@dataclass
class Bucket:
    weights: list[torch.Tensor]
    ready: int = 0  # of its weights, those whose gradient is complete
    flat: torch.Tensor | None = None  # their gradients, one after the other, once they are under way
    work: dist.Work | None = None


@dataclass
class Gradients:
    weights: Sequence[torch.Tensor]
    device: Device
    is_last: bool = True  # whether the backward pass to come completes the gradients
    _buckets: list[Bucket] = field(default_factory=list, init=False)
    _bucket_of: dict[torch.Tensor, Bucket] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.device.ranks == 1:
            return
        size_bytes = 0
        for weight in reversed(self.weights):  # about the order in which a backward pass reaches them
            if isinstance(weight, DTensor):
                continue
            if not self._buckets or size_bytes > BUCKET_BYTES or weight.dtype != self._buckets[-1].weights[0].dtype:
                self._buckets.append(Bucket([]))
                size_bytes = 0
            bucket = self._buckets[-1]
            bucket.weights.append(weight)
            size_bytes += weight.numel() * weight.element_size()
            self._bucket_of[weight] = bucket
            weight.register_post_accumulate_grad_hook(self._count)  # type: ignore[no-untyped-call]

    def _count(self, weight: torch.Tensor) -> None:
        bucket = self._bucket_of[weight]
        bucket.ready += self.is_last
        if bucket.ready == len(bucket.weights):
            _send(bucket)

    @torch.no_grad()
    def average(self) -> None:
        """Replace every rank's gradients by their mean."""
        for bucket in self._buckets:
            if bucket.work is None:  # a weight that this step did not use, on any rank, has no gradient
                _send(bucket)
        for bucket in self._buckets:
            _receive(bucket, self.device.ranks)


def _send(bucket: Bucket) -> None:
    gradients = [weight.grad.reshape(-1) for weight in bucket.weights if weight.grad is not None]
    if gradients:
        bucket.flat = torch.cat(gradients)
        bucket.work = dist.all_reduce(bucket.flat, async_op=True)


def _receive(bucket: Bucket, ranks: int) -> None:
    if bucket.work is not None and bucket.flat is not None:
        bucket.work.wait()
        gradients = [weight.grad for weight in bucket.weights if weight.grad is not None]
        means = torch.split(bucket.flat.div_(ranks), [gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [mean.view_as(g) for mean, g in zip(means, gradients, strict=True)])
    bucket.ready = 0
    bucket.flat = bucket.work = None
