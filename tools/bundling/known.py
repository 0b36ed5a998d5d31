"""What is known of an expression before the program runs: the run's config, and what follows from it.

    world = World(tree, {"RunConfig": ("", config), "ModelConfig": ("model", config.model), …}, settles)
    world.value(node, scope)        Fixed(value, fields), Made(class) or None: nothing is known

`tree` is one text with one namespace (tools.bundling.join). A config's fields are known by the annotations that name
their classes; attributes by what their class's own methods assign to them; parameters by what all calls give them; and
what is annotated `X | None` is None where nothing makes an X. Every answer says which fields of the config it rests on.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import nn

from tools.bundling.bindings import Bound, assignments, bindings
from tools.bundling.names import pure

Function = ast.FunctionDef
# They call none of our methods, but for those that nn.Module has itself.
PLAIN_BASES = {"nn.Module", "Protocol", "NamedTuple"}


@dataclass(frozen=True)
class Fixed:
    value: Any
    fields: frozenset[str] = frozenset()  # section.field


@dataclass(frozen=True)
class Made:
    """Something that is not None: an instance of a class of ours, or of another ("")."""

    name: str
    fields: frozenset[str] = frozenset()


Known = Fixed | Made | None


@dataclass(frozen=True)
class Scope:
    function: Function | None = None
    owner: str = ""  # the class whose method it is


class World:
    def __init__(
        self, tree: ast.Module, sections: Mapping[str, tuple[str, Any]], settles: Callable[[str, Any], bool]
    ) -> None:
        """`sections`: class -> its name in the config and its values; `settles`: may this field be relied on?"""
        self._sections, self._settles = dict(sections), settles
        self._classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        # What a base or a subclass gives an attribute is not looked for.
        bases = {
            name: {_name(base) for base in node.bases} & set(self._classes) for name, node in self._classes.items()
        }
        self._related = {name for name in bases if bases[name]}.union(*bases.values())
        self._functions: dict[str, list[tuple[Function, str]]] = {}
        self.scopes: list[Scope] = []
        self._places: dict[ast.AST, Scope] = {}
        for node in tree.body:
            owner = node.name if isinstance(node, ast.ClassDef) else ""
            for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
                scope = Scope(inner if isinstance(inner, Function) else None, owner)
                self.scopes += [scope] if scope.function else []
                self._places |= dict.fromkeys(ast.walk(inner), scope)
                if isinstance(inner, Function):
                    self._functions.setdefault(inner.name, []).append((inner, owner))
        self._read(tree)
        self._busy: set[int] = set()  # what is being asked for: an answer that rests on itself is none

    def _read(self, tree: ast.Module) -> None:
        stated = {id(part) for home in self._classes.values() for part in home.body}  # fields: pydantic makes those
        hinting = [node for node in ast.walk(tree) if id(node) not in stated]
        hints = {id(n) for node in hinting for hint in _hints(node) for n in ast.walk(hint)}
        self._calls: dict[tuple[type, str], list[ast.Call]] = {}  # of a name, or of an attribute
        self._said: dict[tuple[type, str], int] = {}  # how often it is read
        # (class, attribute) -> what its methods give it; ("", attribute) -> what others give one of that name
        self._assigned: dict[tuple[str, str], list[ast.expr | None]] = {}
        self._answers: dict[tuple[int, str], Known] = {}  # (function, name)
        self._bound: dict[int, dict[str, list[Bound]]] = {}  # function -> name -> what binds it
        self._varied: set[str | None] = set()  # fields that `replace` gives other values; None: any
        outside: set[str] = set()
        for node in ast.walk(tree):
            scope = self._places.get(node, Scope())
            if isinstance(node, ast.Call) and (name := _name(node.func)):
                self._calls.setdefault((type(node.func), name), []).append(node)
                self._sections.pop(name, None)  # a second one, of other values
                if name == "replace":
                    self._varied |= {word.arg for word in node.keywords}
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in hints:
                self._said[type(node), _name(node)] = self._said.get((type(node), _name(node)), 0) + 1
                if isinstance(node, ast.Name) and node.id != scope.owner:
                    outside.add(node.id)
            if isinstance(node, ast.ClassDef):
                for part in node.body:
                    for target, _ in assignments(part):
                        self._assigned.setdefault((node.name, _name(target)), []).append(None)
            for target, value in assignments(node):
                if isinstance(target, ast.Attribute):
                    own = isinstance(target.value, ast.Name) and target.value.id == "self"
                    self._assigned.setdefault((scope.owner if own else "", target.attr), []).append(value)
        self.unmade = set(self._classes) - outside

    # -- expressions ------------------------------------------------------------------------------------------------

    def value(self, node: ast.expr, scope: Scope) -> Known:
        if id(node) in self._busy:
            return None
        self._busy.add(id(node))
        try:
            return self._value(node, scope)
        finally:
            self._busy.discard(id(node))

    def _value(self, node: ast.expr, scope: Scope) -> Known:
        match node:
            case ast.Constant():
                return Fixed(node.value)
            case ast.Tuple():
                parts = [self.value(part, scope) for part in node.elts]
                if all(isinstance(part, Fixed) for part in parts):
                    return Fixed(tuple(p.value for p in parts), _union(parts))  # type: ignore[union-attr]
            case ast.Name():
                return self._named(node.id, scope)
            case ast.Attribute():
                base = self.value(node.value, scope)
                return self._attribute(base.name, node.attr, base.fields) if isinstance(base, Made) else None
            case ast.Call():
                name = _name(node.func)
                if name in self._classes and isinstance(node.func, ast.Name):
                    return Made(name)
                if isinstance(node.func, ast.Attribute) and _name(node.func.value) == "nn" and name[:1].isupper():
                    return Made("")
            case ast.IfExp():
                if (test := self.truth(node.test, scope)) is not None:
                    return _resting(self.value(node.body if test.value else node.orelse, scope), test.fields)
            case ast.Compare(ops=[how], comparators=[other]):
                return self._compared(how, self.value(node.left, scope), self.value(other, scope))
            case ast.UnaryOp(op=ast.Not()):
                return self.truth(node, scope)
            case ast.BoolOp():
                return self._deciding(node, scope)
        return None

    def _deciding(self, node: ast.BoolOp, scope: Scope) -> Known:
        """The operand whose value is the whole's."""
        resting = frozenset[str]()
        for part in node.values:
            found = self.value(part, scope)
            if not isinstance(found, Fixed):
                return None
            resting |= found.fields
            if part is node.values[-1] or bool(found.value) == isinstance(node.op, ast.Or):
                return Fixed(found.value, resting)
        return None

    def truth(self, node: ast.expr, scope: Scope) -> Fixed | None:
        """Whether it holds, where that is known and looking does nothing else."""
        if isinstance(node, ast.BoolOp):
            return self._joined(node, scope)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            test = self.truth(node.operand, scope)
            return Fixed(not test.value, test.fields) if test else None
        found = self.value(node, scope) if pure(node) else None
        return Fixed(bool(found.value), found.fields) if isinstance(found, Fixed) else None

    def _joined(self, node: ast.BoolOp, scope: Scope) -> Fixed | None:
        """One operand may decide, whatever the others are, if those before it do nothing."""
        parts: list[Fixed | None] = []
        for operand in node.values:
            test = self.truth(operand, scope)
            if test is not None and test.value == isinstance(node.op, ast.Or):
                return test
            if test is None and not pure(operand):
                return None
            parts.append(test)
        return Fixed(isinstance(node.op, ast.And), _union(parts)) if all(parts) else None

    @staticmethod
    def _compared(how: ast.cmpop, left: Known, right: Known) -> Fixed | None:
        if isinstance(how, ast.Is | ast.IsNot) and isinstance(right, Fixed) and right.value is None and left:
            return Fixed((isinstance(left, Fixed) and left.value is None) == isinstance(how, ast.Is), left.fields)
        if isinstance(left, Fixed) and isinstance(right, Fixed) and (test := COMPARED.get(type(how))):
            try:
                return Fixed(test(left.value, right.value), left.fields | right.fields)
            except TypeError:  # what a test before this one rules out
                return None
        return None

    # -- names ------------------------------------------------------------------------------------------------------

    def _named(self, name: str, scope: Scope) -> Known:
        key = (id(scope.function), name)
        if key not in self._answers:
            self._answers[key] = self._local(name, scope) if scope.function else None
        return self._answers[key]

    def _local(self, name: str, scope: Scope) -> Known:
        function = scope.function
        assert function is not None
        if id(function) not in self._bound:
            self._bound[id(function)] = bindings(function)
        bound = self._bound[id(function)].get(name, [])
        if len(bound) != 1 or bound[0] is None:
            return None
        if not isinstance(bound[0], ast.arg):
            return self.value(bound[0], scope)
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        if bound[0] not in arguments:
            return None  # an inner function's
        own = name == "self" and bound[0] is arguments[0] and scope.owner
        return Made(scope.owner) if own else self._parameter(bound[0], scope)

    def _parameter(self, argument: ast.arg, scope: Scope) -> Known:
        hint = ast.unparse(argument.annotation).strip("'\"") if argument.annotation else ""
        if hint in self._classes or hint in self._sections:
            return Made(hint)
        if hint == "None" or hint.removesuffix(" | None") in self.unmade:
            return Fixed(None)
        return self._given(argument, scope)

    def _given(self, argument: ast.arg, scope: Scope) -> Known:
        """What every call gives it, where all are known and give the same."""
        function = scope.function
        assert function is not None
        making = function.name == "__init__"
        name = (ast.Name, scope.owner) if making else (ast.Attribute if scope.owner else ast.Name, function.name)
        calls = self._calls.get(name, [])
        plain = not function.decorator_list and (
            making or not scope.owner or ours_alone(self._classes[scope.owner], function)
        )
        alone = making or len(self._functions[function.name]) == 1
        if not (plain and alone and calls) or len(calls) != self._said.get(name, 0):
            return None
        positional = [*function.args.posonlyargs, *function.args.args][1 if scope.owner else 0 :]
        default = dict(zip(reversed(positional), reversed(function.args.defaults), strict=False))
        default |= {a: d for a, d in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if d}
        found: list[Known] = []
        for call in calls:
            if any(isinstance(a, ast.Starred) for a in call.args) or any(word.arg is None for word in call.keywords):
                return None
            at = positional.index(argument) if argument in positional else len(call.args)
            said = call.args[at] if at < len(call.args) else None
            said = next((word.value for word in call.keywords if word.arg == argument.arg), said)
            given = default.get(argument) if said is None else said
            where = self._places.get(call, Scope())
            found.append(self.value(given, scope if said is None else where) if given is not None else None)
        return _same(found)

    def _attribute(self, owner: str, name: str, resting: frozenset[str]) -> Known:
        if owner in self._sections:
            return self._field(owner, name)
        if owner not in self._classes or (owner, name) not in self._assigned:
            return self._property(owner, name)
        if owner in self._related or (ast.Name, "setattr") in self._said:
            return None
        given = [*self._assigned[owner, name], *self._assigned.get(("", name), [])]
        places = [self._places.get(value) if value is not None else None for value in given]
        return _resting(
            _same([self.value(v, p) if v is not None and p else None for v, p in zip(given, places, strict=True)]),
            resting,
        )

    def _field(self, owner: str, name: str) -> Known:
        section, config = self._sections[owner]
        hints = {field.name: str(field.type) for field in fields(config)}
        if name not in hints:
            return self._property(owner, name)
        value = getattr(config, name)
        if is_dataclass(value):
            return Made(type(value).__name__)
        dotted = f"{section}.{name}" if section else name
        if not self._varied & {name, None} and self._settles(dotted, value):
            return Fixed(value, frozenset([dotted]))
        return None if "None" in hints[name] else Made("")

    def _property(self, owner: str, name: str) -> Known:
        for function, home in self._functions.get(name, []):
            body = [s for s in function.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            properties = [d for d in function.decorator_list if _name(d) == "property"]
            if home == owner and properties and len(body) == 1 and isinstance(body[0], ast.Return) and body[0].value:
                return self.value(body[0].value, Scope(function, owner))
        return None


COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


def ours_alone(home: ast.ClassDef, method: ast.FunctionDef) -> bool:
    """Whether only our own code calls this method, by its name."""
    bases = {ast.unparse(base) for base in home.bases}
    torchs = "nn.Module" in bases and hasattr(nn.Module, method.name)
    return bases <= PLAIN_BASES and not method.name.startswith("__") and not torchs


def _same(found: list[Known]) -> Known:
    """What all of them are: one value, or something that is not None."""
    if not found or None in found:
        return None
    if all(isinstance(one, Fixed) for one in found) and len({(type(o.value), o.value) for o in found}) == 1:  # type: ignore[union-attr]
        return Fixed(found[0].value, _union(found))  # type: ignore[union-attr]
    made = {one.name if isinstance(one, Made) else "" for one in found}
    somebody = all(isinstance(one, Made) or (isinstance(one, Fixed) and one.value is not None) for one in found)
    return Made(made.pop() if len(made) == 1 else "", _union(found)) if somebody else None


def _union(parts: Any) -> frozenset[str]:
    return frozenset().union(*(part.fields for part in parts))


def _resting(found: Known, on: frozenset[str]) -> Known:
    if isinstance(found, Fixed):
        return Fixed(found.value, found.fields | on)
    return Made(found.name, found.fields | on) if found else None


def _name(node: ast.AST) -> str:
    """The last part of a dotted name; "" for anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _hints(node: ast.AST) -> list[ast.expr]:
    return [hint for hint in (getattr(node, "annotation", None), getattr(node, "returns", None)) if hint is not None]
