"""The code that runs: its sources, and what it counts against the cap. Here it is modules.

From modules the count is an estimate of what `python -m tools.bundle --packed` would make of them: the sources without
comments and annotations, compressed, and what the rest of the packing saves. In a generated single file this module is
another with the names that a run needs: there the code is the file as it lies on disk, which carries its sources' hash
and its run's config.
"""

import ast
import hashlib
import json
import lzma
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from base.errors import BadInput

ENTRY = "train_gpt"
# What is left of that without what a config does not need, and with short names: the most of several configs, measured,
# and held by a test.
PACKED_SHARE = 0.56
OWN_CONFIG = ""  # a single file's: the run that it repeats, as YAML
OWN_NAME = ""  # of that run
OWN_SHA256 = ""


def code_bytes(file: str | None) -> int:
    if file is not None:
        if not Path(file).is_file():
            raise BadInput(f"--code {file}: no such file")
        return Path(file).stat().st_size
    return int(PACKED_SHARE * len(lzma.compress("\n".join(map(bare, _reached().values())).encode())))


def sources() -> dict[str, str]:
    """Repository path -> sha256 of every file of ours that a run reaches."""
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in _reached().items()}


def sources_sha256() -> str:
    """One hash for all of them, which a run's log and result name."""
    return hash_of(sources())


def hash_of(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


@cache  # a run asks for its sources and for their size
def _reached() -> dict[str, str]:
    """The entry and every file that it imports, directly or not: name -> text."""
    spec = find_spec(ENTRY)
    if spec is None or spec.origin is None:
        raise BadInput(f"{ENTRY}.py is not to be found; run this from the repository, or name the counted code: --code")
    root, found, waiting = Path(spec.origin).parent, dict[str, str](), [f"{ENTRY}.py"]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = (root / name).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(found[name])):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = f"{node.module.replace('.', '/')}.py"
                waiting += [module] if (root / module).is_file() else []
    return dict(sorted(found.items()))


def bare(text: str) -> str:
    """Without comments, docstrings and the annotations of functions and variables; classes keep theirs."""
    return ast.unparse(ast.fix_missing_locations(_Bare().visit(ast.parse(text))))


class _Bare(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        node.returns = None
        _without_docstring(node)
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        _without_docstring(node)
        node.body = [s if isinstance(s, ast.AnnAssign) else self.visit(s) for s in node.body]  # fields are annotations
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.Assign | None:
        return ast.Assign([node.target], node.value) if node.value is not None else None


def _without_docstring(node: ast.FunctionDef | ast.ClassDef) -> None:
    if ast.get_docstring(node) is not None:
        node.body = node.body[1:] or [ast.Pass()]
