"""Devices by name, from tools/gpus.yaml. An unknown name is refused with those that are known; nothing is guessed."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Gt

from base.config import Layer, build, parse_yaml
from base.errors import BadInput

FILE = Path(__file__).parents[1] / "gpus.yaml"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    memory_gb: Annotated[float, Gt(0)]
    tflops: Annotated[float, Gt(0)]
    usd_per_hour: Annotated[float, Gt(0)]

    @property
    def memory_bytes(self) -> int:
        return round(self.memory_gb * 1e9)

    @property
    def flops(self) -> float:
        return self.tflops * 1e12


def known_gpus() -> dict[str, Gpu]:
    table = parse_yaml(FILE.read_text(encoding="utf-8"), str(FILE))
    return {name: build(Gpu, [Layer(f"{FILE.name}: {name}", values)]) for name, values in table.items()}


def gpu_named(name: str) -> Gpu:
    """`RTX-4090`, `rtx4090` and `rtx 4090` are one."""
    gpus = known_gpus()
    for known, gpu in gpus.items():
        if _plain(known) == _plain(name):
            return gpu
    raise BadInput(f"--gpu {name:.60}: not in {FILE.name}, which has {', '.join(gpus)}; use one or add a line")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
