"""A run's dataset, made where it does not exist yet.

The trainer and the single file of a submission import this, and nothing that reads corpora or trains tokenizers:
data.prep is imported only when it is needed, and a single file does not hold it.
"""

import importlib
from pathlib import Path

from base.errors import BadInput
from data.config import DataConfig
from data.manifest import MANIFEST


def ensure_dataset(config: DataConfig, vocab: int) -> None:
    """Where there is no dataset yet and a source is named, make it from that with data.prep's defaults."""
    out = Path(config.path)
    if not config.source or (out / MANIFEST).is_file():
        return
    try:
        prep = importlib.import_module("data.prep")
    except ModuleNotFoundError:
        made_by = f"python -m data.prep {config.source} --vocab {vocab} --transform {config.transform} --out {out}"
        raise BadInput(f"{out}: not a dataset, and this file cannot make one; in the repository: {made_by}") from None
    prep.build_dataset(prep.open_corpus(config.source), prep.Recipe(vocab=vocab, transform=config.transform), out)
