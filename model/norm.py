"""RMSNorm, with a learned weight or without, or no norm at all."""

import torch
import torch.nn.functional as F
from torch import nn

from model.config import ModelConfig


def rms_norm(x: torch.Tensor, eps: float, weight: torch.Tensor | None = None) -> torch.Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


class Norm(nn.Module):
    def __init__(self, config: ModelConfig, scale: float = 1.0) -> None:
        super().__init__()
        self.kind = config.norm
        self.eps = config.norm_eps
        self.scale = scale
        self.weight = nn.Parameter(torch.ones(config.dim)) if config.norm == "rms_weight" else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind != "none":
            x = rms_norm(x, self.eps, None if self.weight is None else self.weight.to(x.dtype))
        return x * self.scale if self.scale != 1.0 else x
