"""The code of a record: the generated single file, or the very file that the runs ran, and what it needs installed.

code = generated(config, packed=True)              from the modules of this tree
code = given(Path("train_gpt.py"), runs)           --bundle: whatever this tree has become since
"""

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

from base.errors import BadInput
from base.packing import imported_modules
from base.source import hash_of, sources
from tools.bundle import bundle, unbundle
from tools.record.runs import Run, require_bundle, require_one_source
from train_gpt import RunConfig

PINNED = Path(__file__).parents[2] / "requirements.txt"


@dataclass(frozen=True)
class Code:
    data: bytes
    sources: dict[str, str]  # repository path -> sha256; empty: of a packed file that another tree made
    sources_sha256: str  # one hash for all of them

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def packed(self) -> bool:
        inside = unbundle(self.data)
        return inside is not None and inside.packed


def generated(config: RunConfig, packed: bool) -> Code:
    made = bundle(config, "train_gpt", readable=not packed)
    return Code(made.data, made.sources, hash_of(made.sources))


def given(file: Path, runs: Sequence[Run]) -> Code:
    if not file.is_file():
        raise BadInput(f"--bundle {file}: no such file")
    data = file.read_bytes()
    require_bundle(runs, file, hashlib.sha256(data).hexdigest())
    require_one_source(runs)
    inside = unbundle(data)
    recorded = runs[0].result.sources_sha256
    known = [
        inside.hashes() if inside else {},
        sources(),
    ]  # its own, if it is readable; this tree's, if it is unchanged
    return Code(data, next((files for files in known if hash_of(files) == recorded), {}), recorded)


def requirements(code: Code) -> str:
    """The project's pins of what the file imports, in the project's spelling."""
    inside = unbundle(code.data)
    texts = inside.modules if inside else {"train_gpt.py": code.data.decode()}
    imported = {module.split(".")[0] for path, text in texts.items() for module in imported_modules(path, text)}
    ours = {"base", *(path.partition("/")[0] for path in texts)}  # base: its packing is in no single file
    modules = imported - ours
    lines = PINNED.read_text(encoding="utf-8").splitlines()
    pinned = {_plain(line.split("==")[0]): line.split("#")[0].strip() for line in lines if "==" in line}
    installed, found = packages_distributions(), set[str]()
    for module in sorted(modules - sys.stdlib_module_names):
        having = [pinned[_plain(name)] for name in installed.get(module, ()) if _plain(name) in pinned]
        if not having:
            raise BadInput(f"the single file imports {module}, and no line of {PINNED.name} has it: pin it there")
        found.update(having)
    return "".join(f"{line}\n" for line in sorted(found))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
