"""The `data` section of a run's config: which dataset, in which order. No reading happens here, and no torch."""

from dataclasses import dataclass
from typing import Literal

from data.caseops import TransformName

Order = Literal["shuffled", "sequential"]  # data/loader.py explains them


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The `data` section."""

    path: str = "data/datasets/stdlib"
    order: Order = "shuffled"
    source: str = ""  # what data.prep makes the dataset from if it does not exist yet
    transform: TransformName = "none"  # and what it does to a text before it is encoded
