"""RoPE, partial RoPE and YaRN: positions -> (cos, sin), and their application to queries and keys.

Half-split pairing (i, i + C/2), as LLaMA has it; the contest's script rotates the other way, which is the same model
with the second halves of q and k negated. YaRN is the reference implementation's, whose ramp is linear in the
dimension's index: the paper's formula gives other frequencies (up to 69 % in single ones). Frequencies are fp64.
"""

import math

import torch

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
    position = torch.arange(start, start + length, dtype=torch.float64, device=like.device)
    angle = position[:, None] * frequencies(config).to(like.device)  # (T, R/2)
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the first R of C dimensions of x (B, H, T, C); the others pass."""
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)
