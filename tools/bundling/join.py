"""Kept definitions -> one text, comments kept, a banner before each section.

Imports from elsewhere are hoisted and deduplicated, sections stand in import order, and each begins with its
repository path and the sha256 of the whole file that it was taken from.
"""

import ast
import re
from pathlib import Path

from tools.bundling.modules import Module
from tools.bundling.tree import Tree, shaken

BANNER = re.compile(rb"^# == ([\w/.]{1,200}) sha256 ([0-9a-f]{64}) ==$", re.M)


def readable(root: Path, modules: list[Module], docstring: bool = True) -> str:
    """`docstring`: the entry's whole one, or its first line, which is what `--help` says then."""
    tree, said = shaken(root, modules), ast.get_docstring(modules[-1].tree, clean=False) or ""
    parts = [f'"""{said if docstring else said.partition(chr(10))[0]}"""\n\n', imports(tree)]
    for module in modules:
        section = "".join(_with_comments(module, tree.kept[module.path])).strip()
        parts.append(f"\n# == {module.path} sha256 {module.sha256} ==\n\n" + (f"{section}\n\n" if section else ""))
    return "".join(parts)


def banners(data: bytes) -> dict[str, str]:
    """What a readable file says that it was made of: repository path -> sha256."""
    return {path.decode(): sha256.decode() for path, sha256 in BANNER.findall(data)}


def imports(tree: Tree) -> str:
    whole, taken = set[str](), dict[str, list[str]]()
    for name, (module, inner) in tree.outside.items():
        if not inner:
            whole.add(f"import {module}" + (f" as {name}" if name != module.split(".")[0] else ""))
        else:
            taken.setdefault(module, []).append(inner + (f" as {name}" if name != inner else ""))
    lines = sorted(whole) + [
        f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(taken.items())
    ]
    return "\n".join(lines) + "\n"


def _with_comments(module: Module, kept: list[ast.stmt]) -> list[str]:
    """Each kept statement's lines, with the comments and blank lines above it."""
    lines, texts, end = module.text.splitlines(keepends=True), [], 0
    live = {id(statement) for statement in kept}
    for statement in module.tree.body:
        begin, end = end, statement.end_lineno or statement.lineno
        if id(statement) in live:
            texts.append("".join(lines[begin:end]))
    return texts
