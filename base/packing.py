"""Modules -> the bytes of a packed single file: find what a run reaches, strip it, compress it.

For `tools.bundle`, which writes the file, and `base.source`, which has to know its size. A single file holds every
module that its entry reaches, except this one: it makes no other.
"""

import ast
import bz2
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from base.errors import BadInput
from base.hook import ENTRY

HOOK = "base/hook.py"  # serves the modules of a single file; no module imports it
SELF = "base/packing.py"

# bz2 makes this much text 2 % smaller than the best LZMA filter, and has no settings.
PACKED = r"""#coding:latin-1
# A run, packed by `python -m tools.bundle`: its config and modules, each as name and text. `unbundle` there reads it.
import bz2
t=bz2.decompress('''%s'''.encode('latin-1')).decode().split('\0')
FILES=dict(zip(t[::2],t[1::2]))
exec(FILES['base/hook.py'])
serve(__file__,FILES,globals())
"""
ESCAPES = (  # what cannot be written as it is inside the literal, and how it is spelled there
    (r"\\", r"\\\\"),
    (r"\r", r"\\r"),
    (r"\0(?=[0-7])", r"\\x00"),
    (r"\0", r"\\0"),
    (r"'(?=''|\Z)", r"\\'"),  # three would end it, and so would one before its end
)


@cache  # a run needs its sources and their size
def read_sources() -> dict[str, str]:
    """The entry, the hook, and every file that they import anywhere in their text: repository path -> text."""
    spec = find_spec(ENTRY.removesuffix(".py"))
    if spec is None or spec.origin is None:
        raise BadInput(f"{ENTRY} cannot be found; run this from the repository, or name the counted code: --code")
    root = Path(spec.origin).parent
    found = dict[str, str]()
    waiting = [ENTRY, HOOK]
    while waiting:
        path = waiting.pop()
        if path in found or path == SELF or not (root / path).is_file():
            continue
        found[path] = (root / path).read_text(encoding="utf-8")
        for module in imported_modules(path, found[path]):
            waiting += _files_of(module)
    return {ENTRY: found.pop(ENTRY), **dict(sorted(found.items()))}


def imported_modules(path: str, text: str) -> set[str]:
    """Every module that a file may import; what it takes from a module may be a module, too."""
    found = set[str]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.split("/")[: -node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found.update([module, *(f"{module}.{alias.name}" for alias in node.names)])
    return found


def _files_of(module: str) -> list[str]:
    """Its file, and what is executed before it: the __init__.py of each folder on the way."""
    parts = module.split(".")
    folders = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    return [f"{folders[-1]}.py", *(f"{folder}/__init__.py" for folder in folders)]


def strip(files: dict[str, str]) -> dict[str, str]:
    return {path: strip_source(text) for path, text in files.items()}


def strip_source(text: str) -> str:
    """The same program without comments, docstrings, and annotations that nothing reads, indented by one space.

    What may be read at run time stays: the fields of classes, the signatures of decorated functions, and the docstring
    of a module that mentions `__doc__`.
    """
    tree = ast.parse(text)
    docstring = tree.body[:1] if "__doc__" in text and ast.get_docstring(tree) else []
    stripped = _Stripper().visit(tree)
    stripped.body = [*docstring, *stripped.body]
    wide = ast.unparse(ast.fix_missing_locations(stripped))
    narrow = re.sub("^(?:    )+", lambda indent: " " * (len(indent[0]) // 4), wide, flags=re.M)
    return narrow if ast.dump(ast.parse(narrow)) == ast.dump(ast.parse(wide)) else wide  # else: in a string of lines


class _Stripper(ast.NodeTransformer):
    def visit(self, node: ast.AST) -> Any:
        node = super().visit(node)
        if isinstance(node, ast.stmt) and getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        if not node.decorator_list:
            node.returns = None
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        body = [each if isinstance(each, ast.AnnAssign) else self.visit(each) for each in node.body]
        node.body = [each for each in body if each is not None]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.Assign | ast.Pass:
        return ast.Pass() if node.value is None else ast.Assign([node.target], node.value)


def pack(files: dict[str, str]) -> bytes:
    """A Python file that runs its entry, and holds nothing but one compressed stream and what unpacks it."""
    return packed_file(bz2.compress("\0".join(part for pair in files.items() for part in pair).encode()))


def packed_file(coded: bytes) -> bytes:
    """The stream in a string of a file that declares itself Latin-1, a byte per character.

    All but three of 256 can be written as they are, so it grows by 1.3 %, where base85 would add 25 %.
    """
    text = coded.decode("latin-1")
    for pattern, spelled in ESCAPES:
        text = re.sub(pattern, spelled, text)
    return (PACKED % text).encode("latin-1")
