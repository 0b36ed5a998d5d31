"""The `train` section of a run's config, and how its batch divides over ranks and micro-batches."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from base.errors import BadInput, CheckFailed

Natural = Annotated[int, Ge(0)]
DIVERGED = "has diverged"  # in the error of a run that did; tools.sweep looks for it, and for the next one
STOPPED = "was stopped by train.stop_if"
SMOOTH_STEPS = 20  # over which metrics.jsonl's smooth_loss is averaged


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The `train` section: how long, on how much at a time."""

    seconds: Annotated[float, Ge(0)] = 90.0  # of training; 0: no such limit
    steps: Natural = 0  # 0: no such limit
    reserve_s: Annotated[float, Ge(0)] = 0.0  # of the seconds, kept for what must follow inside them
    seq_len: Annotated[int, Ge(1)] = 256
    batch_tokens: Annotated[int, Gt(0)] = 8192  # a step, over all ranks
    micro_tokens: Natural = 0  # at a time on one rank; 0: the rank's whole share
    checkpoint_s: Annotated[float, Ge(0)] = 60.0  # seconds of training between two; 0: only at a stop, before packing
    shard: Literal["ddp", "fsdp"] = "ddp"  # fsdp: weights and optimizer state split over ranks
    replicate: Annotated[int, Ge(1)] = 1  # groups of ranks, each of which holds everything, split over its own (HSDP)
    checkpointing: bool = False  # activations are computed again instead of kept
    loss_tokens: Natural = 0  # whose logits exist at a time; 0: a micro-batch's (fastest where they are few)
    shortlist: Natural = 0  # tokens whose logits a step computes (data/shortlist.py); 0: all
    shortlist_until: Annotated[float, Gt(0), Le(1)] = 0.7  # of the run; all of them after it
    compile: Literal["auto", "on", "off"] = "auto"  # auto: on a GPU
    diverged_nats: Annotated[float, Gt(0)] = 20.0  # a loss above this, or none, stops the run
    # [share, nats]: from that share of the run on, a smoothed loss above so many nats stops it; 0 nats: none does
    stop_if: tuple[Annotated[float, Gt(0), Lt(1)], Annotated[float, Ge(0)]] = (0.2, 0.0)

    def __post_init__(self) -> None:
        if self.seconds and self.reserve_s >= self.seconds:
            raise ValueError(f"reserve_s {self.reserve_s:g} leaves nothing of {self.seconds:g} seconds; use less")
        if self.replicate > 1 and self.shard == "ddp":
            raise ValueError(f"train.replicate {self.replicate} is for shard fsdp; use 1")
        if self.shortlist and self.shard == "fsdp":
            raise ValueError("train.shortlist picks rows of the head, which fsdp splits; use shard ddp or shortlist 0")

    def require_progress(self, progress: float, smooth_loss: float) -> None:
        """Give up a run whose early loss is beyond what any good run had."""
        share, nats = self.stop_if
        if nats and progress >= share and smooth_loss > nats:
            bound = f"a smoothed loss of {smooth_loss:.4g} at {progress:.0%}, {nats:g} allowed from {share:.0%} on"
            raise CheckFailed(f"the run {STOPPED}: {bound}; raise the bound to train it to its end")

    def compiled(self, device: str) -> bool:
        return self.compile == "on" or (self.compile == "auto" and device == "cuda")


def report_divergence(step: int, loss: float, grad_norm: float, saved: object) -> CheckFailed:
    """`saved`: the last checkpoint, or None."""
    kept = f"the last good checkpoint is {saved}" if saved else "nothing was saved yet"
    what = f"step {step}: loss {loss:.4g}, gradient norm {grad_norm:.4g}: the run {DIVERGED}"
    return CheckFailed(f"{what}; {kept}; lower the learning rates")


def micro_rows(config: TrainConfig, ranks: int) -> tuple[int, int]:
    """(rows of a micro-batch, micro-batches a step) on each rank; a run and its plan refuse what does not divide."""
    if ranks % config.replicate:
        legal = [n for n in range(1, ranks + 1) if ranks % n == 0]
        raise BadInput(f"train.replicate {config.replicate} does not divide {ranks} ranks; use one of {legal}")
    unit = config.seq_len * ranks
    if config.batch_tokens % unit:
        near = [n for n in (config.batch_tokens // unit * unit, (config.batch_tokens // unit + 1) * unit) if n]
        raise BadInput(
            f"train.batch_tokens {config.batch_tokens} is not a multiple of seq_len {config.seq_len} x {ranks} ranks; "
            f"use {' or '.join(map(str, near))}"
        )
    rows = config.batch_tokens // unit
    micro = max(1, config.micro_tokens // config.seq_len) if config.micro_tokens else rows
    if rows % micro:
        legal = [n * config.seq_len for n in range(1, rows + 1) if rows % n == 0]
        near_micro = min(legal, key=lambda n: abs(n - config.micro_tokens))
        raise BadInput(f"train.micro_tokens {config.micro_tokens} does not divide a rank's share; use {near_micro}")
    return micro, rows // micro
