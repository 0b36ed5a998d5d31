"""Averages of weights over the run, always in fp32: SWA (equal parts) and EMA (exponentially fading parts).

Averaging in a parameter's own bf16, as the contest's early records did, rounds the small updates away.
"""

from collections.abc import Iterable

import torch

from optim.config import AverageConfig


class Average:
    """`swa` (decay None): the mean of all updates. `ema`: average <- d * average + (1 - d) * weights.

    EMA's d grows to the configured decay as (1 + n) / (10 + n), so that a short run does not keep its random start.
    """

    def __init__(self, decay: float | None = None) -> None:
        self.decay = decay
        self.count = 0
        self.sums: list[torch.Tensor] = []

    @torch.no_grad()
    def update(self, parameters: Iterable[torch.Tensor]) -> None:
        weights = [parameter.detach().float() for parameter in parameters]
        if not self.count:
            self.sums = [weight.clone() for weight in weights]
        elif self.decay is None:
            torch._foreach_add_(self.sums, weights)
        else:
            grown = (1 + self.count) / (10 + self.count)
            torch._foreach_lerp_(self.sums, weights, 1 - min(self.decay, grown))
        self.count += 1

    def follow(self, config: AverageConfig, parameters: Iterable[torch.Tensor], progress: float) -> None:
        """After a step: include the weights if the config makes them due."""
        due = int((progress - config.start) / config.every) + 1 if progress >= config.start else 0
        if config.kind == "ema" or (config.kind == "swa" and self.count < due):
            self.update(parameters)

    @torch.no_grad()
    def swap(self, parameters: Iterable[torch.Tensor]) -> None:
        """Replace the parameters by their average, if there is one."""
        if not self.count:
            return
        for parameter, total in zip(parameters, self.sums, strict=True):
            parameter.copy_(total / self.count if self.decay is None else total)
