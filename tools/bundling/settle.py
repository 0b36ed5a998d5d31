"""One text, less what the run's config settles: branches it cannot take, and what only they needed.

    text, values = settled(source, config)       values: {"model.mlp": "leaky_relu2", …}, what the text is now for

Fields that may be relied on are the model's; words, flags, None, 0 and 1 of its optimizer's, its average's and its
artifact's; and how training saves memory. A run's length, its data and its seed stay open. Lines are cut out of the
text and moved left, never written anew: comments stay.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any

from tools.bundling.known import Scope, World
from tools.bundling.text import Edit, Text
from tools.bundling.tidy import tidied

SETTLED = re.compile(r"(optim|average|quant)\.\w+|train\.(shard|checkpointing|loss_tokens)")


def settled(source: str, config: Any) -> tuple[str, dict[str, Any]]:
    """Again and again, until nothing more follows from what is left."""
    sections = {type(config).__name__: ("", config)}
    sections |= {type(v).__name__: (f.name, v) for f in fields(config) if is_dataclass(v := getattr(config, f.name))}
    relied: set[str] = set()
    text = tidied(Text(source))
    while edits := _folds(text, World(text.tree, sections, _may_settle), relied):
        text = tidied(Text(text.edited(edits)))
    return text.source, {name: attrgetter(name)(config) for name in sorted(relied)}


def _may_settle(name: str, value: Any) -> bool:
    switch = value is None or isinstance(value, str | bool) or value in (0, 1)
    return name.startswith("model.") or (switch and SETTLED.fullmatch(name) is not None)


def _folds(text: Text, world: World, relied: set[str]) -> list[Edit]:
    """`relied` is told the fields that they rest on."""
    found: list[Edit] = []
    for scope in world.scopes:
        assert scope.function is not None
        taken = 0  # edits inside an edit would be lost: the outer one comes first
        asked = _asked(scope.function)
        for node in _in_order(scope.function):
            begin = text.begin(node) if isinstance(node, ast.expr | ast.stmt | ast.arg) else taken
            if begin < taken:
                continue
            decided = _decided(text, node, world, scope, asked)
            if decided is not None:
                edit, rests = decided
                found.append(edit)
                relied.update(rests)
                taken = edit.end
    return found


def _decided(
    text: Text, node: ast.AST, world: World, scope: Scope, asked: set[ast.expr]
) -> tuple[Edit, frozenset[str]] | None:
    """The edit, and the fields that it rests on."""
    if isinstance(node, ast.If) and (test := world.truth(node.test, scope)) is not None:
        edit = _chosen(text, node, bool(test.value))
        return (edit, test.fields) if edit else None
    if isinstance(node, ast.IfExp) and (test := world.truth(node.test, scope)) is not None:
        return Edit(*text.span(node), text.operand(node.body if test.value else node.orelse)), test.fields
    if isinstance(node, ast.Assert) and (test := world.truth(node.test, scope)) is not None and test.value:
        return text.as_pass(node), test.fields
    if isinstance(node, ast.BoolOp):
        return _shortened(text, node, world, scope, node in asked)
    if isinstance(node, ast.arg) and node.annotation is not None:
        hint = ast.unparse(node.annotation)
        if hint.removesuffix(" | None") in world.unmade and hint.endswith(" | None"):
            return Edit(*text.span(node.annotation), b"None"), frozenset()
    return None


def _shortened(
    text: Text, node: ast.BoolOp, world: World, scope: Scope, asked: bool
) -> tuple[Edit, frozenset[str]] | None:
    """Operands that say nothing go; the last one only where nobody takes its value for the whole's."""
    decisive = isinstance(node.op, ast.Or)
    values = [(part, world.truth(part, scope)) for part in node.values]
    silent = [(part, known) for part, known in values if known is not None and known.value != decisive]
    silent = [(part, known) for part, known in silent if asked or part is not node.values[-1]]
    if not silent or len(silent) == len(values):
        return None
    texts = [text.operand(part) for part in node.values if part not in [gone for gone, _ in silent]]
    rests = frozenset().union(*(known.fields for _, known in silent))
    return Edit(*text.span(node), (b" or " if decisive else b" and ").join(texts)), rests


def _chosen(text: Text, node: ast.If, taken: bool) -> Edit | None:
    """The whole statement, or its part from this `elif` on, without the test."""
    begin, end = text.starts[node.lineno - 1], text.starts[node.end_lineno or node.lineno]
    elif_ = text.data[text.begin(node) :].startswith(b"elif")
    if any(mark in text.data[begin:end] for mark in (b'"""', b"'''", b"\\\n")):
        return None  # moving a string's lines would change it
    if any(isinstance(part, ast.Yield | ast.YieldFrom) for part in ast.walk(node)):
        return None  # without its last one a generator is none
    if taken:
        body = _block(text, node.body, node.col_offset + 4 * elif_)
        return Edit(begin, end, b" " * node.col_offset + b"else:\n" + body if elif_ else body)
    if not node.orelse:
        return Edit(begin, end, b"" if elif_ else b" " * node.col_offset + b"pass\n")
    header = text.header(node.orelse)
    if text.lines[header].strip().startswith(b"elif"):
        rest = text.data[text.starts[header] : end]
        return Edit(begin, end, rest if elif_ else rest.replace(b"elif", b"if", 1))
    if elif_:
        return Edit(begin, text.starts[header], b"")
    return Edit(begin, end, _block(text, node.orelse, node.col_offset))


def _block(text: Text, body: list[ast.stmt], column: int) -> bytes:
    """Its lines with the comments above the first one, moved to `column`."""
    lines = text.lines[text.header(body) + 1 : body[-1].end_lineno]
    left = body[0].col_offset - column
    assert not any(line[:left].strip() for line in lines), f"line {body[0].lineno}: text left of its block"
    return b"".join(line[left:] if line.strip() else line for line in lines)


def _in_order(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Outer nodes before inner ones, first ones first."""
    for node in ast.iter_child_nodes(function):
        yield node
        yield from _in_order(node)  # type: ignore[arg-type]


def _asked(function: ast.FunctionDef) -> set[ast.expr]:
    """The expressions of which only the truth matters."""
    waiting: list[ast.expr] = []
    for node in ast.walk(function):
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
            waiting.append(node.test)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            waiting.append(node.operand)
    found = set[ast.expr]()
    while waiting:
        found.add(node := waiting.pop())
        waiting += node.values if isinstance(node, ast.BoolOp) else []
    return found
