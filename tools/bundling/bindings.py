"""What gives a name or an attribute its value: assignments of every form, taken apart.

assignments(statement)      (target, value) of each; value None: something that no expression stands for
bindings(function)          name -> all that binds it in there, parameters included
"""

import ast
from collections.abc import Iterator

Bound = ast.expr | ast.arg | None


def assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """(target, value) of a statement; value None: something that no expression stands for."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _spread(target, node.value)
    elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
        yield node.target, None if isinstance(node, ast.AugAssign) else node.value
    elif isinstance(node, ast.For | ast.comprehension):
        yield from _spread(node.target, None)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield from _spread(node.optional_vars, None)
    elif isinstance(node, ast.Delete):
        yield from ((target, None) for target in node.targets)


def _spread(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Tuples taken apart, on both sides where they match."""
    if isinstance(target, ast.Starred):
        yield from _spread(target.value, None)
    elif isinstance(target, ast.Tuple | ast.List):
        starred = any(isinstance(part, ast.Starred) for part in target.elts)
        alike = isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts) and not starred
        values = value.elts if alike and isinstance(value, ast.Tuple) else [None] * len(target.elts)
        for part, given in zip(target.elts, values, strict=True):
            yield from _spread(part, given)
    else:
        yield target, value


def bindings(function: ast.FunctionDef) -> dict[str, list[Bound]]:
    """In those inside it as well; None: something that no expression stands for."""
    found: dict[str, list[Bound]] = {}
    for node in ast.walk(function):
        for target, value in assignments(node):
            if isinstance(target, ast.Name):
                found.setdefault(target.id, []).append(value)
        if isinstance(node, ast.arg):
            found.setdefault(node.arg, []).append(node)
        elif node is not function and (name := _bound_otherwise(node)):
            found.setdefault(name, []).append(None)
    return found


def _bound_otherwise(node: ast.AST) -> str | None:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return node.name
    if isinstance(node, ast.MatchMapping):
        return node.rest
    return (node.asname or node.name.split(".")[0]) if isinstance(node, ast.alias) else None
