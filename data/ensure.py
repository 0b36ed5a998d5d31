"""A run's dataset, made where it does not exist yet and the config names a source.

The trainer and the single file of a submission import this, and nothing that reads corpora or trains tokenizers:
data.prep is imported only when it is needed, and a single file does not hold it.
"""

import importlib
from pathlib import Path

from base.errors import BadInput
from data.bare import is_bare
from data.config import DataConfig
from data.manifest import MANIFEST, no_dataset


def ensure_dataset(config: DataConfig, vocab: int) -> None:
    """Where there is no dataset yet, make it from the source with data.prep's defaults."""
    out = Path(config.path)
    if (out / MANIFEST).is_file() or is_bare(out):
        return
    if not config.source:
        raise no_dataset(out, vocab)
    try:
        prep = importlib.import_module("data.prep")
    except ModuleNotFoundError:
        made_by = f"python -m data.prep {config.source} --vocab {vocab} --transform {config.transform} --out {out}"
        raise BadInput(f"{out}: not a dataset, and this file cannot make one; in the repository: {made_by}") from None
    prep.build_dataset(prep.open_corpus(config.source), prep.Recipe(vocab=vocab, transform=config.transform), out)
