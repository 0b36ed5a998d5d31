"""QuantConfig: the `quant` section of a run's config, how the trained weights are packed."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from quant.bits import DEFAULT_BITS, BitPlan, parse_bits

Method = Literal["none", "absmax", "clip", "sigma", "gptq", "rate"]
Codec = Literal["zstd", "ans", "best"]

RATE_BITS = dict.fromkeys(DEFAULT_BITS, 8) | {"control": 16}


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    bits: str = ""  # words over the defaults, as quant.bits has them
    method: Method = "absmax"  # none: a run ends with its float weights and their score
    codec: Codec = "zstd"
    cap_bytes: Annotated[int, Ge(0)] = 0  # on artifact and code, met by the dial or the widths; 0: no cap
    solve: bool = True  # choose dial or widths for the cap; false: pack as written, and refuse a result above it
    dial: Annotated[float, Gt(0), Lt(1e6)] = 0.4  # rate: step over spread; sigma: step over a row's deviation
    columns: Annotated[float, Ge(0)] = 0.75  # rate: power of the column steps; 0: all alike
    rows: Annotated[float, Ge(0)] = 0.35  # rate: power of the row steps; 0: all alike
    by_tensor: bool = True  # rate: steps by sensitivity, not by spread alone
    trellis: bool = True  # rate: two staggered grids (quant.trellis)
    feedback: bool = True  # rate, sigma: GPTQ on the grid; the method gptq is absmax with nothing but that
    calibration_tokens: Annotated[int, Gt(0)] = 131_072  # of training text, for gptq, sigma and rate

    def __post_init__(self) -> None:
        if self.method == "gptq" and not self.feedback:
            raise ValueError("method gptq without feedback is absmax; use that")
        if self.method == "none" and self.cap_bytes:
            raise ValueError(f"method none packs nothing that cap_bytes {self.cap_bytes} could hold; use another, or 0")
        parse_bits(self.bits)

    @property
    def plan(self) -> BitPlan:
        """Under `rate` the steps set the bytes, and the width is only a bound: as wide as it gets unless named."""
        return parse_bits(self.bits, RATE_BITS if self.method == "rate" else DEFAULT_BITS)

    @property
    def is_calibrated(self) -> bool:
        return self.method in ("gptq", "rate") or (self.method == "sigma" and self.feedback)

    @property
    def reads_training_text(self) -> bool:
        """To round by it, or to choose widths under a cap; a dial is chosen by bytes alone."""
        return self.is_calibrated or (self.cap_bytes > 0 and self.solve and self.method in ("absmax", "clip"))
