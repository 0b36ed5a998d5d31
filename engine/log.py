"""What a run leaves to read: train.log for people, metrics.jsonl for programs, one live line on a terminal.

`train.log` begins with everything needed to run it again; `metrics.jsonl` has one object a line, written at once.
"""

import json
import math
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from base.files import atomic_file
from base.run_folder import LOG, METRICS, RESULT
from engine.clock import Clock
from engine.device import Device
from engine.plot import plot_losses

PLAIN_EVERY_S = 10.0


def environment(device: Device) -> dict[str, Any]:
    """Where a run runs, for its log and its result."""
    return {
        "device": device.describe(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "peak_memory_bytes": device.peak_memory_bytes(),
    }


def provenance(where: dict[str, Any], compiled: bool, sources_sha256: str, hashes: dict[str, str]) -> str:
    """The lines of the log's head that follow the config: what runs, where, on what."""
    return (
        f"python {where['python']}, torch {where['torch']}, on {where['device']}, "
        f"torch.compile {'on' if compiled else 'off'}\nsources {sources_sha256}\n"
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
    clock: Clock, loss: float, bytes_per_token: float, tokens_per_s: float, flops_per_token: int, device: Device
) -> str:
    """Where the run stands; utilisation where the device's peak is known, its FLOP/s elsewhere.

    The bits a byte are the training batch's, at the whole corpus' bytes a token.
    """
    speed, peak = tokens_per_s * flops_per_token / device.ranks, device.peak_flops()
    used = f"mfu {speed / peak:.1%}" if peak else f"{speed / 1e9:,.0f} GFLOP/s a rank"
    progress, bpb = clock.progress(), loss / math.log(2) / bytes_per_token
    left_s = clock.elapsed_s / max(progress, 1e-9) * (1 - progress)
    return (
        f"step {clock.step} {progress:6.1%} loss {loss:.4f} bpb {bpb:.3f} "
        f"{tokens_per_s:,.0f} tok/s {used} left {left_s:.0f} s"
    )


class RunLog:
    """Writes only where `folder` is given: other ranks keep silent."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._last_line = 0.0

    def begin(self) -> None:
        """Nothing is kept of a run that was stopped before its first checkpoint."""
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
        """The score of the current weights during the run, without overlap."""
        self.metrics(step=clock.step, elapsed_s=clock.elapsed_s, val_bpb=bpb)
        self.say(f"step {clock.step} val_bpb:{bpb:.4f} (no overlap, current weights)")

    def finish(self, answer: dict[str, Any]) -> dict[str, Any]:
        """With the result beside it the run is finished."""
        if self._folder is not None:
            plot_losses(self._folder)
            atomic_file(self._folder / RESULT, (json.dumps(answer, indent=1) + "\n").encode())
        return answer

    def truncate_metrics(self, step: int) -> None:
        """Forget what was measured after `step`: a resumed run will measure it again."""
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
        """The live line; off a terminal, one plain line every few seconds."""
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
