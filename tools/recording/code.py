"""The code of a record: the generated single file, or the very file that the runs ran, and what it needs installed.

code = generated(config, packed=True)              from the modules of this tree
code = given(Path("train_gpt.py"), runs)           --bundle: whatever this tree has become since
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

from base.errors import BadInput
from tools.bundling.build import bundle
from tools.recording.runs import Run, require_bundle, require_one_source
from train_gpt import RunConfig

ROOT = Path(__file__).parents[2]
PINNED = ROOT / "requirements.txt"


@dataclass(frozen=True)
class Code:
    data: bytes
    sources: dict[str, str]  # repository path -> sha256
    packed: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def generated(config: RunConfig, packed: bool) -> Code:
    made = bundle(config, packed)
    return Code(made.data, made.sources, packed)


def given(file: Path, runs: Sequence[Run]) -> Code:
    if not file.is_file():
        raise BadInput(f"--bundle {file}: no such file")
    data = file.read_bytes()
    require_bundle(runs, file, hashlib.sha256(data).hexdigest())
    require_one_source(runs)
    return Code(data, runs[0].result.sources, b"\nfrom dataclasses import " not in data)


def requirements(sources: Iterable[str]) -> str:
    """The pinned requirements of the third-party modules that these files of ours import, in the project's words."""
    wanted = set[str]()
    for source in sources:
        tree = ast.parse((ROOT / source).read_text(encoding="utf-8"))
        wanted |= {module.split(".")[0] for node in ast.walk(tree) for module in _imported(node)}
    ours = {Path(source).parts[0].removesuffix(".py") for source in sources}
    outside = sorted(wanted - ours - sys.stdlib_module_names)
    pinned = {_plain(line.split("==")[0]): line.split("#")[0].strip() for line in _lines() if "==" in line}
    installed, found = packages_distributions(), list[str]()
    for module in outside:
        names = [_plain(name) for name in installed.get(module, [module])]
        lines = [pinned[name] for name in names if name in pinned]
        if not lines:
            raise BadInput(
                f"the single file imports {module}, and {PINNED.name} pins nothing that has it; add it there"
            )
        found += lines
    return "".join(f"{line}\n" for line in sorted(set(found)))


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []


def _lines() -> list[str]:
    return PINNED.read_text(encoding="utf-8").splitlines()


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
