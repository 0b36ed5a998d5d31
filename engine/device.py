"""Where a run runs: one CPU, one GPU (CUDA or Apple's), or the ranks that torchrun started; precision, collectives.

Reads no environment variable but torchrun's own: RANK, WORLD_SIZE, LOCAL_RANK.
"""

import math
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

from base.errors import BadInput
from base.precision import Precision, WantedPrecision, choose_precision
from engine.flash import PLAIN_KERNEL, activate_flash

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
# What hosts agree on waits as long as it takes: preparing data and packing take the main rank hours while the others
# have nothing to do, and torchrun ends them all when one dies. What devices exchange has no such waits, and a limit.
WITHOUT_LIMIT = timedelta(days=365)
DEVICE_LIMIT = timedelta(hours=2)


@dataclass(frozen=True)
class Device:
    torch: torch.device
    rank: int = 0
    ranks: int = 1
    kernel: str = PLAIN_KERNEL  # of attention
    leads_node: bool = True  # whether it looks after what is its node's, as files of data and code are
    hosts: dist.ProcessGroup | None = None  # of all ranks, without devices; None: the default group

    @property
    def main(self) -> bool:
        """Whether this rank logs, writes and saves for all."""
        return self.rank == 0

    @property
    def has_queue(self) -> bool:
        """Whether the host runs ahead of the device; numbers of Apple's are read at once as well."""
        return self.torch.type == "cuda"

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
        elif self.torch.type == "mps":
            torch.mps.synchronize()

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
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def describe(self) -> str:
        kinds = {"cuda": torch.cuda.get_device_name, "mps": lambda _: "Apple"}
        kind = kinds.get(self.torch.type, lambda _: f"{torch.get_num_threads()} threads")(self.torch)
        return f"{self.ranks} x {self.torch.type} ({kind})"


def packing_device(device: Device) -> torch.device:
    """Where weights are packed; Apple's GPUs have no fp64."""
    return torch.device("cpu") if device.torch.type == "mps" else device.torch


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def joined() -> Iterator[Device]:
    """Join the ranks if torchrun started several, and take this rank's device."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    elif torch.backends.mps.is_available() and ranks == 1:
        device = torch.device("mps")  # Apple silicon; it has no collectives
    kernel = activate_flash(device)
    if ranks == 1:
        with refuse_missing_operations(device):
            yield Device(device, kernel=kernel)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=DEVICE_LIMIT)
    hosts = dist.new_group(timeout=WITHOUT_LIMIT, backend="gloo")
    yield Device(device, rank, ranks, kernel, local_rank == 0, hosts)
    # Not after an exception: the others wait in a collective, and with NCCL the end of the group would wait for them.
    dist.destroy_process_group()


@contextmanager
def refuse_missing_operations(device: torch.device) -> Iterator[None]:
    """PyTorch has written some operations for CUDA and CPUs, and not for Apple's GPUs."""
    try:
        yield
    except (NotImplementedError, TypeError) as error:  # the latter for fp64
        if device.type != "mps":
            raise
        raise BadInput(f"Apple's GPU cannot run this: {str(error).splitlines()[0]:.200}; use a CPU or CUDA") from None


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


def agree(clock_s: float, wishes: tuple[float, ...], device: Device) -> tuple[float, ...]:
    """The main rank's clock and the largest of all ranks' wishes, each, on every rank.

    From host to host: the devices' queues need not be empty for it.
    """
    if device.ranks == 1:
        return clock_s, *wishes
    shared = torch.tensor([clock_s if device.main else -math.inf, *wishes], dtype=torch.float64)
    dist.all_reduce(shared, dist.ReduceOp.MAX, device.hosts)
    return tuple(shared.tolist())


def require_same(text: str | None, what: str, way_out: str, device: Device) -> None:
    """Refuse ranks that have different texts, by the lines that differ; None: a rank with nothing to compare."""
    host = platform.node()
    for rank, (other_host, other) in enumerate(gather((host, text), device)):
        if text is not None and other is not None and other != text:
            lines = [pair for pair in zip(text.splitlines(), other.splitlines(), strict=False) if pair[0] != pair[1]]
            shown = "; ".join(f"{ours.strip()!r} here, {theirs.strip()!r} there" for ours, theirs in lines[:3])
            us, them = f"rank {device.rank} ({host})", f"rank {rank} ({other_host})"
            raise BadInput(f"{us} and {them} have different {what}: {shown}; {way_out}")


def get_random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Of this rank's generators, by the kind of device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


def restore_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    for kind, state in states.items():
        if kind == "cpu":
            torch.set_rng_state(state)
        elif kind == device.type:
            torch.get_device_module(device).set_rng_state(state)


class Readback:
    """Numbers of the device, on their way to the host; nothing waits until they are read."""

    def __init__(self, numbers: torch.Tensor) -> None:
        self._numbers = numbers.detach().to("cpu", non_blocking=numbers.is_cuda)  # to pinned memory
        self._arrival = torch.cuda.Event() if numbers.is_cuda else None  # type: ignore[no-untyped-call]
        if self._arrival is not None:
            self._arrival.record()

    def read(self) -> torch.Tensor:
        if self._arrival is not None:
            self._arrival.synchronize()
        return self._numbers


def barrier(device: Device) -> None:
    """Wait until every rank is here."""
    if device.ranks > 1:
        dist.barrier(device.hosts)


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
    dist.all_gather_object(found, value, device.hosts)
    return found


def from_main(value: Value, device: Device) -> Value:
    """The main rank's value, on every rank."""
    if device.ranks == 1:
        return value
    found = [value]
    dist.broadcast_object_list(found, 0, device.hosts)
    return found[0]
