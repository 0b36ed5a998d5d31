"""One text, less what the run's config settles: branches it cannot take, and what only they needed.

    text, values = settled(source, config)       values: {"model.mlp": "leaky_relu2", …}, what the text is now for

Fields that may be relied on are the model's, and words, flags, None, 0 and 1 of its optimizer's and its artifact's; a
run's length, its data and its seed stay open, and so do all other numbers. Lines are cut out of the
text and moved left, never written anew: comments stay.
"""

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from tools.bundling.known import PLAIN_BASES, Scope, World
from tools.bundling.names import free_names

SETTLED = re.compile(r"(optim|average|quant)\.\w+|train\.(shard|checkpointing|loss_tokens)")
LEAVES = ast.Return | ast.Raise | ast.Continue | ast.Break
LOOSE = ast.BoolOp | ast.IfExp | ast.Lambda | ast.NamedExpr  # what needs parentheses among other operators
PURE = (
    *(ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple, ast.IfExp, ast.expr_context),
    *(ast.Compare, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.cmpop, ast.boolop, ast.unaryop, ast.operator),
)
PURE_CALLS = ("int", "float", "len", "min", "max")


class Edit(NamedTuple):
    begin: int
    end: int
    text: bytes


def settled(source: str, config: Any) -> tuple[str, dict[str, Any]]:
    """Again and again, until nothing more follows from what is left."""
    sections = {type(config).__name__: ("", config)}
    sections |= {type(v).__name__: (f.name, v) for f in fields(config) if is_dataclass(v := getattr(config, f.name))}
    relied: set[str] = set()
    text = _tidied(source)
    while edits := text.folds(World(text.tree, sections, _may_settle), relied):
        text = _tidied(text.edited(edits))
    return text.source, {name: attrgetter(name)(config) for name in sorted(relied)}


def _tidied(source: str) -> "Text":
    text = Text(source)
    while edits := text.leftovers():
        text = Text(text.edited(edits))
    return text


def _may_settle(name: str, value: Any) -> bool:
    switch = value is None or isinstance(value, str | bool) or value in (0, 1)
    return name.startswith("model.") or (switch and SETTLED.fullmatch(name) is not None)


class Text:
    def __init__(self, source: str) -> None:
        self.source, self.tree = source, ast.parse(source)
        self._data = source.encode()
        self._lines = self._data.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def edited(self, edits: list[Edit]) -> str:
        data, end = self._data, len(self._data)
        for edit in sorted(edits, reverse=True):
            if edit.end <= end:  # what lies inside a larger edit has its turn the next time
                data, end = data[: edit.begin] + edit.text + data[edit.end :], edit.begin
        return data.decode()

    # -- what a known test decides ----------------------------------------------------------------------------------

    def folds(self, world: World, relied: set[str]) -> list[Edit]:
        """`relied` is told the fields that they rest on."""
        found: list[Edit] = []
        for scope in world.scopes:
            assert scope.function is not None
            taken = 0  # edits inside an edit would be lost: the outer one comes first
            asked = _asked(scope.function)
            for node in _in_order(scope.function):
                begin = self._begin(node) if isinstance(node, ast.expr | ast.stmt | ast.arg) else taken
                if begin < taken:
                    continue
                decided = self._decided(node, world, scope, asked)
                if decided is not None:
                    edit, rests = decided
                    found.append(edit)
                    relied.update(rests)
                    taken = edit.end
        return found

    def _decided(
        self, node: ast.AST, world: World, scope: Scope, asked: set[ast.expr]
    ) -> tuple[Edit, frozenset[str]] | None:
        """The edit, and the fields that it rests on."""
        if isinstance(node, ast.If) and (test := world.truth(node.test, scope)) is not None:
            edit = self._chosen(node, bool(test.value))
            return (edit, test.fields) if edit else None
        if isinstance(node, ast.IfExp) and (test := world.truth(node.test, scope)) is not None:
            return Edit(*self._span(node), self._operand(node.body if test.value else node.orelse)), test.fields
        if isinstance(node, ast.Assert) and (test := world.truth(node.test, scope)) is not None and test.value:
            return self._pass(node), test.fields
        if isinstance(node, ast.BoolOp):
            return self._shortened(node, world, scope, node in asked)
        if isinstance(node, ast.arg) and node.annotation is not None:
            hint = ast.unparse(node.annotation)
            if hint.removesuffix(" | None") in world.unmade and hint.endswith(" | None"):
                return Edit(*self._span(node.annotation), b"None"), frozenset()
        return None

    def _shortened(
        self, node: ast.BoolOp, world: World, scope: Scope, asked: bool
    ) -> tuple[Edit, frozenset[str]] | None:
        """Operands that say nothing go; the last one only where nobody takes its value for the whole's."""
        decisive = isinstance(node.op, ast.Or)
        values = [(part, world.truth(part, scope)) for part in node.values]
        silent = [(part, known) for part, known in values if known is not None and known.value != decisive]
        silent = [(part, known) for part, known in silent if asked or part is not node.values[-1]]
        if not silent or len(silent) == len(values):
            return None
        texts = [self._operand(part) for part in node.values if part not in [gone for gone, _ in silent]]
        rests = frozenset().union(*(known.fields for _, known in silent))
        return Edit(*self._span(node), (b" or " if decisive else b" and ").join(texts)), rests

    def _chosen(self, node: ast.If, taken: bool) -> Edit | None:
        """The whole statement, or its part from this `elif` on, without the test."""
        begin, end = self._starts[node.lineno - 1], self._starts[node.end_lineno or node.lineno]
        elif_ = self._data[self._begin(node) :].startswith(b"elif")
        if b'"""' in self._data[begin:end] or b"'''" in self._data[begin:end]:
            return None  # moving a string's lines would change it
        if taken:
            body = self._block(node.body, node.col_offset + 4 * elif_)
            return Edit(begin, end, b" " * node.col_offset + b"else:\n" + body if elif_ else body)
        if not node.orelse:
            return Edit(begin, end, b"" if elif_ else b" " * node.col_offset + b"pass\n")
        header = self._header(node.orelse)
        if self._lines[header].strip().startswith(b"elif"):
            rest = self._data[self._starts[header] : end]
            return Edit(begin, end, rest if elif_ else rest.replace(b"elif", b"if", 1))
        if elif_:
            return Edit(begin, self._starts[header], b"")
        return Edit(begin, end, self._block(node.orelse, node.col_offset))

    def _block(self, body: list[ast.stmt], column: int) -> bytes:
        """Its lines with the comments above the first one, moved to `column`."""
        lines = self._lines[self._header(body) + 1 : body[-1].end_lineno]
        left = body[0].col_offset - column
        return b"".join(line[left:] if line.strip() else line for line in lines)

    def _header(self, body: list[ast.stmt]) -> int:
        """The line (from 0) of the colon above a block; of an `elif`, its own first one."""
        at = _first_line(body[0]) - 1
        if self._data[self._begin(body[0]) :].startswith(b"elif"):
            return at
        at -= 1
        while not (line := self._lines[at].strip()) or line.startswith(b"#"):
            at -= 1
        return at

    # -- what nothing needs any more --------------------------------------------------------------------------------

    def leftovers(self) -> list[Edit]:
        """Statements that are not reached, `pass` beside others, attributes, methods and definitions without a use."""
        used = _live_uses(self.tree)
        found: list[Edit] = []
        for node in ast.walk(self.tree):
            for body in (getattr(node, "body", []), getattr(node, "orelse", []), getattr(node, "finalbody", [])):
                if isinstance(body, list):
                    found += self._cut(node, [part for part in body if isinstance(part, ast.stmt)], used)
        return found or self._unreached()

    def _cut(self, parent: ast.AST, body: list[ast.stmt], used: set[str]) -> Iterator[Edit]:
        ends = [at for at, statement in enumerate(body) if isinstance(statement, LEAVES)]
        if ends and ends[0] + 1 < len(body):
            yield Edit(self._after(body[ends[0]]), self._after(body[-1]), b"")
            return
        goes = [isinstance(statement, ast.Pass) or _needless(parent, statement, used) for statement in body]
        for at, statement in enumerate(body):
            if goes[at] and (at + 1 < len(body) or not all(goes)):
                yield self._without(body[at - 1] if at else None, statement)
            elif goes[at] and not isinstance(statement, ast.Pass):
                yield self._pass(statement)  # a block cannot be empty

    def _unreached(self) -> list[Edit]:
        """Top-level definitions and imported names that the main part does not lead to."""
        homes: dict[str, list[ast.stmt]] = {}
        for statement in self.tree.body:
            for name in _defined(statement):
                homes.setdefault(name, []).append(statement)
        waiting = [s for s in self.tree.body if not _defined(s) and not isinstance(s, ast.Import | ast.ImportFrom)]
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
        for at, statement in enumerate(self.tree.body):
            before = self.tree.body[at - 1] if at else None
            if isinstance(statement, ast.Import | ast.ImportFrom):
                kept = [a for a in statement.names if (a.asname or a.name.split(".")[0]) in names]
                if len(kept) < len(statement.names):
                    statement.names = kept
                    text = f"{ast.unparse(statement)}\n" if kept else ""
                    found_edits.append(Edit(*self._line_span(statement), text.encode()))
            elif id(statement) not in live:
                found_edits.append(self._without(before, statement))
        return found_edits

    def _without(self, before: ast.stmt | None, statement: ast.stmt) -> Edit:
        """From the end of the statement before it: the comments above go with it, but for a section's banner."""
        begin = self._after(before) if before is not None else self._starts[_first_line(statement) - 1]
        above = self._data[begin : self._starts[_first_line(statement) - 1]]
        banner = above.rfind(b"\n# == ")
        if banner >= 0:
            begin += above.index(b"\n", banner + 1) + 1
        return Edit(begin, self._after(statement), b"")

    # -- places -----------------------------------------------------------------------------------------------------

    def _operand(self, node: ast.expr) -> bytes:
        begin, end = self._span(node)
        text = self._data[begin:end]
        return b"(" + text + b")" if isinstance(node, LOOSE) or b"\n" in text else text

    def _begin(self, node: ast.expr | ast.stmt | ast.arg) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        return self._begin(node), self._starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)

    def _pass(self, node: ast.stmt) -> Edit:
        return Edit(*self._line_span(node), b"pass\n".rjust(node.col_offset + 5))

    def _line_span(self, node: ast.stmt) -> tuple[int, int]:
        return self._starts[node.lineno - 1], self._after(node)

    def _after(self, node: ast.stmt) -> int:
        return self._starts[node.end_lineno or node.lineno]


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


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return []


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
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.attr if isinstance(node, ast.Attribute) else node.id)
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # getattr, quoted annotations
    return found


def _called_by_name(home: ast.ClassDef) -> list[ast.FunctionDef]:
    """Its methods that only our own code calls."""
    if not {ast.unparse(base) for base in home.bases} <= PLAIN_BASES:
        return []
    methods = [part for part in home.body if isinstance(part, ast.FunctionDef)]
    return [method for method in methods if not re.match("__|forward$", method.name)]


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
    if not all(_pure(node) for node in ast.walk(statement.value)):
        return False
    if isinstance(target, ast.Attribute):
        return ast.unparse(target.value) == "self" and target.attr not in used
    return isinstance(target, ast.Name) and isinstance(parent, ast.FunctionDef) and target.id not in _uses(parent)


def _pure(node: ast.AST) -> bool:
    return isinstance(node, PURE) or (isinstance(node, ast.Call) and ast.unparse(node.func) in PURE_CALLS)
