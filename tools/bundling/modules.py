"""The modules that an entry reaches, in depth-first import order, each held to the rules that make joining them sound.

    modules = read_modules(Path("."), "train_gpt.py")      those it imports come before a module; the entry is last

The rules: first-party imports stand at the top and take plain names; a module only defines (no work at import);
`if __name__ == "__main__"` and `__file__` belong to the entry. Names are held to theirs in tools.bundling.tree, once
it is known which are kept.
"""

import ast
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from base.errors import BadInput

Import = ast.Import | ast.ImportFrom
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
GUARD = "__name__ == '__main__'"


@dataclass(frozen=True)
class Module:
    path: str  # in the repository
    text: str
    sha256: str  # of the whole file, whatever `text` has become
    entry: bool
    replaced: bool = False  # `text` is the single file's own

    @cached_property
    def tree(self) -> ast.Module:
        try:
            return ast.parse(self.text)
        except SyntaxError as error:
            raise BadInput(f"{self.path}:{error.lineno}: not Python: {error.msg}") from None

    @cached_property
    def statements(self) -> list[ast.stmt]:
        """All but the docstring, the imports, and the main part of a library that is a command as well."""
        body = self.tree.body[1:] if ast.get_docstring(self.tree) is not None else self.tree.body
        return [s for s in body if not isinstance(s, Import) and (self.entry or not is_guard(s))]

    @cached_property
    def imports(self) -> list[Import]:
        return [s for s in self.tree.body if isinstance(s, Import)]

    def refuse(self, node: ast.stmt | ast.expr, broken: str) -> BadInput:
        return BadInput(f"{self.path}:{node.lineno}: {broken}")


def is_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == GUARD


def first_party(root: Path, statement: ast.stmt) -> str | None:
    """The path of the module of ours that an import takes from."""
    if not isinstance(statement, ast.ImportFrom) or not statement.module:
        return None
    path = f"{statement.module.replace('.', '/')}.py"
    return path if (root / path).is_file() else None


def read_modules(root: Path, entry: str) -> list[Module]:
    found: dict[str, Module] = {}
    _read(root, entry, [], found)
    return list(found.values())


def _read(root: Path, path: str, above: list[str], found: dict[str, Module]) -> None:
    if path in above:
        raise BadInput(f"{path}: imports itself, by way of {' -> '.join(above[above.index(path) :])}; break the circle")
    data = (root / path).read_bytes()
    module = Module(path, data.decode(), hashlib.sha256(data).hexdigest(), entry=not above)
    _check_imports(root, module)
    _check_statements(module)
    for statement in module.imports:
        inner = first_party(root, statement)
        if inner is not None and inner not in found:
            _read(root, inner, [*above, path], found)
    found[path] = module


def _check_imports(root: Path, module: Module) -> None:
    packages = {path.parent.name for path in root.glob("*/__init__.py")} | {path.stem for path in root.glob("*.py")}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in packages:
                    raise module.refuse(node, f"imports {alias.name} whole; write `from {alias.name} import NAME`")
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            raise module.refuse(node, "a relative import does not survive joining; write the module's whole name")
        if (node.module or "").split(".")[0] not in packages:
            continue
        if first_party(root, node) is None:
            raise module.refuse(node, f"{node.module} is no module of ours; write `from package.module import NAME`")
        if node not in module.tree.body:
            raise module.refuse(node, f"imports {node.module} inside a block; first-party imports stand at the top")
        for alias in node.names:
            if alias.name == "*" or alias.asname:
                raise module.refuse(node, f"imports {alias.name} by another name; first-party imports are plain names")


def _check_statements(module: Module) -> None:
    for statement in module.statements:
        if isinstance(statement, Definition | ast.Assign | ast.AnnAssign) or is_guard(statement):
            continue
        said = ast.unparse(statement).splitlines()[0]
        raise module.refuse(statement, f"`{said:.60}` works at import; a module only defines: put it into a function")
