"""Parameter groups: hidden matrices to Muon, everything else to AdamW, each kind with its own rate and decay.

    optimizers = build_optimizers(kinds, config.optim)      kinds: parameter -> kind, as model.gpt's learning_kind

`matrix: adamw` gives everything to AdamW, as LLaMA-style systems train. It knows kinds by name and no model.
"""

from collections.abc import Iterable

import torch

from optim.config import OptimConfig
from optim.muon import Muon
from optim.schedule import momentum, multiplier


def build_optimizers(
    kinds: Iterable[tuple[torch.Tensor, str]], config: OptimConfig, compiled: bool = False
) -> list[torch.optim.Optimizer]:
    """One optimizer of matrices (or none) and one AdamW; each group remembers its peak rate as `peak`."""
    matrices: list[torch.Tensor] = []
    others: dict[tuple[float, float], list[torch.Tensor]] = {}
    rates = {
        "embed": (config.embed_lr, config.decay),
        "head": (config.head_lr, config.decay),
        "bigram": (config.bigram_lr, config.decay),
        "bigram_proj": (config.bigram_lr, config.decay),
        "control": (config.control_lr, config.control_decay),
        "attn": (config.matrix_lr, config.matrix_decay),
        "mlp": (config.matrix_lr, config.matrix_decay),
    }
    of_muon = ("attn", "mlp", "bigram_proj") if config.muon_bigram else ("attn", "mlp")
    for parameter, kind in kinds:
        if config.matrix == "muon" and kind in of_muon:
            matrices.append(parameter)
        else:
            others.setdefault(rates[kind], []).append(parameter)
    groups = [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in others.items()]
    adamw = torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)
    optimizers: list[torch.optim.Optimizer] = [adamw]
    if matrices:
        optimizers.insert(0, Muon(matrices, config, compiled))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def warm_up(config: OptimConfig, device: torch.device) -> None:
    """Step throw-away optimizers once: torch imports its compiler at the first step, which takes seconds."""
    stand_ins = [torch.ones(2, 2, device=device, requires_grad=True) for _ in range(2)]
    for optimizer in build_optimizers(zip(stand_ins, ("mlp", "embed"), strict=True), config):
        for stand_in in stand_ins:
            stand_in.grad = torch.ones_like(stand_in)
        optimizer.step()


def set_rates(optimizers: Iterable[torch.optim.Optimizer], config: OptimConfig, progress: float, step: int) -> None:
    """Every group's rate and Muon's momentum for this moment of the run."""
    rate = multiplier(config, progress)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
            if isinstance(optimizer, Muon):
                group["beta"] = momentum(config, progress, step)
