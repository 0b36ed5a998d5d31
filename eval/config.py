"""The `eval` section of a run's config: the windows of its score. No torch and no arrays."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from base.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """The `eval` section."""

    stride: Annotated[int, Ge(1)] = 64
    context: Annotated[int, Ge(0)] = 0  # 0: the training length
    batch_tokens: Annotated[int, Ge(1)] = 16_384  # of windows, at a time
    during: Annotated[float, Ge(0)] = 0.25  # validate after each such share of the run, without overlap; 0: never

    def window(self, seq_len: int) -> int:
        """The context of a run of this training length; a stride beyond it is refused before the run begins."""
        context = self.context or seq_len
        if self.stride > context:
            raise BadInput(f"eval.stride {self.stride} is beyond the context of {context}; use 1 to {context}")
        return context


AdapterTarget = Literal["q", "k", "v", "out", "up", "down", "head"]


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adapters of each document's own (eval/document_ttt.py). All but `batch_documents` decide the score.

    The defaults gained most on a model of 1.9 million weights. The contest's best, of 36 million: 80, 144, 1e-4, 0.99.
    """

    rank: Annotated[int, Ge(1)] = 32
    alpha: Annotated[float, Gt(0)] = 32.0  # an adapter counts alpha / rank times
    lr: Annotated[float, Gt(0)] = 0.003
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999  # of Adam; it has no momentum, as in eval/ttt.py
    chunk_tokens: Annotated[int, Ge(0)] = 0  # scored, then learned from: its windows' stride; 0: the score's own
    batch_documents: Annotated[int, Ge(1)] = 32  # side by side
    targets: tuple[AdapterTarget, ...] = ("v", "out", "up", "down", "head")
