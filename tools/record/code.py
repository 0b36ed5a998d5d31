"""The code of a record: the generated single file, or the very file that the runs ran, and what it needs installed.

code = generated(config, packed=True)              from the modules of this tree
code = given(Path("train_gpt.py"), runs)           --bundle: whatever this tree has become since
"""

import ast
import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

from base.errors import BadInput
from base.source import hash_of, sources
from run_config import RunConfig
from tools.bundling.build import bundle
from tools.bundling.join import banners
from tools.bundling.packed import unpacked
from tools.record.runs import Run, require_bundle, require_one_source

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
        return unpacked(self.data) is not None


def generated(config: RunConfig, packed: bool) -> Code:
    made = bundle(config, packed)
    return Code(made.data, made.sources, hash_of(made.sources))


def given(file: Path, runs: Sequence[Run]) -> Code:
    if not file.is_file():
        raise BadInput(f"--bundle {file}: no such file")
    data = file.read_bytes()
    require_bundle(runs, file, hashlib.sha256(data).hexdigest())
    require_one_source(runs)
    said = runs[0].result.sources_sha256
    listed = (banners(data), sources())  # its own, where it is readable; this tree's, where it has not moved on
    return Code(data, next((files for files in listed if hash_of(files) == said), {}), said)


def requirements(code: Code) -> str:
    """The project's pins of what the file imports, in the project's spelling."""
    tree = ast.parse(unpacked(code.data) or code.data)
    modules = {module.split(".")[0] for node in ast.walk(tree) for module in _imported(node)}
    lines = PINNED.read_text(encoding="utf-8").splitlines()
    pinned = {_plain(line.split("==")[0]): line.split("#")[0].strip() for line in lines if "==" in line}
    installed, found = packages_distributions(), set[str]()
    for module in sorted(modules - sys.stdlib_module_names):
        having = [pinned[_plain(name)] for name in installed.get(module, ()) if _plain(name) in pinned]
        if not having:
            raise BadInput(f"the single file imports {module}, and no line of {PINNED.name} has it: pin it there")
        found.update(having)
    return "".join(f"{line}\n" for line in sorted(found))


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
