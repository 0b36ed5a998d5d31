"""What nothing in a program needs any more, taken out of its text: again and again, until all that is left is used.

    text = tidied(Text(source))

Statements that are not reached; methods, attributes and variables that nothing reads; definitions and imported names
that the main part does not lead to. Methods and attributes go by name, so one that shares its name with another stays.
"""

import ast
from collections.abc import Collection, Iterator

from tools.bundling.known import ours_alone
from tools.bundling.names import free_names, pure
from tools.bundling.text import Edit, Text, first_line
from tools.bundling.tree import defined_names

LEAVES = ast.Return | ast.Raise | ast.Continue | ast.Break


def tidied(text: Text) -> Text:
    while edits := leftovers(text):
        text = Text(text.edited(edits))
    return text


def leftovers(text: Text) -> list[Edit]:
    """Statements that are not reached, `pass` beside others, attributes, methods and definitions without a use."""
    used = _live_uses(text.tree)
    found = [edit for parent, body in _blocks(text.tree) for edit in _cut(text, parent, body, used)]
    return found or _unreached(text)


def _cut(text: Text, parent: ast.AST, body: list[ast.stmt], used: set[str]) -> Iterator[Edit]:
    ends = [at for at, statement in enumerate(body) if isinstance(statement, LEAVES)]
    rest = body[ends[0] + 1 :] if ends else []
    if rest and not any(isinstance(node, ast.Yield | ast.YieldFrom) for part in rest for node in ast.walk(part)):
        yield Edit(text.after(body[ends[0]]), text.after(body[-1]), b"")
        return
    goes = [isinstance(statement, ast.Pass) or _needless(parent, statement, used) for statement in body]
    for at, statement in enumerate(body):
        if goes[at] and (at + 1 < len(body) or not all(goes)):
            yield _without(text, body[at - 1] if at else None, statement)
        elif goes[at] and not isinstance(statement, ast.Pass):
            yield text.as_pass(statement)  # a block cannot be empty


def _unreached(text: Text) -> list[Edit]:
    """Top-level definitions and imported names that the main part does not lead to."""
    homes: dict[str, list[ast.stmt]] = {}
    for statement in text.tree.body:
        for name in defined_names(statement):
            homes.setdefault(name, []).append(statement)
    waiting = [s for s in text.tree.body if not defined_names(s) and not isinstance(s, ast.Import | ast.ImportFrom)]
    live: set[int] = set()
    names: set[str] = set()
    while waiting:
        statement = waiting.pop()
        if id(statement) not in live:
            live.add(id(statement))
            found = free_names(statement)
            names |= found
            waiting += [home for name in found for home in homes.get(name, [])]
    found_edits = []
    for at, statement in enumerate(text.tree.body):
        before = text.tree.body[at - 1] if at else None
        if isinstance(statement, ast.Import | ast.ImportFrom):
            kept = [a for a in statement.names if (a.asname or a.name.split(".")[0]) in names]
            if len(kept) < len(statement.names):
                statement.names = kept
                line = f"{ast.unparse(statement)}\n" if kept else ""
                found_edits.append(Edit(*text.line_span(statement), line.encode()))
        elif id(statement) not in live:
            found_edits.append(_without(text, before, statement))
    return found_edits


def _without(text: Text, before: ast.stmt | None, statement: ast.stmt) -> Edit:
    """From the end of the statement before it: the comments above go with it, but for a section's banner."""
    begin = text.after(before) if before is not None else text.starts[text.header([statement]) + 1]
    above = text.data[begin : text.starts[first_line(statement) - 1]]
    banner = above.rfind(b"\n# == ")
    if banner >= 0:
        begin += above.index(b"\n", banner + 1) + 1
    return Edit(begin, text.after(statement), b"")


def _blocks(parent: ast.AST) -> Iterator[tuple[ast.AST, list[ast.stmt]]]:
    """Every block with the statement that it belongs to."""
    for name in ("body", "orelse", "finalbody"):
        if body := getattr(parent, name, []):
            yield parent, body
            for statement in body:
                yield from _blocks(statement)
    for part in [*getattr(parent, "handlers", []), *getattr(parent, "cases", [])]:
        yield from _blocks(part)


def _live_uses(tree: ast.Module) -> set[str]:
    """The names that anything reads; what a method reads counts once something reads the method's own name."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    waiting = [method for node in classes for method in _called_by_name(node)]
    found = _uses(tree, {id(method) for method in waiting})
    while live := [method for method in waiting if method.name in found]:
        waiting = [method for method in waiting if method not in live]
        found = found.union(*map(_uses, live))
    return found


def _uses(tree: ast.AST, apart: Collection[int] = ()) -> set[str]:
    """The names that stand in it anywhere but where they are defined or assigned."""
    found, waiting = set[str](), [tree]
    while waiting:
        node = waiting.pop()
        waiting += [child for child in ast.iter_child_nodes(node) if id(child) not in apart]
        read = node.target if isinstance(node, ast.AugAssign) else node
        if isinstance(read, ast.Attribute | ast.Name) and (read is not node or not isinstance(read.ctx, ast.Store)):
            found.add(read.attr if isinstance(read, ast.Attribute) else read.id)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            found.update(node.names)
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # getattr, quoted annotations
    return found


def _called_by_name(home: ast.ClassDef) -> list[ast.FunctionDef]:
    return [part for part in home.body if isinstance(part, ast.FunctionDef) and ours_alone(home, part)]


def _needless(parent: ast.AST, statement: ast.stmt, used: set[str]) -> bool:
    """A method, an attribute or a variable that nothing reads, where making its value does nothing else."""
    if isinstance(statement, ast.FunctionDef):
        if isinstance(parent, ast.ClassDef):
            return statement in _called_by_name(parent) and statement.name not in used
        inner = isinstance(parent, ast.FunctionDef) and not statement.decorator_list
        return inner and statement.name not in _uses(parent)
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or isinstance(parent, ast.Module):
        return False
    target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
    if statement.value is None or (isinstance(statement, ast.Assign) and len(statement.targets) > 1):
        return False
    if isinstance(parent, ast.ClassDef):
        shared = isinstance(statement, ast.AnnAssign) and ast.unparse(statement.annotation).startswith("ClassVar")
        return shared and ast.unparse(target) not in used
    if not pure(statement.value):
        return False
    if isinstance(target, ast.Attribute):
        return ast.unparse(target.value) == "self" and target.attr not in used
    return isinstance(target, ast.Name) and isinstance(parent, ast.FunctionDef) and target.id not in _uses(parent)
