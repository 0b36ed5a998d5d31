"""What stands in a single file where a module cannot be, or need not: the same names, said of one file that is alone.

A submission makes no dataset, draws no picture (tools.record does) and has its shape written out.
"""

OWN = "base/code.py"  # {name}, {config} and {sources} are the file's own

TWINS = {
    OWN: '''
import hashlib
from pathlib import Path

OWN_NAME = {name!r}
OWN_SHA256 = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
OWN_CONFIG = {config}
OWN_SOURCES = {sources}


def code_bytes(file: str | None) -> int:
    """Of this file, as it lies on disk."""
    return Path(file or __file__).stat().st_size


def sources() -> dict[str, str]:
    """What it was made of: repository path -> sha256."""
    return OWN_SOURCES
''',
    "data/ensure.py": """
from pathlib import Path

from base.errors import BadInput
from data.manifest import MANIFEST


def ensure_dataset(source: str, vocab: int, out: Path) -> None:
    if not (out / MANIFEST).is_file():
        made = f"python -m data.prep {source} --vocab {vocab} --out {out}"
        raise BadInput(f"{out}: no dataset is there, and a single file makes none; in the repository: {made}")
""",
    "engine/plot.py": '''
from pathlib import Path


def plot_losses(folder: Path) -> None:
    """The repository's tools draw it."""
''',
    "model/dial.py": """
from collections.abc import Mapping
from typing import Any


def dial(depth: Any, model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    raise ValueError(f"depth {depth}: a single file's shape is written out; change layers, dim, heads")
""",
}
