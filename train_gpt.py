"""The whole run, readable top to bottom: config, data, model, loop, average, pack, score.

    python train_gpt.py                                         (configs/demo.yaml: about two minutes on two cores)
    python train_gpt.py configs/cpu10.yaml train.seconds=60     (section.key=value overrides)
    torchrun --nproc_per_node=8 train_gpt.py configs/golf465.yaml
    python train_gpt.py configs/d52.yaml --dry-run              (sizes and schedule; needs no data and no weights)
    python train_gpt.py --score model.golf --data DIR           (an artifact under its own rule; trains nothing)

A run lives in runs/NAME. The same command again goes on with a run that was killed, bit for bit where the budget is in
steps; after a finished one, or under another config, it begins a new folder.
"""

import argparse
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.config import load, to_dict, to_yaml
from base.files import atomic_file
from base.run_folder import ARTIFACT, CHECKPOINT, MODEL, new_or_unfinished
from base.source import OWN_CONFIG, OWN_NAME, OWN_SHA256, code_bytes, sources_sha256
from data.dataset import Dataset, open_dataset
from data.ensure import ensure_dataset
from data.loader import DataConfig, Loader
from engine.checkpoint import (
    diverged,
    load_checkpoint,
    load_weights,
    random_state,
    restore_random,
    save_checkpoint,
)
from engine.clock import Clock
from engine.config import TrainConfig, micro_rows
from engine.device import Device, agree, as_rank, average_gradients, gather, joined, mean, memory_told
from engine.log import RunLog, environment, live_line, packed_lines, provenance, scored_line, trained_line
from engine.shard import gathered, placer, spread, spread_optimizer, value, whole
from engine.stopping import sigterm
from eval.metric import Score
from eval.own import own_score
from eval.score import EvalConfig, score_tokens, total
from model.config import ModelConfig
from model.cost import flops_per_token, parameters
from model.gpt import GPT, parameter_kind
from model.memory import Trainer, summary
from optim.average import Average, AverageConfig
from optim.groups import OptimConfig, build_optimizers, multiplier, set_rates, warm_up
from quant.config import QuantConfig
from quant.packer import Packer
from quant.unpack import open_artifact

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


class Training:
    """Everything that moves during a run, and how to save it and put it back."""

    def __init__(self, config: RunConfig, dataset: Dataset, device: Device) -> None:
        self.config, self.dataset, self.device = config, dataset, device
        torch.manual_seed(config.seed)
        place = placer(config.train.shard, device)
        self.model = GPT(config.model, made=place)
        place(self.model)
        self.model.checkpointing = config.train.checkpointing
        if not device.main:
            torch.manual_seed(config.seed + device.rank)  # one start for all, and dropout of its own on each
        kinds = [(parameter, parameter_kind(name, parameter)) for name, parameter in self.model.named_parameters()]
        self.weights = [parameter for parameter, _ in kinds]
        self.optimizers = build_optimizers(kinds, config.optim)
        self.rows, self.micro_batches = micro_rows(config.train, device.ranks)
        self.loader = Loader(
            dataset.train, config.data.order, config.train.seq_len, self.rows, config.seed,
            dataset.manifest.data_sha256("train"), device.rank, device.ranks,
        )  # fmt: skip
        self.clock = Clock(config.train.seconds, config.train.steps, config.train.reserve_s)
        self.average = Average(config.average.decay if config.average.kind == "ema" else None)
        self.context = config.eval.window(config.train.seq_len)
        self.validated = 0.0  # progress at the last validation during the run
        self.losses = torch.compile(self._losses) if config.train.compiled(device.torch.type) else self._losses

    def _losses(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.model.loss(tokens, targets, self.config.train.loss_tokens)

    def step(self, progress: float) -> tuple[float, float]:
        """One optimizer step; returns the loss over all ranks and the gradient's norm."""
        set_rates(self.optimizers, self.config.optim, progress)
        self.model.order = self.config.model.order(progress)
        total = 0.0
        for _ in range(self.micro_batches):
            tokens, targets = (t.to(self.device.torch, non_blocking=True) for t in self.loader.next_batch())
            with self.device.autocast():
                loss = self.losses(tokens, targets) / self.micro_batches
            torch.autograd.backward(loss)
            total += float(loss.detach())
        average_gradients(self.weights, self.device)
        total, clip = mean(total, self.device), self.config.optim.clip or math.inf
        norm = value(torch.nn.utils.clip_grad_norm_(self.weights, clip))
        if not (math.isfinite(norm) and total < self.config.train.diverged_nats):
            return total, math.nan  # before the weights are touched
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average.follow(self.config.average, self.weights, progress)
        self.clock.step += 1
        return total, norm

    def prime(self) -> None:
        """Compile and warm up on random tokens, outside the clock: no weight, no state and no data position moves."""
        shape, draw = (2, self.rows, self.config.train.seq_len), torch.Generator().manual_seed(0)
        random = torch.randint(self.config.model.vocab_size, shape, generator=draw).to(self.device.torch)
        with torch.random.fork_rng([self.device.torch] if self.device.torch.type == "cuda" else []):
            for progress in (0.0, 1.0):  # with loops off and on
                self.model.order = self.config.model.order(progress)
                with self.device.autocast():  # two tensors: for one in both places it would be compiled anew
                    torch.autograd.backward(self.losses(random[0].clone(), random[1].clone()))
        for weight in self.weights:
            weight.grad = None
        warm_up(self.config.optim, self.device.torch)
        self.device.synchronize()

    def score(self, stride: int = 0, model: GPT | None = None) -> Score:
        """The validation side under a model, or the weights as they are, all ranks together; stride 0: no overlap."""
        model, context = model or self.model, self.context
        order, model.order = model.order, self.config.model.order()
        tokens = self.dataset.val.read(0, len(self.dataset.val))
        size, device, table = self.config.eval.batch_tokens, self.device, self.dataset.table
        compiled = False if self.config.train.compile == "off" else None  # None: where it saves time
        with whole(model):
            tally = score_tokens(
                model, tokens, table, context, stride or context, size, device.rank, device.ranks, compiled
            )
        model.order = order
        return total(tally, device)

    def state_dict(self) -> dict[str, Any]:
        """Whole tensors, on the main rank; all ranks must ask together."""
        return {
            "config": to_dict(self.config),
            "weights": gathered(self.model.state_dict()),
            "optimizers": [gathered(optimizer.state_dict()) for optimizer in self.optimizers],
            "average": gathered(self.average.state_dict()),
            "validated": self.validated,
            "clock": self.clock.state_dict(),
            "data": self.loader.state_dict(),
            "random": gather(random_state(self.device.torch), self.device),
        }

    def save(self, folder: Path | None) -> None:
        """All ranks together; the one that is given a folder writes."""
        state = self.state_dict()
        if folder is not None:
            save_checkpoint(folder, state)

    def resume(self, folder: Path) -> bool:
        """Whether there was something to go on from. What was read is not kept: it is as large as all that trains."""
        state = load_checkpoint(folder)
        if state is not None:
            self.load_state_dict(state, str(folder / CHECKPOINT))
        return state is not None

    def load_state_dict(self, state: dict[str, Any], where: str) -> None:
        load_weights(self.model, state["weights"], where)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(spread_optimizer(saved, optimizer))
        sums = [spread(total, weight) for total, weight in zip(state["average"]["sums"], self.weights, strict=False)]
        self.average.load_state_dict({**state["average"], "sums": sums})
        self.validated = state["validated"]
        self.clock.load_state_dict(state["clock"])
        self.loader.load_state_dict(state["data"])
        restore_random(state["random"], self.device.rank, self.device.torch)


def train(training: Training, log: RunLog, folder: Path | None, stopped: list[int]) -> None:
    """Until the budget is used up, or `stopped` has something in it: then it saves and ends cleanly."""
    config, clock, device = training.config, training.clock, training.device
    flops, bytes_ = flops_per_token(config.model, config.train.seq_len), training.dataset.bytes_per_token
    saved_s, during = clock.elapsed_s, config.eval.during
    # What all ranks must do together hangs on the main one's clock, and on a signal to any of them.
    while True:
        elapsed_s, ending = agree(clock.elapsed_s, len(stopped), device)
        progress = clock.progress(elapsed_s)
        if ending or elapsed_s - saved_s > config.train.checkpoint_s:
            saved_s = elapsed_s
            training.save(folder)
        if ending:
            log.say(f"SIGTERM at step {clock.step}: saved; the same command goes on from there")
            raise KeyboardInterrupt
        if progress >= 1.0:
            return
        if during and int(progress / during) > int(training.validated / during):
            training.validated = progress
            bpb = training.score().bpb
            log.validated(clock, bpb)
        begun_s = clock.elapsed_s
        with clock.running():
            loss, norm = training.step(progress)
            device.synchronize()
        took_s = clock.elapsed_s - begun_s
        if math.isnan(norm):
            raise diverged(clock.step, loss, folder)
        log.metrics(step=clock.step, elapsed_s=clock.elapsed_s, loss=loss, grad_norm=norm, step_s=took_s)
        log.progress(live_line(clock, loss, bytes_, config.train.batch_tokens / took_s, flops, device))


def act(args: argparse.Namespace) -> Answer:
    if args.score:
        with joined() as device:
            return own_score(Path(args.score), args.data, args.limit, device)
    named = bool(args.words) and "=" not in args.words[0]
    path = args.words[0] if named else None if OWN_CONFIG else DEFAULT
    config: RunConfig = load(RunConfig, path, args.words[named:])
    if args.dry_run:
        return dry_run(config)
    with joined() as device, memory_told("lower train.micro_tokens or set train.checkpointing=true"):
        return whole_run(config, args.name or (Path(path).stem if path else OWN_NAME), device)


def whole_run(config: RunConfig, name: str, device: Device) -> Answer:
    if config.data.source and device.main:
        ensure_dataset(config.data.source, config.model.vocab_size, Path(config.data.path))
    gather(0, device)  # the other ranks wait for it
    dataset = open_dataset(config.data.path)
    dataset.require(config.model.vocab_size, config.model.bos_id)
    training = Training(config, dataset, device)  # whatever it refuses leaves no folder
    clock, code, made_of = training.clock, code_bytes(None), sources_sha256()
    Packer.require(training.model, config.quant, code)
    folder = Path(gather(str(new_or_unfinished(name, to_yaml(config))) if device.main else "", device)[0])
    log, hashes = RunLog(folder if device.main else None), dataset.manifest.hashes()
    if training.resume(folder):
        log.truncate_metrics(clock.step)
        log.say(f"going on at step {clock.step}")
    else:
        log.begin()
        compiled = config.train.compiled(device.torch.type)
        log.say(to_yaml(config) + provenance(environment(device), compiled, made_of, hashes))
    training.prime()
    with sigterm() as stopped:
        train(training, log, folder if device.main else None, stopped)
    log.say(trained_line(clock, device.peak_memory_bytes()))
    training.average.swap(training.weights)
    weights = gathered(training.model.state_dict())
    if device.main:
        save_checkpoint(folder, {"config": to_dict(config), "weights": weights}, MODEL)
    score, _ = scored("pre_quant", training, log)
    how = {"seed": config.seed, "stride": config.eval.stride, "context": training.context}
    what = {"run": str(folder.resolve()), "params": sum(parameters(config.model).values()), "steps": clock.step}
    speed = clock.step * config.train.batch_tokens / clock.elapsed_s
    measured = {"train_seconds": clock.elapsed_s, "tokens_per_second": speed, **score.named("val")}
    packed = pack_and_score(training, weights, folder, code, log)
    made = {"sources_sha256": made_of, "bundle_sha256": OWN_SHA256, **environment(device)}
    return log.finish({**what, **measured, **packed, **how, **hashes, **made})


def scored(name: str, training: Training, log: RunLog, model: GPT | None = None) -> tuple[Score, float]:
    """The score as the config says, and its seconds, both logged."""
    begun_s = time.perf_counter()
    score = training.score(training.config.eval.stride, model)
    took_s = time.perf_counter() - begun_s
    log.say(scored_line(name, score.nats_per_token, score.bpb, took_s))
    return score, took_s


def packed_bytes(training: Training, weights: dict[str, torch.Tensor], code: int) -> bytes:
    """The artifact; the whole model that it is made from is gone before the next one is needed."""
    model = GPT(training.config.model)
    load_weights(model, weights, MODEL)
    packer = Packer(model.to(training.device.torch), to_dict(training.config), training.dataset)
    return packer.pack(training.config.quant, code).data


def pack_and_score(
    training: Training, weights: dict[str, torch.Tensor], folder: Path, code: int, log: RunLog
) -> Answer:
    """The artifact, and the score of what every reader of it will have."""
    device, artifact, begun_s = training.device, folder / ARTIFACT, time.perf_counter()
    if device.main:
        atomic_file(artifact, packed_bytes(training, weights, code))
    gather(0, device)  # the other ranks read it, too
    opened, packed_s = open_artifact(artifact), time.perf_counter() - begun_s
    log.say(packed_lines(opened.size_bytes, opened.sha256, packed_s, code))
    score, eval_s = scored("final", training, log, opened.model.to(device.torch))
    sizes = {"artifact_bytes": opened.size_bytes, "code_bytes": code, "total_bytes": opened.size_bytes + code}
    files = {"artifact": str(artifact.resolve()), "artifact_sha256": opened.sha256, **sizes}
    seconds = {"calibration_seconds": packed_s, "eval_seconds": eval_s}
    return {"packed_bpb": score.bpb, "packed_nats_per_token": score.nats_per_token, **files, **seconds}


def dry_run(config: RunConfig) -> Answer:
    """Sizes, groups and schedule of a run, for one rank; nothing is read, downloaded or allocated."""
    rows, micro_batches = micro_rows(config.train, 1)
    trainer = Trainer(
        muon=config.optim.matrix == "muon", average=config.average.kind != "off", mixed=torch.cuda.is_available(),
        checkpointing=config.train.checkpointing, loss_chunk=config.train.loss_tokens,
    )  # fmt: skip
    costs, tokens = summary(config.model, trainer, rows, config.train.seq_len), config.train.batch_tokens
    rates = {str(share): multiplier(config.optim, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)}
    return {**costs, "tokens_per_step": tokens, "micro_batches": micro_batches, "rate_multiplier": rates}


def parser() -> OneLineParser:
    flags = command("train_gpt", __doc__ or "")
    flags.prog = "train_gpt.py"
    flags.add_argument("words", nargs="*", metavar="CONFIG.yaml section.key=value", help=f"default: {DEFAULT}")
    flags.add_argument("--name", help="the folder in runs/ (default: the config's name)")
    flags.add_argument("--dry-run", action="store_true", help="sizes and schedule only")
    flags.add_argument("--score", metavar="ARTIFACT", help="score it under its own rule, and do nothing else")
    flags.add_argument("--data", metavar="DIR", help="with --score: the dataset (default: the artifact's own)")
    flags.add_argument("--limit", type=int, metavar="TOKENS", help="with --score: the first so many targets")
    return flags


if __name__ == "__main__":
    as_rank(lambda: run(parser(), act, show_pairs))
