"""What a piece of code takes from outside itself, as Python's own scopes have it, and whether it does anything there.

free_names(statement)       {"GPT", "torch", "load_weights", …}; not its parameters, nor what it assigns
pure(expression)            it makes a value and does nothing else
"""

import ast
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
PURE = (
    *(ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple, ast.IfExp, ast.expr_context),
    *(ast.Compare, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.cmpop, ast.boolop, ast.unaryop, ast.operator),
)
PURE_CALLS = ("int", "float", "len", "min", "max", "isinstance")


def free_names(node: ast.AST) -> set[str]:
    """A quoted name of a class counts as the name."""
    return set(_free(node, frozenset()))


def _free(node: ast.AST, bound: frozenset[str]) -> Iterator[str]:
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load) and node.id not in bound:
            yield node.id
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value.isidentifier() and node.value[:1].isupper():
            yield node.value  # a class, if there is one of that name
    elif isinstance(node, Function):
        inner = bound | {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}
        body = node.body if isinstance(node.body, list) else [node.body]
        inner |= {name for part in body for name in _stored(part)}
        for child in ast.iter_child_nodes(node):
            yield from _free(child, inner if child in body else bound)
    else:
        if isinstance(node, Comprehension):
            bound |= {name for part in node.generators for name in _stored(part.target)}
        for child in ast.iter_child_nodes(node):
            yield from _free(child, bound)


def _stored(node: ast.AST) -> Iterator[str]:
    """What a function's statement makes local to it: not what inner functions or comprehensions make theirs."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler):
        yield node.name or ""
    if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda | Comprehension):
        for child in ast.iter_child_nodes(node):
            yield from _stored(child)


def pure(node: ast.expr) -> bool:
    calls = (part for part in ast.walk(node) if not isinstance(part, PURE))
    return all(isinstance(call, ast.Call) and ast.unparse(call.func) in PURE_CALLS for call in calls)
