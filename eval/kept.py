"""The finished part of a long score in a file beside its answer, so that the same command after a kill scores the rest.

    kept = Kept(answer, "artifact 1f3a… of text 90bc… by Protocol(…)", device)     all ranks together
    score(model, dataset, protocol, device, begun=kept.begun)                      writes it on the way
    kept.remove()                                                                  once the answer is written

The file, ANSWER.HASH.partial, is replaced atomically; any number of ranks may go on with it. A score of another
artifact, text, protocol or code has a file of its own; one that is never finished stays, to be deleted by hand.
"""

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

from base.errors import BadInput
from base.files import read_json_object, write_json
from engine.device import Device, from_main
from eval.batches import Floats
from eval.score import Begun


class Kept:
    def __init__(self, answer: Path, identity: str, device: Device) -> None:
        digest = hashlib.sha256(identity.encode()).hexdigest()
        self._path = path = answer.with_name(f"{answer.name}.{digest[:12]}.partial")
        self._identity = identity
        self._main = device.main
        found: dict[str, Any] = {}
        if device.main and path.exists():
            try:
                found = read_json_object(path.read_text("utf-8", "replace"), str(path))
            except BadInput as error:
                print(f"{error}: beginning anew", file=sys.stderr)
        found = from_main(found, device)
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
            progress = {"identity": self._identity, "targets": targets, "seconds": self.seconds, "block_nats": sums}
            write_json(self._path, progress)

    def remove(self) -> None:
        if self._main:
            self._path.unlink(missing_ok=True)
