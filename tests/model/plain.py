"""The contest's model written out in fp64 as plain functions of a dict of weights: no module, no code of model/.

Shapes as in model/config.py. Names of weights are the state dict's, without what `part` cuts off in front.
"""

import math

import torch

Weights = dict[str, torch.Tensor]
EPS = 1e-6  # ModelConfig.norm_eps
BASE = 10_000.0  # of RoPE


def part(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def mirror(weights: Weights, head_width: int, rotated: int) -> Weights:
    """The project's weights as the contest would hold the same model.

    The contest rotates a pair of dimensions (i, i + R/2) clockwise, model/rotary.py counter-clockwise. Negating the
    second of each pair in q and k makes one of the other: norms and q·k stay.
    """
    sign = torch.ones(head_width, dtype=torch.float64)
    sign[rotated // 2 : rotated] = -1
    changed = dict(weights)
    for name, matrix in weights.items():
        if name.endswith((".attn.q.weight", ".attn.k.weight")):
            changed[name] = matrix * sign.repeat(len(matrix) // head_width)[:, None]
    return changed


def rms_norm(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt()


def rotate(x: torch.Tensor, rotated: int) -> torch.Tensor:
    """(…, T, C): the contest's RoPE, on the first `rotated` dimensions."""
    half = rotated // 2
    position = torch.arange(x.shape[-2], dtype=torch.float64)
    y = x.clone()
    for i in range(half):
        angle = position * BASE ** (-2 * i / rotated)
        a, b = x[..., i], x[..., i + half]
        y[..., i] = a * angle.cos() + b * angle.sin()
        y[..., i + half] = -a * angle.sin() + b * angle.cos()
    return y


def attend(w: Weights, n: torch.Tensor, heads: int, kv_heads: int, rotated: int) -> tuple[torch.Tensor, torch.Tensor]:
    """n (B, T, D) -> each query head's output and its own value, (B, H, T, C) both, before the output projection."""

    def split(projection: str, count: int) -> torch.Tensor:
        return (n @ w[projection].T).unflatten(-1, (count, -1)).transpose(1, 2)  # (B, count, T, C)

    q, k, v = split("q.weight", heads), split("k.weight", kv_heads), split("v.weight", kv_heads)
    q = rotate(rms_norm(q), rotated) * w["q_gain"][:, None, None]
    k = rotate(rms_norm(k), rotated)
    k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    score = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (B, H, T, T)
    future = torch.ones(score.shape[-2:]).triu(1).bool()
    return score.masked_fill(future, -math.inf).softmax(-1) @ v, v


def project(w: Weights, y: torch.Tensor) -> torch.Tensor:
    """(B, H, T, C) -> (B, T, D)"""
    return y.transpose(1, 2).flatten(2) @ w["out.weight"].T


def think(w: Weights, n: torch.Tensor) -> torch.Tensor:
    return (n @ w["up.weight"].T).clamp(min=0).square() @ w["down.weight"].T


def block(
    w: Weights, x: torch.Tensor, x0: torch.Tensor, heads: int, kv_heads: int, rotated: int, depth_scale: float = 1.0
) -> torch.Tensor:
    """One layer; `depth_scale` is what LN scale multiplies its two norms with."""
    x = w["resid_mix"][0] * x + w["resid_mix"][1] * x0
    attn = part(w, "attn.")
    y, _ = attend(attn, rms_norm(x) * depth_scale, heads, kv_heads, rotated)
    x = x + w["attn_scale"] * project(attn, y)
    return x + w["mlp_scale"] * think(part(w, "mlp."), rms_norm(x) * depth_scale)
