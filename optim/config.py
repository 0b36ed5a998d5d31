"""The `optim` and `average` sections of a run's config: rates, schedule, and the average of weights. No torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

Rate = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Lt(1)]  # of the run


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The `optim` section. Rates are peaks; the schedule multiplies them all alike."""

    matrix: Literal["muon", "adamw"] = "muon"
    matrix_lr: Rate = 0.02
    matrix_decay: Rate = 0.04
    muon_beta: Share = 0.95
    muon_beta_start: Share = 0.85
    muon_warmup: Share = 0.1  # of the run, of Muon's momentum
    muon_warmup_steps: Annotated[int, Ge(0)] = 0  # the same in steps; 0: by share
    muon_bigram: bool = False  # whether Muon has BigramHash's projection; AdamW has its table
    muon_steps: Annotated[int, Ge(1)] = 5
    muon_row_norm: bool = False
    embed_lr: Rate = 0.03
    head_lr: Rate = 0.008
    bigram_lr: Rate = 0.03
    control_lr: Rate = 0.02
    decay: Rate = 0.01  # of everything that AdamW updates, control parameters apart
    control_decay: Rate = 0.0
    betas: tuple[Share, Share] = (0.9, 0.95)
    eps: Annotated[float, Gt(0)] = 1e-8
    clip: Rate = 1.0  # of the gradient's norm over all parameters; 0: off
    warmup: Share = 0.0
    warmdown: Annotated[float, Ge(0)] = 0.5
    floor: Share = 0.0
    shape: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        if self.warmup + self.warmdown > 1:
            raise ValueError(
                f"warmup {self.warmup} and warmdown {self.warmdown} are more than the whole run; "
                f"use warmdown {1 - self.warmup:g} or less"
            )


@dataclass(frozen=True, kw_only=True)
class AverageConfig:
    """The `average` section: which average replaces the weights at the end."""

    kind: Literal["off", "swa", "ema"] = "ema"
    decay: Annotated[float, Gt(0), Lt(1)] = 0.997  # ema: every step
    start: Annotated[float, Ge(0), Lt(1)] = 0.6  # swa: of the run
    every: Annotated[float, Gt(0), Lt(1)] = 0.01  # swa: of the run, between two parts
