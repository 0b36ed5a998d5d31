"""Everything that changes during a run: model, optimizers, data position, clock, average; a step, a save, a score.

    training = Training(config, dataset, device)
    training.resume(saver)                           whether there was a checkpoint
    training.prime()                                 compile and warm up, outside the clock
    report = training.step(progress)                 of the step before: the loop is train_gpt.py's
    report = training.finish_step()                  of the last one

All ranks of a run hold one, and call its methods together.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from base.config import to_dict
from data.dataset import Dataset
from data.loader import Loader
from data.shortlist import Drawn, Shortlist
from engine.clock import Clock
from engine.config import SMOOTH_STEPS, micro_rows
from engine.device import Device, Readback, get_random_state, restore_random_state
from engine.gradients import Gradients
from engine.saver import Saver, load_checkpoint
from engine.shard import make_placer
from eval.config import PLAIN, AdaptConfig
from eval.metric import Score
from eval.protocol import Protocol
from eval.score import score
from model.gpt import GPT, learning_kind
from optim.average import Average
from optim.groups import build_optimizers, set_rates, warm_up
from optim.muon import Muon
from quant.unpack import attach_table
from run_config import RunConfig


class StepReport(NamedTuple):
    step: int
    progress: float  # of the run, when the step began
    elapsed_s: float
    loss: float  # over all ranks
    smooth_loss: float
    grad_norm: float
    step_s: float  # since the report before


class Training:
    def __init__(self, config: RunConfig, dataset: Dataset, device: Device) -> None:
        self.config = config
        self.dataset = dataset
        self.device = device
        config.eval.adapt.require_possible(len(dataset.val) - 1, device.ranks, docs=False)
        self.rows, self.micro_batches = micro_rows(config.train, device.ranks)
        torch.manual_seed(config.seed)
        place = make_placer(config.train.shard, device, config.train.replicate)
        self.model = attach_table(GPT(config.model, made=place), dataset.tokenizer)
        place(self.model)
        self.model.checkpointing = config.train.checkpointing
        if not device.main:  # all ranks start with the same weights and draw their own dropout
            torch.manual_seed(config.seed + device.rank)
        kinds = [(parameter, learning_kind(name, parameter)) for name, parameter in self.model.named_parameters()]
        self.named = dict(self.model.named_parameters())
        self.weights = list(self.named.values())
        self.is_compiled = config.train.compiled(device.torch.type)
        self.optimizers = build_optimizers(kinds, config.optim, self.is_compiled)
        self.random = f"random.{device.rank}."  # what this rank's generators are called in checkpoints
        self.loader = Loader(
            dataset.train,
            config.data.order,
            config.train.seq_len,
            self.rows,
            config.seed,
            dataset.manifest.data_sha256("train"),
            device.rank,
            device.ranks,
            pinned=device.torch.type == "cuda",
        )
        self.gradients = Gradients(self.weights, device)
        self.unread: tuple[int, float, Readback] | None = None  # step, progress and numbers of the last step
        self.clock = Clock(config.train.seconds, config.train.steps, config.train.reserve_s)
        self.average = Average(config.average.decay if config.average.kind == "ema" else None)
        self.context = config.eval.window(config.train.seq_len)
        self.validated = 0.0  # progress at the last validation during the run
        self.smooth_loss = 0.0
        self.reported_s = 0.0  # on the clock, when a step was reported last
        # FSDP2's hooks are not part of a graph.
        compiled = partial(torch.compile, dynamic=False, fullgraph=config.train.shard != "fsdp")
        self.losses = compiled(self._losses) if self.is_compiled else self._losses
        self.shortlist: Shortlist | None = None
        if config.train.shortlist:
            seed = config.seed * device.ranks + device.rank
            self.shortlist = Shortlist(dataset.train, config.model.vocab_size, config.train.shortlist, seed)
        short = self.model.shortlist_loss
        self.short_losses = compiled(short) if self.is_compiled else short

    def _losses(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.model.loss(tokens, targets, self.config.train.loss_tokens)

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor, drawn: Drawn | None) -> torch.Tensor:
        """Of a micro-batch, (B, T) on the CPU, over all tokens or over those that were drawn."""
        inputs = (tokens, targets) if drawn is None else (tokens, *drawn)
        losses = self.losses if drawn is None else self.short_losses
        there = [t.to(self.device.torch, non_blocking=True) for t in inputs]
        with self.device.autocast():
            return losses(*(t.long() if t.dtype == torch.uint16 else t for t in there))

    def step(self, progress: float) -> StepReport | None:
        """Take one optimizer step and report it; on a device with a queue, the one before it, which is done by then.

        So the host never waits for the step that it has just queued, and the device always has work.
        """
        self.clock.start()
        set_rates(self.optimizers, self.config.optim, progress, self.clock.step)
        self.model.order = self.config.model.order(progress)
        losses = []
        for number in range(self.micro_batches):
            tokens, targets = self.loader.next_batch()
            drawn = None
            if self.shortlist is not None and progress < self.config.train.shortlist_until:
                drawn = self.shortlist.draw(targets, self.clock.step * self.micro_batches + number)
            self.gradients.is_last = number == self.micro_batches - 1
            if isinstance(self.model, FSDPModule):  # of split weights, replicas meet once a step as well
                self.model.set_requires_all_reduce(self.gradients.is_last)
            loss = self.loss(tokens, targets, drawn) / self.micro_batches
            torch.autograd.backward(loss)
            losses.append(loss.detach())
        self.gradients.average()
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.config.optim.clip or math.inf)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average.follow(self.config.average, self.weights, progress)
        self.clock.step += 1
        before = self.unread
        self.unread = self.clock.step, progress, self._read_back(torch.stack(losses).sum(), norm)
        if not self.device.has_queue:
            return self.finish_step()
        return self._report(*before) if before is not None else None

    def _read_back(self, loss: torch.Tensor, norm: torch.Tensor) -> Readback:
        if self.device.ranks > 1:
            loss /= self.device.ranks
            dist.all_reduce(loss)
        return Readback(torch.stack([loss, norm.full_tensor() if isinstance(norm, DTensor) else norm]))

    def finish_step(self) -> StepReport | None:
        """Wait for the step that is under way, stop the clock, and report it; None: there is none."""
        if self.unread is None:
            return None
        unread, self.unread = self.unread, None
        unread[2].read()
        self.clock.stop()
        return self._report(*unread)

    def _report(self, step: int, progress: float, numbers: Readback) -> StepReport:
        loss, norm = numbers.read().tolist()
        self.smooth_loss += (loss - self.smooth_loss) / min(step, SMOOTH_STEPS)
        elapsed_s = self.clock.elapsed_s
        step_s = elapsed_s - self.reported_s
        self.reported_s = elapsed_s
        return StepReport(step, progress, elapsed_s, loss, self.smooth_loss, norm, step_s)

    def prime(self) -> None:
        """Compile and warm up on random tokens, outside the clock: no weight, no state and no data position moves."""
        self.model.prepare(max(self.config.train.seq_len, self.context))
        shape = (2, self.rows, self.config.train.seq_len)
        draw = torch.Generator().manual_seed(0)
        random = torch.randint(self.config.model.vocab_size, shape, generator=draw)
        self.gradients.is_last = False
        with torch.random.fork_rng([self.device.torch] if self.device.torch.type == "cuda" else []):
            for progress in (0.0, 1.0):  # with loops off and on
                self.model.order = self.config.model.order(progress)
                # Two tensors: one tensor in both places would compile again later.
                torch.autograd.backward(self.loss(random[0].clone(), random[1].clone(), None))
                if self.shortlist is not None:
                    drawn = self.shortlist.draw(torch.zeros_like(random[1]), 0)
                    torch.autograd.backward(self.loss(random[0], random[1], drawn))
        for weight in self.weights:
            weight.grad = None
        warm_up(self.config.optim, self.device.torch)
        for optimizer in self.optimizers:
            if isinstance(optimizer, Muon):
                optimizer.warm_up()
        self.device.synchronize()

    def release(self) -> None:
        """Free what only training needs."""
        self.optimizers.clear()
        self.average.sums.clear()

    def is_validation_due(self, progress: float) -> bool:
        share = self.config.eval.during
        return share > 0 and int(progress / share) > int(self.validated / share)

    def score(self, stride: int, model: GPT | None = None, adapt: AdaptConfig = PLAIN) -> Score:
        """The validation side under `model`, or under the current weights, all ranks together."""
        scored = model or self.model
        is_compiled = False if self.config.train.compile == "off" else None  # None: where it saves time
        precision = self.device.precision(self.config.eval.precision)
        batch_tokens = self.config.eval.batch_tokens
        protocol = Protocol(self.context, stride, False, adapt, precision, batch_tokens, is_compiled)
        order = scored.order
        scored.order = self.config.model.order()
        found = score(scored, self.dataset, protocol, self.device)
        scored.order = order
        return found

    def states(self) -> dict[str, dict[str, torch.Tensor]]:
        """What the optimizers keep of each weight; empty before the first step."""
        groups = [(optimizer.state, group) for optimizer in self.optimizers for group in optimizer.param_groups]
        of_weight = {weight: state[weight] for state, group in groups for weight in group["params"]}
        return {name: of_weight[weight] for name, weight in self.named.items()}

    def plain(self) -> dict[str, Any]:
        """With `tensors`, everything that a run resumes from."""
        return {
            "config": to_dict(self.config),
            "validated": self.validated,
            "smooth_loss": self.smooth_loss,
            "clock": self.clock.state_dict(),
            "data": self.loader.state_dict(),
            "average": self.average.count,
        }

    def tensors(self) -> dict[str, torch.Tensor]:
        """As this rank holds them."""
        found = {f"weights.{name}": weight for name, weight in self.model.state_dict().items()}
        found |= {f"{self.random}{kind}": state for kind, state in get_random_state(self.device.torch).items()}
        found |= {f"average.{name}": each for name, each in zip(self.named, self.average.sums, strict=False)}
        for name, slots in self.states().items():
            found |= {f"state.{name}.{slot}": value for slot, value in slots.items()}
        return found

    def save(self, saver: Saver) -> None:
        saver.save(self.clock.step, self.plain(), self.tensors())

    def resume(self, saver: Saver) -> bool:
        """Whether there was a checkpoint. Each rank reads what it is to hold, wherever that was saved."""
        path = saver.find_latest()
        if path is None:
            return False

        def choose(name: str, size: torch.Size, dtype: torch.dtype) -> torch.Tensor | None:
            kind, _, rest = name.partition(".")
            if kind == "random":  # a rank that was added keeps its own seed
                return torch.empty(size, dtype=dtype) if name.startswith(self.random) else None
            weight = self.named[rest if kind == "average" else rest.rpartition(".")[0]]
            return torch.empty_like(weight) if size else torch.empty(size, dtype=dtype, device=weight.device)

        weights = {f"weights.{name}": weight for name, weight in self.model.state_dict().items()}
        plain, found = load_checkpoint(path, weights, choose)
        states = self.states()
        for name, value in found.items():
            if name.startswith("state."):
                weight, _, slot = name.removeprefix("state.").rpartition(".")
                states[weight][slot] = value
        self.average.count = plain["average"]
        self.average.sums = [found[f"average.{name}"] for name in self.named] if self.average.count else []
        self.validated = plain["validated"]
        self.smooth_loss = plain["smooth_loss"]
        self.clock.load_state_dict(plain["clock"])
        self.reported_s = self.clock.elapsed_s
        self.loader.load_state_dict(plain["data"])
        random = {name.removeprefix(self.random): v for name, v in found.items() if name.startswith(self.random)}
        restore_random_state(random, self.device.torch)
        return True
