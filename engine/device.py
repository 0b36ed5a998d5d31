"""Where a run runs: one CPU, one GPU, or the ranks that torchrun started; precision and collectives.

Reads no environment variable but torchrun's own: RANK, WORLD_SIZE, LOCAL_RANK.
"""

import math
import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from base.errors import BadInput
from base.precision import Precision, WantedPrecision, choose_precision

# Dense bf16 peaks by a part of the device's name, for model-FLOPs utilisation.
PEAK_FLOPS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "4090": 165e12,
    "MI300X": 1307.4e12,
}


Value = TypeVar("Value")


@dataclass(frozen=True)
class Device:
    torch: torch.device
    rank: int = 0
    ranks: int = 1

    @property
    def main(self) -> bool:
        """Whether this rank logs, writes and saves for all."""
        return self.rank == 0

    def precision(self, wanted: WantedPrecision) -> Precision:
        """What `wanted` means here; refused where this device cannot run it."""
        has_bf16 = self.torch.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
        return choose_precision(wanted, self.torch.type, self.describe(), has_bf16)

    def autocast(self) -> AbstractContextManager[object]:
        """Of training: what `auto` means here."""
        return autocast(self.torch, self.precision("auto"))

    def synchronize(self) -> None:
        if self.torch.type == "cuda":
            torch.cuda.synchronize(self.torch)

    def peak_flops(self) -> float | None:
        """The device's peak, or None where its name is unknown: no utilisation is better than a wrong one."""
        if self.torch.type != "cuda":
            return None
        name = torch.cuda.get_device_name(self.torch)
        return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)

    def peak_memory_bytes(self) -> int:
        """The most that this process ever held, of the GPU's memory or of the machine's."""
        if self.torch.type == "cuda":
            return torch.cuda.max_memory_allocated(self.torch)
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def describe(self) -> str:
        is_gpu = self.torch.type == "cuda"
        kind = torch.cuda.get_device_name(self.torch) if is_gpu else f"{torch.get_num_threads()} threads"
        return f"{self.ranks} x {self.torch.type} ({kind})"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def joined() -> Iterator[Device]:
    """Join the ranks if torchrun started several, and take this rank's device."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    if ranks == 1:
        yield Device(device)
        return
    # The others wait while the main rank prepares data or packs; torchrun notices a rank that dies.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=2))
    yield Device(device, rank, ranks)
    # Not after an exception: the others wait in a collective, and with NCCL the end of the group would wait for them.
    dist.destroy_process_group()


@contextmanager
def memory_hint(way_out: str) -> Iterator[None]:
    """Report out-of-memory as a usage error that names what to lower."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; a CPU's allocator raises it plainly
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        raise BadInput(f"out of memory; {way_out} ({error})") from None


def run_rank(work: Callable[[], int]) -> NoReturn:
    """Run a command on this rank and exit with its code; only the main rank's answer reaches stdout.

    A rank exits without shutting its interpreter down: torch's caches hold the process group beyond its end, and a gloo
    thread that then wants the interpreter's lock, to free a tensor, aborts the process.
    """
    if "RANK" not in os.environ:
        sys.exit(work())
    if os.environ["RANK"] != "0":
        sys.stdout = open(os.devnull, "w")
    code = work()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.Tensor], device: Device) -> None:
    """Replace every rank's gradients by their mean, in one collective per dtype."""
    if device.ranks == 1:
        return
    kinds: dict[torch.dtype, list[torch.Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None and not isinstance(parameter.grad, DTensor):  # FSDP2 has averaged its own
            kinds.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in kinds.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= device.ranks
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def agree(clock_s: float, stop: float, device: Device) -> tuple[float, float]:
    """The main rank's clock and the largest stop request of any rank, on every rank."""
    if device.ranks == 1:
        return clock_s, stop
    shared = torch.tensor([clock_s if device.main else -math.inf, stop], dtype=torch.float64, device=device.torch)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return float(shared[0]), float(shared[1])


def mean(value: float, device: Device) -> float:
    """Over all ranks, and the same number on each."""
    if device.ranks == 1:
        return value
    total = torch.tensor([value], dtype=torch.float64, device=device.torch)
    dist.all_reduce(total)
    return float(total) / device.ranks


def barrier(device: Device) -> None:
    """Wait until every rank is here."""
    if device.ranks > 1:
        dist.barrier()


def add_up(values: torch.Tensor, device: Device) -> None:
    """Replace a tensor on the CPU by its sum over all ranks."""
    if device.ranks == 1:
        return
    shared = values.to(device.torch)
    dist.all_reduce(shared)
    values.copy_(shared)


def gather(value: Value, device: Device) -> list[Value]:
    """Every rank's value, on every rank, in rank order."""
    if device.ranks == 1:
        return [value]
    found: list[Any] = [None] * device.ranks
    dist.all_gather_object(found, value)
    return found
