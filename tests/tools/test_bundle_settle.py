"""tools.bundling.settle: what a config settles goes, comments stay, and what is left does the same as before."""

import ast
import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from tools.bundling.names import free_names
from tools.bundling.settle import settled


@dataclass(frozen=True)
class ModelConfig:
    kind: Literal["a", "b", "c"] = "a"
    flag: bool = False
    count: int = 0
    gain: float | None = None


@dataclass(frozen=True)
class QuantConfig:
    size: int = 0
    way: str = "x"


@dataclass(frozen=True)
class RunConfig:
    seed: int = 1
    model: ModelConfig = field(default_factory=ModelConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)


def left(source: str, **model: Any) -> str:
    return settled(source, RunConfig(model=ModelConfig(**model)))[0]


CHAIN = """
def f(config: ModelConfig):
    # above
    if config.kind == "a":
        # of a
        x = 1  # one
    elif config.kind == "b":
        x = 2
    else:
        # of c
        x = 3
    return x
f(m)
"""


@pytest.mark.parametrize(
    ("kind", "body"),
    [("a", "    # of a\n    x = 1  # one\n"), ("b", "    x = 2\n"), ("c", "    # of c\n    x = 3\n")],
)
def test_of_a_chain_of_branches_the_one_that_is_taken_is_left_with_its_comments(kind: str, body: str) -> None:
    expected = f"\ndef f(config: ModelConfig):\n    # above\n{body}    return x\nf(m)\n"
    assert left(CHAIN, kind=kind) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return 1 if config.flag else 2", "return 2"),
        ("return config.flag and y or z", "return z"),
        ("return 1 if y and not config.flag else 2", "return 1 if y else 2"),
        ("return not (y or config.flag)", "return not (y)"),
        ("return not config.flag and (y or z)", "return (y or z)"),
        ("x = y and not config.flag\n    return x", "x = y and not config.flag\n    return x"),
        ("return y if config.kind in ('a', 'b') and config.count == 0 else z", "return y"),
        ("if y:\n        return 1\n    elif config.flag:\n        return 2\n    return 3",
         "if y:\n        return 1\n    return 3"),
        ("if y:\n        return 1\n    elif not config.flag:\n        return 2",
         "if y:\n        return 1\n    else:\n        return 2"),
        ("if not config.flag:\n        return y\n    return z", "return y"),
        ("x = y.z\n    if config.flag:\n        return x\n    return y", "return y"),
        ("assert config.gain is None\n    return y", "return y"),
        ("if config.flag:\n        return 1\n    else:\n        # why\n        return y", "# why\n    return y"),
        ("if config.count and y:\n        raise ValueError(\n            'one'\n            'two'\n        )\n"
         "    return y", "return y"),
    ],
)  # fmt: skip
def test_what_a_known_test_decides(before: str, after: str) -> None:
    head = "def f(config: ModelConfig, y, z):\n    "
    assert left(f"{head}{before}\nf(m, n, o)\n") == f"{head}{after}\nf(m, n, o)\n"


def test_attributes_classes_and_parameters_that_can_have_one_value_are_known() -> None:
    source = """
class Cache:
    pass
class Part:
    def __init__(self, config: ModelConfig, scale):
        self.gate = Cache2() if config.flag else None
        self.kind, self.scale = config.kind, scale
    def __call__(self, x, cache: Cache | None):
        if self.gate is not None or cache is not None:
            x = helper(x, 0)
        if self.kind != "a" or self.scale != 1.0:
            x = self.other(x)
        return helper(x, 1)
    def other(self, x):
        return x
def helper(x, mode):
    return x if mode == 1 else -x
class Cache2:
    pass
def main(config: ModelConfig):
    part = Part(config, 1.0)
    if part.kind == "b":
        return None
    return part(3, None)
main(m)
"""
    text = left(source)
    assert "Cache" not in text
    assert "def other" not in text
    assert "if " not in text
    assert "def helper(x, mode):\n    return x\n" in text


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("def f(config: ModelConfig):\n    c = replace(config, flag=True)\n"
         "    return c.flag if config.flag else 0\nf(m)\n", "if config.flag"),
        ("class P:\n    def __init__(self, config: ModelConfig):\n        self.on = config.flag\n"
         "    def run(self):\n        return 1 if self.on else 2\n"
         "def g(p: P):\n    p.on = True\n    return p.run()\ng(P(m))\n", "if self.on"),
        ("def f(x):\n    return 1 if x else 2\nmap(f, [0])\nf(0)\n", "if x"),
        ("def f(x):\n    return 1 if x else 2\nf(0)\nf(*y)\n", "if x"),
        ("def f(x=0):\n    def g(x):\n        return 1 if x else 2\n    return g(1)\nf()\n", "if x"),
        ("def f(config: ModelConfig):\n    on = config.flag\n    on = h()\n    return 1 if on else 2\nf(m)\n", "if on"),
        ("def f(config: ModelConfig):\n    if config.flag:\n        return '''a\n        b'''\n    return 2\nf(m)\n",
         "if config.flag"),
        ("def f(config: QuantConfig):\n    return 1 if config.size else 2\nf(m)\n", "if config.size"),
        ("def f(config: ModelConfig):\n    return 1 if q.pop() and config.flag else 2\nf(m)\n",
         "q.pop() and config.flag"),
        ("def f(config: ModelConfig):\n    return 1 if config.flag else 2\nf(ModelConfig(flag=True))\n",
         "if config.flag"),
        ("def f(config: ModelConfig):\n    c = replace(config, **y)\n    return c.flag if config.flag else 0\nf(m)\n",
         "if config.flag"),
        ("class P:\n    on = False\n    def run(self):\n        self.on = True\n    def told(self):\n"
         "        return 1 if self.on else 2\np = P()\np.run()\np.told()\n", "if self.on"),
        ("class P:\n    def __init__(self):\n        self.on = False\nclass Q(P):\n    def __init__(self):\n"
         "        self.on = True\ndef f(p: P):\n    return 1 if p.on else 2\nf(Q())\n", "if p.on"),
        ("class P:\n    def __init__(self):\n        self.on = False\n        (self.on, self.b), c = y\n"
         "    def run(self):\n        return 1 if self.on else self.b\nP().run()\n", "if self.on"),
        ("def f():\n    w = None\n    try:\n        y()\n    except ValueError as w:\n        pass\n"
         "    return 1 if w is None else 2\nf()\n", "if w is None"),
        ("class Part:\n    pass\n@dataclass\nclass Whole:\n    part: Part | None\ndef f(part: Part | None):\n"
         "    return 1 if part else 2\nf(y)\ng(Whole)\n", "if part"),
        ("def f():\n    n = 0\n    n += 1\nf()\n", "n = 0"),
        ("class P(nn.Module):\n    def extra_repr(self):\n        return ''\n    def forward(self):\n        return 1\n"
         "P()()\n", "def extra_repr"),
        ("def f(config: RunConfig):\n    return 1 if config.seed == 1 else 2\nf(m)\n", "if config.seed"),
    ],
)  # fmt: skip
def test_what_may_vary_is_left_alone(source: str, kept: str) -> None:
    text, values = settled(source, RunConfig(quant=QuantConfig(size=7)))
    assert kept in text
    assert not values


def test_an_operand_is_its_value_and_a_generator_keeps_its_yield() -> None:
    text = left("def f(config: ModelConfig):\n    x = config.count or y\n    return 1 if x == 3 else 2\nf(m)\n")
    assert text == "def f(config: ModelConfig):\n    x = y\n    return 1 if x == 3 else 2\nf(m)\n"
    text = left("def f(config: ModelConfig):\n    if not config.flag:\n        return\n    yield 1\nlist(f(m))\n")
    assert text == "def f(config: ModelConfig):\n    return\n    yield 1\nlist(f(m))\n"


def test_the_fields_that_were_relied_on_are_named() -> None:
    source = "def f(config: RunConfig):\n    return 1 if config.model.kind == 'a' and config.quant.size else 2\nf(m)\n"
    assert settled(source, RunConfig())[1] == {"quant.size": 0}
    assert settled(source, RunConfig(quant=QuantConfig(size=1)))[1] == {"model.kind": "a", "quant.size": 1}


PROGRAM = '''
"""Doc."""
# == one.py sha256 0 ==
import math
from os.path import join

class Scale:
    def __init__(self, by: float) -> None:
        self.by = by

    def used(self, x: float) -> float:
        return x * self.by

    def unused(self) -> str:
        return join("a", "b")

class Part:
    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.scale = Scale(2.0) if config.kind == "c" else None
        self.gain = config.gain if config.gain is not None else 1.0
        self.kind = config.kind

    def run(self, x: float) -> float:
        if self.scale is not None:  # c
            x = self.scale.used(x)
        if self.kind == "a" and self.config.flag:
            x += 1
        elif self.kind == "b" or not self.config.flag:
            # either
            x -= 1
            if self.config.count:
                x -= math.floor(2.5)
        else:
            x *= 10
        return x * self.gain if self.gain != 1.0 else x

# == two.py sha256 0 ==

def twice(x: float, times: int = 2) -> float:
    return x * times if times else 0.0

def everything(config: RunConfig) -> list[float]:
    part = Part(config.model)
    found = [part.run(x) for x in (1.0, 2.5)]
    if config.model.count == 2:
        found.append(twice(3.0))
    way = config.quant.way
    for word in ("x", "y"):
        found.append(1.0 if way == word else 0.0)
    return found

if config:
    result = everything(config)
'''


@pytest.mark.parametrize(
    ("kind", "flag", "count", "gain", "way"),
    list(itertools.product("abc", [False, True], [0, 1, 2], [None, 1.5], ["x", "y"])),
)
def test_what_is_left_of_a_program_computes_the_same(
    kind: Any, flag: bool, count: int, gain: float | None, way: str
) -> None:
    config = RunConfig(model=ModelConfig(kind, flag, count, gain), quant=QuantConfig(way=way))
    text, _ = settled(PROGRAM, config)
    assert len(text) < len(PROGRAM)
    assert "unused" not in text
    assert text.count("# == ") == 2
    results = []
    for source in (PROGRAM, text):
        space = {"config": config, "ModelConfig": ModelConfig, "RunConfig": RunConfig}
        exec(source, space)
        results.append(space["result"])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(a, b=c):\n    d = a\n    return d + e", {"c", "e"}),
        ("def f():\n    return [g for g in h] + g", {"g", "h"}),
        ("def f():\n    def g(x):\n        return x + y\n    return g(1)", {"y"}),
        ("class A(B):\n    x: C = D\n    def m(self) -> 'E':\n        return x", {"B", "C", "D", "E", "x"}),
        ("x = lambda y: y + z", {"z"}),
    ],
)
def test_free_names_are_those_of_the_scopes(source: str, names: set[str]) -> None:
    assert free_names(ast.parse(source).body[0]) - {"f", "A"} == names
