"""The source that runs: its hash and its size. modules of a checkout, or a single file.

A checkout has no single file whose bytes could be counted, so `code_bytes` packs one in memory, without a config.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from base.errors import BadInput

CONFIG_BYTES = 1_100  # room in the estimate for a config, which is in the packed file as well


@dataclass(frozen=True)
class Bundled:
    """The single file that runs."""

    name: str  # of the run that it repeats
    config_yaml: str
    sources_sha256: str
    size_bytes: int
    sha256: str


@cache
def bundled() -> Bundled | None:
    """None: this is a checkout."""
    hook = globals()["__loader__"]
    if not hasattr(hook, "files"):  # see base/hook.py
        return None
    data = Path(hook.path).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return Bundled(hook.files["name"], hook.files["config.yaml"], hook.files["sources_sha256"], len(data), sha256)


def code_bytes(file: str | None) -> int:
    """What counts against a cap: the named file, the single file that runs, or an estimate of what it would be."""
    if file is not None:
        if not Path(file).is_file():
            raise BadInput(f"--code {file}: no such file")
        return Path(file).stat().st_size
    own = bundled()
    if own is not None:
        return own.size_bytes
    from base.packing import pack, read_sources, strip

    return len(pack(strip(read_sources()))) + CONFIG_BYTES


def sources() -> dict[str, str]:
    """Repository path -> sha256 of every file of ours that a run reaches; a single file has only one hash for all."""
    from base.packing import read_sources

    return hashes_of(read_sources())


def sources_sha256() -> str:
    """One hash for all of them, which a run's log and result name."""
    own = bundled()
    return own.sources_sha256 if own else hash_of(sources())


def hashes_of(texts: dict[str, str]) -> dict[str, str]:
    return {path: hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()}


def hash_of(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
