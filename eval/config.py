"""The `eval` section of a run's config: the windows of its score, and how it adapts. No torch and no arrays."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt, MinLen

from base.config import Layer, build
from base.errors import BadInput
from base.precision import Precision, WantedPrecision

LINE_BYTES = 32  # of a table: what one look-up reads
TEXT_BYTES = 1 << 23  # what is kept of a text, and how states are mapped to probabilities
FEWEST_BITS, MOST_BITS = 10, 30  # of a table's lines

AdapterTarget = Literal["q", "k", "v", "out", "up", "down", "head"]


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """`eval.adapt.lora`: how each document's own adapters learn. All but `batch_documents` decide the score.

    The defaults gained most on a model of 1.9 million weights. The contest's best, of 36 million: rank 80, alpha 144,
    lr 1e-4, beta2 0.99.
    """

    rank: Annotated[int, Ge(1)] = 32
    alpha: Annotated[float, Gt(0)] = 32.0  # an adapter counts alpha / rank times
    lr: Annotated[float, Gt(0)] = 0.003
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999  # of Adam, without momentum: 0.9 loses half of the gain
    chunk_tokens: Annotated[int, Ge(0)] = 0  # scored, then learned from: its windows' stride; 0: the score's own
    batch_documents: Annotated[int, Ge(1)] = 32  # side by side
    targets: Annotated[tuple[AdapterTarget, ...], MinLen(1)] = ("v", "out", "up", "down", "head")

    def chunk(self, stride: int, context: int) -> int:
        """How many targets are scored before a step; more than a window holds is refused."""
        if self.chunk_tokens > context:
            name = f"eval.adapt.lora.chunk_tokens {self.chunk_tokens}"
            raise BadInput(f"{name} is beyond the context of {context}; use 0 to {context}")
        return self.chunk_tokens or stride


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """`eval.adapt`: what the final score learns from targets that it has scored. Scores on the way there are plain."""

    kind: Literal["off", "mix", "lora"] = "off"
    # mix: the text is cut into so many runs of equal length, each with a past of its own; so the length is known
    streams: Annotated[int, Ge(1), Le(64)] = 1
    table_bits: Annotated[int, Ge(FEWEST_BITS), Le(MOST_BITS)] = 22  # mix: log2 of the lines of a tree's table
    trees: Annotated[int, Ge(1), Le(2)] = 1  # mix: of the vocabulary; two cost 1 % fewer bits, and twice the time
    lora: LoRAConfig = field(default_factory=LoRAConfig)

    def require_possible(self, targets: int, ranks: int, docs: bool) -> None:
        """Refuse, before anything starts, what this machine or this score cannot do."""
        if self.kind != "mix":
            return
        if ranks > 1:
            raise BadInput(f"eval.adapt.kind mix on {ranks} ranks: a text has one past; use one rank or kind off")
        if docs:
            raise BadInput(
                "eval.adapt.kind mix learns from one document for the next, --docs scores each as if alone; choose one "
                "(--adapt off)"
            )
        if self.streams > targets:
            raise BadInput(f"eval.adapt.streams {self.streams} of {targets} targets; use 1 to {targets}")
        require_memory(self.table_bits, self.streams * self.trees)


def require_memory(table_bits: int, tables: int, texts: int = 1) -> None:
    """Refuse tables that this machine cannot hold, each with so many texts."""
    # All of the machine's memory: what is free at the moment leaves out what its file cache would give back.
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // tables - texts * TEXT_BYTES
    if LINE_BYTES << table_bits > memory_bytes:
        largest = (max(0, memory_bytes) // LINE_BYTES).bit_length() - 1
        way_out = f"use {largest} or less" if largest >= FEWEST_BITS else "use fewer streams"
        raise BadInput(
            f"eval.adapt.table_bits {table_bits}: a table takes {LINE_BYTES << table_bits:,} bytes, and this machine "
            f"has {memory_bytes:,} for each of {tables}: {way_out}"
        )


PLAIN = AdaptConfig()


def read_adapt(config: Mapping[str, Any], **flags: Any) -> AdaptConfig:
    """The section of an artifact's resolved config, off where it is older than the section; given flags win."""
    section = config.get("eval")
    own = section.get("adapt") if isinstance(section, dict) else None
    given = {name: value for name, value in flags.items() if value is not None}
    names = " and ".join(f"--{'adapt' if name == 'kind' else name.replace('_', '-')}" for name in given)
    return build(AdaptConfig, [Layer("the artifact's eval.adapt", {} if own is None else own), Layer(names, given)])


def read_precision(config: Mapping[str, Any], given: Precision | None = None) -> Precision:
    """`given`, or that of an artifact's resolved config; one that is older, or that no run made, means fp32."""
    section = config.get("eval")
    own = section.get("precision", "auto") if isinstance(section, dict) else "auto"
    known = get_args(WantedPrecision)
    if own not in known:
        raise BadInput(f"the artifact's eval.precision {own!r:.40} is not one of {', '.join(known)}")
    return given or ("bf16" if own == "bf16" else "fp32")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """The `eval` section."""

    stride: Annotated[int, Ge(1)] = 64
    context: Annotated[int, Ge(0)] = 0  # 0: the training length
    batch_tokens: Annotated[int, Ge(0)] = 0  # of windows, at a time; 0: what suits the device
    precision: WantedPrecision = "auto"  # by the device that trains; the artifact then names the one that it means
    during: Annotated[float, Ge(0)] = 0.25  # validate after each such share of the run, without overlap; 0: never
    adapt: AdaptConfig = PLAIN

    def window(self, seq_len: int) -> int:
        """The context of a run of this training length; a stride beyond it is refused before the run begins."""
        context = self.context or seq_len
        if self.stride > context:
            raise BadInput(f"eval.stride {self.stride} is beyond the context of {context}; use 1 to {context}")
        self.adapt.lora.chunk(self.stride, context)
        return context
