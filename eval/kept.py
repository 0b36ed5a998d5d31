"""The finished part of a long score in a file beside its answer, so that the same command after a kill scores the rest.

    kept = Kept(path, "artifact 1f3a… of text 90bc… by Protocol(…)", device)       all ranks together
    score(model, dataset, protocol, device, begun=kept.begun)                      writes it on the way
    kept.remove()                                                                  once the answer is written

The file is replaced atomically; any number of ranks may go on with it. What is of another artifact, text or protocol
does not count.
"""

import sys
import time
from pathlib import Path
from typing import Any

from base.files import read_json_object, write_json
from engine.device import Device, gather
from eval.batches import Floats
from eval.score import Begun


class Kept:
    def __init__(self, path: Path, of: str, device: Device) -> None:
        self._path = path
        self._of = of
        self._main = device.main
        found: dict[str, Any] = {}
        if device.main and path.exists():
            found = read_json_object(path.read_text(), str(path))
            if found.get("of") != of:
                print(f"{path} is of another artifact, text or protocol: beginning anew", file=sys.stderr)
                found = {}
        found = gather(found, device)[0]
        self.begun = Begun(found.get("targets", 0), found.get("block_nats", []), self._write)
        self._begun_s: float = time.perf_counter() - found.get("seconds", 0.0)
        if found and device.main:
            print(f"{path}: going on after {self.begun.targets:,} targets", file=sys.stderr)

    @property
    def seconds(self) -> float:
        """Of scoring, those before a kill included."""
        return time.perf_counter() - self._begun_s

    def _write(self, targets: int, block_nats: Floats) -> None:
        if self._main:
            sums = block_nats.tolist()
            write_json(self._path, {"of": self._of, "targets": targets, "seconds": self.seconds, "block_nats": sums})

    def remove(self) -> None:
        if self._main:
            self._path.unlink(missing_ok=True)
