"""The number format of a score's matrix products: what a config may name, and what a device can run.

fp32   as the weights are
bf16   autocast: matrix products in bf16; softmax, losses and sums in fp32 or wider
auto   bf16 on a GPU that has it, fp32 elsewhere: a CPU gains nothing by bf16
"""

from typing import Literal

from base.errors import BadInput

Precision = Literal["fp32", "bf16"]
WantedPrecision = Literal["auto", "fp32", "bf16"]


def choose_precision(wanted: WantedPrecision, kind: str, name: str, has_bf16: bool) -> Precision:
    """On a device of this kind ("cpu", "cuda" …) and name. The one place where `auto` becomes a format."""
    if wanted == "auto":
        return "bf16" if kind == "cuda" and has_bf16 else "fp32"
    if wanted == "bf16" and not has_bf16:
        raise BadInput(f"precision bf16: {name} has no bf16; use fp32, another GPU (Ampere or later) or a CPU")
    return wanted
