"""RoPE, partial RoPE and YaRN: positions -> (cos, sin), and their application to queries and keys.

Half-split pairing (i, i + C/2), as LLaMA has it; the contest's script rotates the other way, which is the same model
with the second halves of q and k negated. YaRN is the reference implementation's, whose ramp is linear in the
dimension's index: the paper's formula gives other frequencies (up to 69 % in single ones). Frequencies are fp64.
"""

import math

import torch
from torch import nn

from model.config import ModelConfig


def frequencies(config: ModelConfig) -> torch.Tensor:
    """(R/2,) fp64 radians per position, R the rotated dimensions."""
    rotated = config.rope_dims or config.head_width
    index = torch.arange(0, rotated, 2, dtype=torch.float64)
    plain = config.rope_base ** (-index / rotated)
    if config.yarn_factor == 1.0:
        return plain
    low, high = yarn_range(config, rotated)
    ramp = ((index / 2 - low) / (high - low)).clamp(0, 1)  # 0: keep, 1: stretch by the factor
    return plain * (1 - ramp) + plain / config.yarn_factor * ramp


def yarn_range(config: ModelConfig, rotated: int) -> tuple[float, float]:
    """The dimension indices between which frequencies change from kept to stretched."""

    def index_of(cycles: float) -> float:  # the dimension that has this many over the original length
        return rotated * math.log(config.yarn_original / (2 * math.pi * cycles)) / (2 * math.log(config.rope_base))

    low = max(math.floor(index_of(config.yarn_beta_fast)), 0)
    high = min(math.ceil(index_of(config.yarn_beta_slow)), rotated - 1)
    return low, high + 0.001 if low == high else high


def attention_factor(config: ModelConfig) -> float:
    """YaRN's temperature, on q and k alike: its square goes into the softmax scale, where QK-norm cannot cancel it."""
    if config.yarn_factor == 1.0:
        return 1.0
    return 0.1 * math.log(config.yarn_factor) + 1 if config.yarn_attention is None else config.yarn_attention


def rotation(config: ModelConfig, start: int, length: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, each (T, R/2), for positions start … start+length-1, in the dtype and on the device of `like`."""
    position = torch.arange(start, start + length, dtype=torch.float64)  # on the CPU: Apple's GPUs have no fp64
    angle = position[:, None] * frequencies(config)  # (T, R/2)
    return angle.cos().to(like), angle.sin().to(like)


class Rotation(nn.Module):
    """The same from a table, which grows where it is too short; compiled code wants it long enough beforehand."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.table = torch.empty(2, 0, 0)  # cos and sin (2, positions, R/2); no buffer, which .double() would widen

    def forward(self, start: int, length: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.reserve(start + length, like)
        cos, sin = self.table[:, start : start + length].to(like.dtype)
        return cos, sin

    def reserve(self, positions: int, like: torch.Tensor) -> None:
        """Have so many positions on the device of `like`, in fp32 or its wider type."""
        width = torch.promote_types(like.dtype, torch.float32)
        table = self.table
        if positions <= table.shape[1] and (table.dtype, table.device) == (width, like.device):
            return
        with torch.inference_mode(False):  # training reads what a score has made
            cos_sin = rotation(self.config, 0, max(positions, 2 * table.shape[1]), torch.empty(0, dtype=width))
            self.table = torch.stack(cos_sin).to(like.device)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the first R of C dimensions of x (B, H, T, C); the others pass."""
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)
