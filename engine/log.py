"""What a run leaves to read: train.log for people, metrics.jsonl for programs, a live line on a terminal.

The log begins with what is needed to run it again. No program reads it: every number in it is in result.json or in
metrics.jsonl as well.
"""

import json
import math
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from base.files import atomic_file, write_json
from base.progress import PLAIN_EVERY_S
from base.run_folder import LOG, METRICS, RESULT, TrainResult
from engine.clock import Clock
from engine.device import Device
from engine.plot import plot_losses


def describe_environment(device: Device) -> dict[str, Any]:
    """The machine and the versions, by the names of TrainResult."""
    return {
        "device": device.describe(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "peak_memory_bytes": device.peak_memory_bytes(),
    }


def head_lines(device: Device, is_compiled: bool, sources_sha256: str, hashes: dict[str, str]) -> str:
    """The log's head after the config: what runs, where, on which data."""
    where = describe_environment(device)
    return (
        f"python {where['python']}, torch {where['torch']}, on {where['device']}, {device.kernel}, "
        f"torch.compile {'on' if is_compiled else 'off'}\nsources {sources_sha256}\n"
        f"data {hashes['data_sha256']} tokenizer {hashes['tokenizer_sha256']}"
    )


def trained_line(clock: Clock, peak_memory_bytes: int) -> str:
    milliseconds = 1000 * clock.elapsed_s
    return (
        f"steps {clock.step} train_time:{milliseconds:.0f}ms step_avg:{milliseconds / max(clock.step, 1):.2f}ms "
        f"peak_memory:{peak_memory_bytes >> 20}MiB"
    )


def scored_line(name: str, nats_per_token: float, bpb: float, seconds: float) -> str:
    return f"{name} val_loss:{nats_per_token:.8f} val_bpb:{bpb:.8f} eval_time:{1000 * seconds:.0f}ms"


def packed_lines(artifact_bytes: int, sha256: str, seconds: float, code_bytes: int) -> str:
    return (
        f"calibration_time:{1000 * seconds:.0f}ms artifact_bytes:{artifact_bytes} artifact_sha256:{sha256}\n"
        f"code_bytes:{code_bytes} total_bytes:{artifact_bytes + code_bytes}"
    )


def live_line(
    clock: Clock,
    step: int,
    loss: float,
    bytes_per_token: float,
    tokens_per_s: float,
    flops_per_token: int,
    device: Device,
) -> str:
    """Progress, loss and speed; utilisation where the device's peak is known, FLOP/s elsewhere.

    Bits per byte are the training batch's, at the corpus' mean bytes per token.
    """
    speed = tokens_per_s * flops_per_token / device.ranks
    peak = device.peak_flops()
    used = f"mfu {speed / peak:.1%}" if peak else f"{speed / 1e9:,.0f} GFLOP/s per rank"
    progress = clock.progress()
    bpb = loss / math.log(2) / bytes_per_token
    left_s = clock.elapsed_s / max(progress, 1e-9) * (1 - progress)
    return (
        f"step {step} {progress:6.1%} loss {loss:.4f} bpb {bpb:.3f} "
        f"{tokens_per_s:,.0f} tok/s {used} left {left_s:.0f} s"
    )


class RunLog:
    """Writes only if `folder` is given: the other ranks log nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._last_line = 0.0

    def begin(self) -> None:
        """Remove what a run left that was stopped before its first checkpoint."""
        if self._folder is not None:
            for name in (LOG, METRICS):
                (self._folder / name).unlink(missing_ok=True)

    def say(self, text: str) -> None:
        """A line for the log and for stderr."""
        if self._folder is None:
            return
        self._clear()
        print(text, file=sys.stderr, flush=True)
        with (self._folder / LOG).open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")

    def metrics(self, **values: Any) -> None:
        if self._folder is None:
            return
        with (self._folder / METRICS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")

    def validated(self, clock: Clock, bpb: float) -> None:
        """A validation during the run: the current float weights, without overlap."""
        self.metrics(step=clock.step, elapsed_s=clock.elapsed_s, float_bpb=bpb)
        self.say(f"step {clock.step} float_bpb:{bpb:.4f} (no overlap, current weights)")

    def finish(self, result: TrainResult) -> None:
        """A folder with a result is a finished run."""
        if self._folder is not None:
            plot_losses(self._folder)
            write_json(self._folder / RESULT, asdict(result))

    def truncate_metrics(self, step: int) -> None:
        """Drop the rows after `step`: the resumed run will measure them again."""
        path = self._folder / METRICS if self._folder else None
        if path is None or not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except ValueError:  # the line that a kill cut short
                break
        atomic_file(path, "".join(line + "\n" for line in kept).encode())

    def progress(self, text: str) -> None:
        """The live line on a terminal; elsewhere a plain line every few seconds."""
        if self._folder is None:
            return
        if sys.stderr.isatty():
            self._clear()
            print(text, end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._last_line > PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if sys.stderr.isatty():
            print("\r\x1b[2K", end="", file=sys.stderr)
