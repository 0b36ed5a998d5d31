"""RunConfig: everything that one YAML file in configs/ can set, one section per folder.

    config = load(RunConfig, DEFAULT, ["model.dim=256"])        (base.config)

Each section's dataclass lives in its own folder's config.py. Nothing here imports torch, so that a command that only
plans or checks a run starts in a second.
"""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Lt

from data.config import DataConfig
from engine.config import TrainConfig
from eval.config import EvalConfig
from model.config import ModelConfig
from optim.config import AverageConfig, OptimConfig
from quant.config import QuantConfig

DEFAULT = "configs/demo.yaml"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    seed: Annotated[int, Ge(0), Lt(1 << 63)] = 1337
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
