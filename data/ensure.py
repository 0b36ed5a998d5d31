"""A run's dataset, made where it is not there yet: by `python -m data.prep` in a process of its own.

So nothing that reads corpora and trains tokenizers is in the trainer's process. A single file has no such command: it
names it.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from base.errors import BadInput
from base.source import bundled
from data.manifest import MANIFEST


def ensure_dataset(source: str, vocab: int, out: Path) -> None:
    """With data.prep's defaults, unless there is one: for a run that names its source."""
    if (out / MANIFEST).is_file():
        return
    if bundled() is not None:
        made = f"python -m data.prep {source} --vocab {vocab} --out {out}"
        raise BadInput(f"{out}: no dataset is there, and a single file makes none; in the repository: {made}")
    spec = find_spec("data")
    if spec is None or spec.origin is None:
        raise BadInput(f"{out}: no dataset is there, and data.prep is not to be found; run this from the repository")
    words = ["-m", "data.prep", source, "--vocab", str(vocab), "--out", str(out)]
    found = {**os.environ, "PYTHONPATH": str(Path(spec.origin).parents[1])}  # wherever this process stands
    done = subprocess.run([sys.executable, *words], stdout=sys.stderr.fileno(), env=found)
    if done.returncode:
        raise BadInput(f"{out}: data.prep could not make it from {source} (exit code {done.returncode}, said above)")
