"""The `eval` section of a run's config: the windows of its score. No torch and no arrays."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

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
