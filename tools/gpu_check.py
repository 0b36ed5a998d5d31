"""Measure what only a GPU can show: the step, document masks, scoring, packing and ranks, on this machine's GPUs.

    python -m tools.gpu_check                          (golf465, some minutes of one GPU; docs/gpu.md and docs/gpu.json)
    python -m tools.gpu_check --cpu -o /tmp/check.md   (every part at a small size, as the tests run it)

Trains on the standard library, so that nothing has to be downloaded: speeds are those of any text, scores are not. A
part that fails is reported as such, and the others run; exit code 1 where a figure is out of its bounds. The part about
ranks: tools/gpu_ranks.py.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import torch

from base.cli import OneLineParser, command, run
from base.config import load, to_dict
from base.errors import BadInput, CheckFailed
from base.files import atomic_file, read_json_object, require_folder_of
from base.precision import Precision
from base.run_folder import METRICS, read_metrics
from data.contest import SCORED_TOKENS
from data.dataset import Dataset, open_dataset
from data.ensure import ensure_dataset
from engine.device import Device, joined
from engine.log import RunLog
from engine.nodes import Sharers
from engine.saver import Saver
from eval.protocol import Protocol
from eval.score import score
from model.cost import flops_per_token
from model.gpt import GPT
from model.memory import Trainer, peak_bytes, training_parts
from quant.config import QuantConfig
from quant.packer import Packer
from run_config import RunConfig
from train_gpt import train
from training import Training

CONFIG = "configs/golf465.yaml"
RUN = [
    "data.path=data/datasets/stdlib", "data.source=stdlib", "train.seconds=0", "train.steps=12", "train.checkpoint_s=0",
    "eval.during=0",
]  # fmt: skip
SMALL = [
    "model.dim=64", "model.layers=2", "model.heads=2", "model.kv_heads=1", "model.hidden=128", "train.seq_len=64",
    "train.batch_tokens=512", "train.micro_tokens=256", "train.compile=off", "eval.context=64", "eval.stride=16",
]  # fmt: skip
TARGETS = 1_000_000  # to score; on a CPU 2,000
FINEWEB_TARGETS = SCORED_TOKENS["sp1024"]
LIMIT_S = 480.0  # no part begins after it
RANKS_S = 180.0  # for each of the two jobs of ranks
RANKS = Path(__file__).with_name("gpu_ranks.py")


@dataclass(frozen=True)
class Row:
    what: str
    figure: float | str  # text: why there is none
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool:
        if isinstance(self.figure, str):
            return False
        least = -math.inf if self.at_least is None else self.at_least
        most = math.inf if self.at_most is None else self.at_most
        return least <= self.figure <= most

    def bounds(self) -> str:
        sides = ((">=", self.at_least), ("<=", self.at_most))
        return ", ".join(f"{sign} {bound:g}" for sign, bound in sides if bound is not None)


@dataclass(frozen=True)
class Check:
    machine: str
    rows: list[Row]
    seconds: float


@dataclass
class Bench:
    """What the parts share; `trained` is the first part's model."""

    config: RunConfig
    dataset: Dataset
    device: Device
    trained: GPT | None = None
    step_s: float = math.nan

    @property
    def is_gpu(self) -> bool:
        return self.device.torch.type == "cuda"

    def on_gpu(self, bound: float) -> float | None:
        """A bound that a CPU's small form does not have."""
        return bound if self.is_gpu else None

    @property
    def model(self) -> GPT:
        if self.trained is None:
            raise CheckFailed("the step failed, so there is no model")
        return self.trained


def check_step(bench: Bench) -> Iterator[Row]:
    train = bench.config.train
    training, prime_s, step_s, losses = train_steps(bench, bench.config)
    bench.trained, bench.step_s = training.model, step_s
    yield Row("compile and warm up", prime_s, "s")
    yield Row(f"a step of {train.batch_tokens:,} tokens", 1000 * step_s, "ms")
    tokens_per_s = train.batch_tokens / step_s
    yield Row("training", tokens_per_s, "tokens/s")
    rate = tokens_per_s * flops_per_token(bench.config.model, train.seq_len)
    peak = bench.device.peak_flops()
    yield Row("of the device's peak", 100 * rate / peak, "%") if peak else Row("training", rate / 1e9, "GFLOP/s")
    yield Row("loss after these steps, less the first's", losses[-1] - losses[0], "nats", at_most=0)
    trainer = Trainer(average=bench.config.average.kind != "off", mixed=bench.is_gpu)
    planned = peak_bytes(training_parts(bench.config.model, trainer, training.rows, train.seq_len))
    yield Row("peak memory, planned", planned / 1e9, "GB")
    if bench.is_gpu:
        share = 100 * bench.device.peak_memory_bytes() / planned
        yield Row("peak memory, measured of planned", share, "%", at_least=75, at_most=125)


def train_steps(bench: Bench, config: RunConfig) -> tuple[Training, float, float, list[float]]:
    """The training after some steps of the run's own loop, seconds of its start, of the median step, and the losses."""
    training = Training(config, bench.dataset, bench.device)
    begun_s = time.perf_counter()
    training.prime()
    prime_s = time.perf_counter() - begun_s
    with tempfile.TemporaryDirectory() as folder:
        train(training, RunLog(Path(folder)), Saver(Path(folder), Sharers(), bench.device), [])
        rows = read_metrics((Path(folder) / METRICS).read_text(), METRICS)
    return training, prime_s, statistics.median(row["step_s"] for row in rows[2:]), [row["loss"] for row in rows]


def check_masks(bench: Bench) -> Iterator[Row]:
    """Attention within documents: the same gradients by both masks, at the speed of attention without."""
    model = replace(bench.config.model, doc_mask=True)
    training, _, step_s, _ = train_steps(bench, replace(bench.config, model=model))
    share = 100 * step_s / bench.step_s
    yield Row("a step with document masks, of one without", share, "%", at_most=bench.on_gpu(110))
    tokens, targets = (rows[:2].to(bench.device.torch).long() for rows in training.loader.next_batch())
    slopes = []
    for loss in (training.losses, training.model.loss):  # compiled with block masks, plain with boolean ones
        training.model.zero_grad()
        torch.autograd.backward(loss(tokens, targets))
        slopes.append(torch.cat([w.grad.flatten() for w in training.weights if w.grad is not None]))
    off = float((slopes[0] - slopes[1]).norm() / slopes[1].norm())
    yield Row("gradients by block masks, off those by boolean ones", off, "relative", at_most=1e-3)


def check_score(bench: Bench) -> Iterator[Row]:
    config = bench.config.eval
    limit = min(TARGETS if bench.is_gpu else 2_000, len(bench.dataset.val) - 1)
    found = {}
    for precision in get_args(Precision):
        protocol = Protocol(config.window(bench.config.train.seq_len), config.stride, precision=precision)
        begun_s = time.perf_counter()
        found[precision] = score(bench.model, bench.dataset, protocol, bench.device, limit).bpb
        speed = limit / (time.perf_counter() - begun_s)
        yield Row(f"score in {precision}", found[precision], "bits per byte")
        yield Row(f"scoring in {precision}", speed, "targets/s")
    yield Row("bf16 off fp32", abs(found["bf16"] / found["fp32"] - 1), "relative", at_most=1e-3)
    if bench.is_gpu:
        yield Row("FineWeb's side at the last speed on eight devices", FINEWEB_TARGETS / speed / 8, "s", at_most=90)


def check_pack(bench: Bench) -> Iterator[Row]:
    weights = sum(parameter.numel() for parameter in bench.model.parameters())
    quant = QuantConfig(method="rate", codec="best")
    begun_s = time.perf_counter()
    packed = Packer(bench.model, to_dict(bench.config), bench.dataset).pack(quant)
    yield Row(f"pack of {weights / 1e6:.1f} M weights by rate", time.perf_counter() - begun_s, "s")
    fitting = replace(quant, cap_bytes=packed.size_bytes * 4 // 5)
    begun_s = time.perf_counter()
    fitted = Packer(bench.model, to_dict(bench.config), bench.dataset).pack(fitting)  # measures again, as a run's end
    yield Row("fit to four fifths of its bytes", time.perf_counter() - begun_s, "s", at_most=bench.on_gpu(60))
    yield Row("bytes of that cap", 100 * fitted.size_bytes / fitting.cap_bytes, "%", at_most=100)


def check_ranks(bench: Bench) -> Iterator[Row]:
    ranks = torch.cuda.device_count() if bench.is_gpu else 2
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", str(RANKS)]
    torchrun += [] if bench.is_gpu else ["--cpu"]
    done = subprocess.run(torchrun, capture_output=True, text=True, timeout=RANKS_S)
    if done.returncode:
        raise CheckFailed(f"exit code {done.returncode}: {last_line(done.stderr)}")
    for what, off in read_json_object(done.stdout, RANKS.name).items():
        yield Row(f"{what}, {ranks} ranks, off one process", off, "relative", at_most=1e-2)
    failed = subprocess.run([*torchrun, "--fail"], capture_output=True, text=True, timeout=RANKS_S)
    yield Row("exit code of a job whose last rank raises an exception", failed.returncode, at_least=1, at_most=1)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:200]


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "step": check_step, "masks": check_masks, "score": check_score, "pack": check_pack, "ranks": check_ranks,
}  # fmt: skip


def run_part(name: str, bench: Bench, begun_s: float) -> Iterator[Row]:
    if time.monotonic() - begun_s > LIMIT_S:
        yield Row(name, f"not begun: {LIMIT_S / 60:g} minutes are over")
        return
    print(f"{name} …", flush=True)
    try:
        yield from PARTS[name](bench)
    except Exception as error:  # whatever a GPU's libraries raise: the other parts have figures, too
        yield Row(name, f"{type(error).__name__}: {last_line(str(error))}")


def act(args: argparse.Namespace) -> Check:
    output = Path(args.output)
    if output.suffix != ".md":
        raise BadInput(f"{output}: name a file that ends in .md; the JSON is written beside it")
    require_folder_of(str(output))
    begun_s = time.monotonic()
    config: RunConfig = load(RunConfig, CONFIG, [*RUN, *(SMALL if args.cpu else [])])
    with joined() as device:
        if args.cpu:
            device = Device(torch.device("cpu"))  # noqa: PLW2901
        elif device.torch.type != "cuda":
            raise BadInput(f"this machine has no CUDA device, only {device.describe()}; --cpu runs every part small")
        ensure_dataset(config.data, config.model.vocab_size)
        bench = Bench(config, open_dataset(config.data.path), device)
        rows = [row for name in PARTS for row in run_part(name, bench, begun_s)]
        check = Check(describe_machine(device), rows, time.monotonic() - begun_s)
    atomic_file(output, show(check).encode())
    atomic_file(output.with_suffix(".json"), (json.dumps(asdict(check), indent=1) + "\n").encode())
    broken = [row.what for row in rows if not row.holds]
    if broken:
        raise CheckFailed(f"{len(broken)} of {len(rows)} figures are out of bounds: {'; '.join(broken)}", check)
    return check


def describe_machine(device: Device) -> str:
    versions = f"torch {torch.__version__}, python {platform.python_version()}"
    cuda = f", CUDA {torch.version.cuda}" if torch.version.cuda else ""
    return f"{device.describe()}, {device.kernel}; {versions}{cuda}; {platform.platform()}"


def show(check: Check) -> str:
    lines = ["# On a GPU", "", f"`python -m tools.gpu_check`, {check.seconds:.0f} s: {check.machine}.", ""]
    lines += ["| | measured | bounds | |", "|---|---|---|---|"]
    for row in check.rows:
        figure = row.figure if isinstance(row.figure, str) else f"{row.figure:,.4g}"
        verdict = ("holds" if row.bounds() else "") if row.holds else "**out of bounds**"
        lines.append(f"| {row.what} | {figure} {row.unit} | {row.bounds()} | {verdict} |")
    return "\n".join(lines) + "\n"


def parser() -> OneLineParser:
    flags = command("tools.gpu_check", __doc__ or "")
    flags.add_argument("--cpu", action="store_true", help="every part at a small size, without a GPU")
    flags.add_argument("-o", "--output", metavar="FILE.md", default="docs/gpu.md", help="default: %(default)s")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
