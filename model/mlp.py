"""The MLP and its five activations.

relu2 is the contest's (So et al. 2021, arXiv 2109.08668); leaky_relu2 (slope 0.5 before the square) gained 0.0021 to
0.003 bpb there. SwiGLU has a third matrix, so compare it at equal parameters, not at equal width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from model.config import ModelConfig


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind = config.mlp
        self.up = nn.Linear(config.dim, config.hidden_width, bias=False)
        self.gate = nn.Linear(config.dim, config.hidden_width, bias=False) if self.kind == "swiglu" else None
        self.down = nn.Linear(config.hidden_width, config.dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, T, D) -> (B, T, D)
        up = self.up(x)  # (B, T, F)
        if self.gate is not None:
            hidden = F.silu(self.gate(x)) * up
        elif self.kind == "relu2":
            hidden = F.relu(up).square()
        elif self.kind == "leaky_relu2":
            hidden = F.leaky_relu(up, 0.5).square()
        else:
            hidden = F.silu(up) if self.kind == "silu" else F.gelu(up)
        down: torch.Tensor = self.down(hidden)
        return down
