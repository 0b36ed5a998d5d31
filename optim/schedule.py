"""Schedules as pure functions of progress in [0, 1]: a config and a number in, a number out, no clock."""

import math

from optim.config import OptimConfig


def multiplier(config: OptimConfig, progress: float) -> float:
    """Of every peak rate: up over the first `warmup` of the run, 1, down to `floor` over the last `warmdown` of it."""
    if progress < config.warmup:
        return _eased(config, progress / config.warmup)
    left = 1.0 - progress
    if config.warmdown and left < config.warmdown:
        return config.floor + (1.0 - config.floor) * _eased(config, max(left, 0.0) / config.warmdown)
    return 1.0


def momentum(config: OptimConfig, progress: float, step: int) -> float:
    """Muon's: linear from `muon_beta_start` to `muon_beta`, over `muon_warmup_steps` or `muon_warmup` of the run."""
    start, end = config.muon_beta_start, config.muon_beta
    at, warmup = (step, config.muon_warmup_steps) if config.muon_warmup_steps else (progress, config.muon_warmup)
    return end if at >= warmup else start + (end - start) * at / warmup


def _eased(config: OptimConfig, share: float) -> float:
    return share if config.shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * share)
