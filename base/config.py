"""Strict configuration: YAML + `extends` + `key=value` -> a frozen dataclass, or one line that says what is wrong.

Later wins: the dataclass's defaults, what `extends` names, the file, `key=value` on the command line. Errors name where
the value came from and the nearest thing that would be right.

    config = load(RunConfig, "configs/demo.yaml", ["model.dim=256", "quant.bits=mlp=5,attn=6"])
"""

import copy
import dataclasses
import difflib
import itertools
import json
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from base.errors import BadInput

T = TypeVar("T")
DEEPEST = 16  # sections within sections; nobody means more
NOT_YAML = (yaml.YAMLError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)


class Layer(NamedTuple):
    """Some values and where they were written, for the error that may follow."""

    source: str
    values: dict[str, Any]


def load(cls: type[T], path: str | Path | None = None, overrides: Sequence[str] = (), own: str = "") -> T:
    """From a file and overrides to a checked `cls`. No file: `own`, which is YAML, or the defaults."""
    if path is not None:
        layers = read_layers(Path(path))
    else:
        layers = [Layer("this file's config", parse_yaml(own, "this file's config"))] if own else []
    return build(cls, _dialled(cls, [*([layer] for layer in layers), [*map(parse_override, overrides)]]))


def build(cls: type[T], layers: Sequence[Layer]) -> T:
    """Merge layers, later ones winning key by key, and check the result."""
    merged: dict[str, Any] = {}
    for layer in layers:
        _check_keys(cls, layer.values, "", layer.source)
        _merge(merged, layer.values)
    try:  # the JSON road is pydantic's strict one that still takes a mapping for a dataclass and 1 for a float
        built: T = _adapter(cls).validate_json(json.dumps(merged), strict=True)
    except ValidationError as error:
        raise BadInput(_explain(layers, error)) from None
    return built


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}  # making one takes milliseconds


def _adapter(cls: Any) -> TypeAdapter[Any]:
    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = TypeAdapter(cls)
    return _ADAPTERS[cls]


def to_dict(config: Any) -> dict[str, Any]:
    """Plain data that `build` turns back into an equal config: what runs, checkpoints and artifacts store."""
    plain: dict[str, Any] = json.loads(_adapter(type(config)).dump_json(config))
    return plain


def to_yaml(config: Any) -> str:
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


# -- rules that the owners of configs share -------------------------------------------------------------------------


def require_divisible(name: str, value: int, by_name: str, by: int) -> None:
    """Refuse a shape that does not split evenly, with the nearest divisors below and above."""
    if value < 1:
        raise ValueError(f"{name} {value} is not a positive size; use 1 or more")
    if by >= 1 and value % by == 0:
        return
    small = [n for n in range(1, math.isqrt(value) + 1) if value % n == 0]
    legal = sorted({*small, *(value // n for n in small)})
    near = [*[n for n in legal if n < by][-1:], *[n for n in legal if n > by][:1]]
    raise ValueError(f"{name} {value} is not divisible by {by_name} {by}; use {' or '.join(map(str, near))}")


# -- reading --------------------------------------------------------------------------------------------------------


def _yaml12_resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """YAML 1.2's core scalars by their first letters: `off` is a word and 1e-3 a number (1.1 has them otherwise)."""
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, firsts in (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),  # 010 is a word: some read it as eight, some as ten
        ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789"),
    ):
        for first in firsts:
            found.setdefault(first, []).append((f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$")))
    return found


class _Yaml12(yaml.SafeLoader):
    yaml_implicit_resolvers: typing.ClassVar[dict[str, Any]] = _yaml12_resolvers()  # type: ignore[misc]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for at, key in enumerate(keys):
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not a word", node.start_mark)
            if key in keys[:at]:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> Any:
    try:
        value = yaml.load(text, _Yaml12)
        json.dumps(value, allow_nan=False)  # dates, infinities, nodes that hold themselves have no place in a config
    except NOT_YAML as error:
        raise BadInput(f"{source}: not YAML: {' '.join(str(error).split())}") from None
    return value


def read_layers(path: Path) -> list[Layer]:
    """The file's layer, after those of the file it `extends` (a path relative to it), and so on down."""
    chain: list[Path] = []
    layers: list[Layer] = []
    here: Path | None = path
    while here is not None:
        try:
            place = here.resolve()
            text = here.read_text(encoding="utf-8")
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a symlink to itself
            raise BadInput(f"{here!s:.200}: cannot be read as a config: {error}") from None
        if place in chain:
            raise BadInput(f"{here}: extends itself, by way of {' -> '.join(p.name for p in chain)}")
        chain.append(place)
        values = parse_yaml(text, str(here))
        values = {} if values is None else values
        if not isinstance(values, dict):
            raise BadInput(f"{here}: a config is sections of 'key: value' lines, not {values!r}")
        base = values.pop("extends", None)
        if base is not None and not isinstance(base, str):
            raise BadInput(f"{here}: extends names one file, not {base!r}")
        layers.insert(0, Layer(str(here), values))
        here = here.parent / base if base is not None else None
    return layers


def parse_override(text: str) -> Layer:
    """`section.key=value`; the value is YAML, and may itself hold `=`."""
    dotted, equals, value = text.partition("=")
    if not equals or not dotted.strip() or dotted.count(".") > DEEPEST:
        raise BadInput(f"'{text:.200}': an override is section.key=value")
    nested: Any = parse_yaml(value, text)
    for key in reversed(dotted.strip().split(".")):
        nested = {key: nested}
    return Layer(f"'{text}'", nested)


def _dialled(cls: Any, groups: Sequence[Sequence[Layer]]) -> list[Layer]:
    """A section's `dials` (such as model.depth) as the values that they give to all sections: below everything in the
    same file or on the command line, and above what came before."""
    hints = typing.get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}
    dials = [(key, *dial) for key, hint in hints.items() for dial in getattr(_section(hint), "dials", {}).items()]
    merged: dict[str, Any] = {}
    for layer in itertools.chain(*groups):
        _merge(merged, layer.values)
    found: list[Layer] = []
    for group in groups:
        plain = copy.deepcopy(group)
        for layer, (key, name, expand) in itertools.product(plain, dials):
            section = layer.values.get(key)
            if not isinstance(section, dict) or name not in section:
                continue
            complete = merged[key] if isinstance(merged[key], dict) else section  # else: refused where keys are checked
            try:
                found.append(Layer(layer.source, expand(section.pop(name), complete)))
            except ValueError as error:
                raise BadInput(f"{layer.source}: {key}.{error}") from None
        found += plain
    return found


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)  # so that layers stay as they were read


# -- errors that name the way out -----------------------------------------------------------------------------------


def _check_keys(cls: Any, values: Any, at: str, source: str) -> None:
    section = _section(cls)
    if section is None and isinstance(values, list):
        for number, item in enumerate(values):
            for inner in typing.get_args(cls):
                _check_keys(inner, item, f"{at}.{number}", source)
    if section is None or values is None:
        return
    if not isinstance(values, dict):
        raise BadInput(f"{source}: {at or 'a config'} is a section of 'key: value' lines, not {values!r}")
    hints = typing.get_type_hints(section)
    for key, value in values.items():
        dotted = f"{at}.{key}" if at else str(key)
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.0)
            raise BadInput(f"{source}: unknown key {dotted}; nearest: {f'{at}.' if at else ''}{near[0]}")
        _check_keys(hints[key], value, dotted, source)


def _explain(layers: Sequence[Layer], error: ValidationError) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    source = _blamed(layers, path)
    at = ".".join(path) or "config"
    if first["type"] == "missing":
        return f"{source}: {at} is missing"
    rule = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":  # a rule of the owner's __post_init__: it names its own values
        return f"{' and '.join(_touching(layers, path)) or 'defaults'}: {at}: {rule}"
    if first["type"] == "literal_error":
        legal = [word.strip("'") for word in re.split(", | or ", first["ctx"]["expected"])]
        near = difflib.get_close_matches(str(first["input"]), legal, n=1, cutoff=0.0)
        return f"{source}: {at}: {_short(first['input'])} is not one of {', '.join(legal)}; nearest: {near[0]}"
    return f"{source}: {at}: {_short(first['input'])}: {rule[0].lower()}{rule[1:]}"


def _short(value: Any) -> str:
    spelled = repr(value)
    return spelled if len(spelled) <= 80 else f"{spelled[:77]}…"


def _blamed(layers: Sequence[Layer], path: Sequence[str]) -> str:
    """Who wrote the value at `path`: the last layer that goes furthest along it (list indices end the way)."""
    depths = [_depth(layer.values, path) for layer in layers]
    if not depths or not max(depths):
        return "defaults"
    return max(zip(depths, range(len(layers)), layers, strict=True))[2].source


def _touching(layers: Sequence[Layer], path: Sequence[str]) -> list[str]:
    """All who wrote something into the section at `path`: a rule between its keys may be broken by any of them."""
    return [layer.source for layer in layers if _depth(layer.values, path) == len(path)]


def _depth(values: Any, path: Sequence[str]) -> int:
    depth = 0
    for key in path:
        if not isinstance(values, dict) or key not in values:
            break
        values = values[key]
        depth += 1
    return depth


def _section(hint: Any) -> Any:
    """The dataclass behind a type hint (`Section` or `Section | None`), or None for a plain value."""
    if dataclasses.is_dataclass(hint):
        return hint
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next((arm for arm in typing.get_args(hint) if dataclasses.is_dataclass(arm)), None)
    return None
