"""Whether a run's training state fits its devices, and the least change of its config that makes it fit.

Memory is that of model/memory.py, ±25 %. Pure arithmetic but for the table of devices, gpus.yaml.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, NamedTuple

from annotated_types import Gt

from base.config import Layer, build, parse_yaml
from base.errors import BadInput
from engine.config import TrainConfig, micro_rows
from model.memory import Shard, Trainer, max_rows, peak_bytes, training_parts
from run_config import RunConfig

GPUS = Path(__file__).with_name("gpus.yaml")
LOSS_CHUNK = 4096  # tokens whose logits exist at a time, in the layouts that save memory
MOST_DEVICES = 4096  # that a change may ask for


@dataclass(frozen=True, kw_only=True)
class Gpu:
    memory_gb: Annotated[float, Gt(0)]
    tflops: Annotated[float, Gt(0)]  # dense bf16
    usd_per_hour: Annotated[float, Gt(0)]


@dataclass(frozen=True)
class Layout:
    """One way to hold the training state, and whether it fits on a device."""

    trainer: Trainer
    memory_by_part: dict[str, int]
    memory_bytes: int  # at the peak
    fits: bool
    max_batch: int  # rows of the largest micro-batch that fits


class Change(NamedTuple):
    """What makes a run fit."""

    words: list[str]  # of the command line
    gpus: int

    def describe(self, gpus: int) -> str:
        more = f" on {self.gpus} devices" if self.gpus != gpus else ""
        return f"{' '.join(self.words) or 'the same'}{more} would fit"


def known_gpus() -> dict[str, Gpu]:
    table = parse_yaml(GPUS.read_text(encoding="utf-8"), str(GPUS))
    return {name: build(Gpu, [Layer(f"{GPUS.name}: {name}", values)]) for name, values in table.items()}


def plain_name(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def find_gpu(name: str) -> Gpu:
    """By name, spelled as people do: `RTX-4090`, `rtx_4090` or `rtx 4090`."""
    gpus = known_gpus()
    if plain_name(name) not in gpus:
        raise BadInput(f"--gpu {name:.60}: not in {GPUS.name}, which has {', '.join(gpus)}; use one or add a line")
    return gpus[plain_name(name)]


def make_trainer(config: RunConfig, gpus: int) -> Trainer:
    return Trainer(
        devices=gpus,
        shard=config.train.shard,
        replicate=config.train.replicate,
        muon=config.optim.matrix == "muon",
        average=config.average.kind != "off",
        checkpointing=config.train.checkpointing,
        loss_chunk=config.train.loss_tokens,
    )


def layouts(config: RunConfig, gpus: int, gpu: Gpu) -> list[Layout]:
    """The run's own, then both ways to split it with all that saves memory."""
    own = make_trainer(config, gpus)
    saving = replace(own, checkpointing=True, loss_chunk=LOSS_CHUNK)
    rows, _ = micro_rows(config.train, gpus)
    trainers = own, replace(saving, shard="ddp"), replace(saving, shard="fsdp")
    return [measure(config, trainer, rows, gpu) for trainer in trainers]


def measure(config: RunConfig, trainer: Trainer, rows: int, gpu: Gpu) -> Layout:
    seq_len = config.train.seq_len
    available = gpu.memory_gb * 1e9
    parts = training_parts(config.model, trainer, rows, seq_len)
    peak = peak_bytes(parts)
    return Layout(trainer, parts, peak, peak <= available, max_rows(config.model, trainer, seq_len, available))


def find_change(config: RunConfig, gpus: int, gpu: Gpu) -> Change | None:
    """The first that fits of: smaller micro-batches, a chunked loss, checkpointing, splitting, more devices."""
    devices = gpus
    while devices <= MOST_DEVICES and not config.train.batch_tokens % (config.train.seq_len * devices):
        for saving in savings(config.train, devices):
            trainer = make_trainer(replace(config, train=saving), devices)
            most = max_rows(config.model, trainer, saving.seq_len, gpu.memory_gb * 1e9)
            if most:
                return Change(list(differing_words(config.train, with_rows(saving, devices, most))), devices)
        devices *= 2
    return None


def savings(train: TrainConfig, devices: int) -> Iterator[TrainConfig]:
    """From what costs no speed to what costs most."""
    shards: list[Shard] = [train.shard]
    if devices > 1 and train.shard == "ddp" and not train.shortlist:
        shards.append("fsdp")
    chunks = [train.loss_tokens] if train.loss_tokens else [0, LOSS_CHUNK]
    for shard, checkpointing, chunk in product(shards, sorted({train.checkpointing, True}), chunks):
        yield replace(train, shard=shard, checkpointing=checkpointing, loss_tokens=chunk)


def with_rows(train: TrainConfig, devices: int, most: int) -> TrainConfig:
    """Its own micro-batches, or the largest that divide a device's share and have no more rows than `most`."""
    share = train.batch_tokens // train.seq_len // devices
    rows = min(share, max(1, train.micro_tokens // train.seq_len)) if train.micro_tokens else share
    if rows <= most and share % rows == 0:
        return train
    rows = next(rows for rows in range(min(share, most), 0, -1) if share % rows == 0)
    return replace(train, micro_tokens=rows * train.seq_len)


def differing_words(before: TrainConfig, after: TrainConfig) -> Iterator[str]:
    for name in ("shard", "checkpointing", "loss_tokens", "micro_tokens"):
        value = getattr(after, name)
        if value != getattr(before, name):
            yield f"train.{name}={str(value).lower()}"
