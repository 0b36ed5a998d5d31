"""What of the modules the entry needs: top-level definitions that nothing kept names are left out.

    kept = shaken(root, modules)       module path -> its kept statements; and the imports from elsewhere that they use

By name, which is sound because modules only define and a bundle has one namespace: two kept definitions may not share
a name, nor take a builtin's. Everything of the entry is kept.
"""

import ast
import builtins
from dataclasses import dataclass, field
from pathlib import Path

from base.errors import BadInput
from tools.bundling.modules import Module, first_party
from tools.bundling.names import free_names

Place = tuple[str, str]  # module path, name


@dataclass
class Tree:
    kept: dict[str, list[ast.stmt]] = field(default_factory=dict)  # in the module's order
    outside: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (module, name in it or "")


def shaken(root: Path, modules: list[Module]) -> Tree:
    scopes = {module.path: Scope(root, module) for module in modules}
    entry = modules[-1]
    wanted: list[tuple[str, ast.stmt]] = [(entry.path, statement) for statement in entry.statements]
    live: set[int] = set()
    tree, users = Tree(), dict[str, str]()
    while wanted:
        path, statement = wanted.pop()
        if id(statement) in live:
            continue
        live.add(id(statement))
        scope = scopes[path]
        for name in free_names(statement):
            if name in scope.own:
                wanted += [(path, definition) for definition in scope.own[name]]
            elif name in scope.ours:
                home, there = scope.ours[name]
                if there not in scopes[home].own:
                    raise BadInput(f"{path}: {there} is not defined in {home}; import it from where it is defined")
                wanted += [(home, definition) for definition in scopes[home].own[there]]
            elif name in scope.others:
                known, user = tree.outside.setdefault(name, scope.others[name]), users.setdefault(name, path)
                if known != scope.others[name]:
                    raise BadInput(
                        f"{path}: {name} is imported from {scope.others[name][0]}, and from {known[0]} in {user}; "
                        "a single file has one: import one of them by another name"
                    )
    for module in modules:
        tree.kept[module.path] = [statement for statement in module.statements if id(statement) in live]
    _check_names(modules, tree, users)
    return tree


class Scope:
    """A module's names: its own definitions, what it takes from ours, and from elsewhere."""

    def __init__(self, root: Path, module: Module) -> None:
        self.own: dict[str, list[ast.stmt]] = {}
        self.ours: dict[str, Place] = {}
        self.others: dict[str, tuple[str, str]] = {}
        for statement in module.statements:
            for name in defined_names(statement):
                self.own.setdefault(name, []).append(statement)
        for statement in module.imports:
            home = first_party(root, statement)
            for alias in statement.names:
                bound = alias.asname or alias.name
                if home is not None:
                    self.ours[alias.name] = (home, alias.name)
                elif isinstance(statement, ast.ImportFrom):
                    self.others[bound] = (statement.module or "", alias.name)
                elif alias.asname:
                    self.others[bound] = (alias.name, "")
                else:
                    self.others[bound.split(".")[0]] = (alias.name, "")


def defined_names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return []  # the entry's main part
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def _check_names(modules: list[Module], tree: Tree, users: dict[str, str]) -> None:
    first: dict[str, str] = {}
    for module in modules:
        for statement in tree.kept[module.path]:
            for node in () if module.entry or module.replaced else ast.walk(statement):
                if isinstance(node, ast.Name) and node.id in ("__file__", "__doc__", "__name__"):
                    raise module.refuse(statement, f"{node.id} is another in a single file; only the entry may use it")
            for name in defined_names(statement):
                other = first.setdefault(name, module.path)
                if other != module.path:
                    raise module.refuse(statement, f"{name} is defined in {other} as well; give one another name")
                if name in users and not (module.path == users[name]):
                    raise module.refuse(statement, f"{name} is what {users[name]} imports from elsewhere; rename it")
                if hasattr(builtins, name):
                    raise module.refuse(statement, f"{name} would hide the builtin from all other modules; rename it")
