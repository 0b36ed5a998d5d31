"""The `quant` section of a run's config: how the trained weights are stored. No torch and no arrays."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from quant.bits import parse_bits

Codec = Literal["zstd", "ans", "best"]
Method = Literal["absmax", "clip", "sigma", "gptq", "rate"]


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    """The `quant` section."""

    bits: str = ""  # words over the default, mlp=5,attn=6,embed=6,head=6,bigram=6,control=16
    method: Method = "absmax"
    codec: Codec = "zstd"
    cap_bytes: Annotated[int, Ge(0)] = 0  # on artifact and code: dial or widths are chosen to meet it; 0: no cap
    dial: Annotated[float, Gt(0), Lt(1e6)] = 0.4  # rate: step over spread; sigma: k is the largest integer times it
    columns: Annotated[float, Ge(0)] = 0.75  # rate: power of the column shares
    rows: Annotated[float, Ge(0)] = 0.35  # rate: power of the row shares
    by_tensor: bool = True  # rate: steps by sensitivity, not by spread
    trellis: bool = True  # rate: two staggered grids
    feedback: bool = True  # rate and sigma: GPTQ on the grid; gptq is nothing else
    calibration_tokens: Annotated[int, Gt(0)] = 131_072  # of training text, for gptq and rate

    def __post_init__(self) -> None:
        if self.method == "gptq" and not self.feedback:
            raise ValueError("method gptq without feedback is absmax; use that")
        parse_bits(self.bits)

    @property
    def dialled(self) -> bool:
        """One dial moves the bytes; else the widths do."""
        return self.method in ("rate", "sigma")

    @property
    def calibrated(self) -> bool:
        return self.method in ("gptq", "rate") or (self.method == "sigma" and self.feedback)
