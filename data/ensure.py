"""A run's dataset, made where it does not exist yet.

The trainer and the single file of a submission import this, and nothing that reads corpora or trains tokenizers:
data.prep is imported only when it is needed, and a single file does not hold it.
"""

import importlib
from pathlib import Path

from base.errors import BadInput
from data.manifest import MANIFEST


def ensure_dataset(source: str, vocab: int, out: Path) -> None:
    """Unless `out` is a dataset already, make it from `source` with data.prep's defaults."""
    if (out / MANIFEST).is_file():
        return
    try:
        prep = importlib.import_module("data.prep")
    except ModuleNotFoundError:
        made_by = f"python -m data.prep {source} --vocab {vocab} --out {out}"
        raise BadInput(f"{out}: not a dataset, and this file cannot make one; in the repository: {made_by}") from None
    prep.build_dataset(prep.open_corpus(source), prep.Recipe(vocab=vocab), out)
