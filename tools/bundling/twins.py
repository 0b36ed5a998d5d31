"""What stands in a single file where a module's definitions cannot, or need not: the same names, said of one file.

text = overlaid(module's text, TWINS[path])      the twin's definitions instead of the module's of those names

What else the module has stays, and goes with everything that nothing names. A submission makes no dataset, draws no
picture (tools.record does), plans nothing, and has its config written out.
"""

import ast

from tools.bundling.text import Edit, Text
from tools.bundling.tree import defined_names


def overlaid(module: str, twin: str) -> str:
    text = Text(module)
    names = {name for statement in ast.parse(twin).body for name in defined_names(statement)}
    own = [statement for statement in text.tree.body if names & set(defined_names(statement))]
    return text.edited([Edit(*text.line_span(statement), b"") for statement in own]) + twin


OWN = "base/source.py"  # {name}, {config} and {sources} are the file's own; what it is settled for is put in at the end

TWINS = {
    OWN: """
import hashlib
from pathlib import Path
from typing import Any

OWN_NAME = {name!r}
OWN_SHA256 = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
OWN_CONFIG = {config}
# Branches that these values do not take are left out of this file.
OWN_SETTLED: dict[str, Any] = {{}}


def code_bytes(file: str | None) -> int:
    return Path(file or __file__).stat().st_size


def sources_sha256() -> str:
    return {sources!r}
""",
    "base/config.py": '''
from base.source import OWN_CONFIG, OWN_SETTLED


def load(cls: type[T], path: str | Path | None, overrides: Sequence[str]) -> T:
    """This file's own config, and `section.key=value` over it; values are JSON, or words."""
    if path is not None:
        raise BadInput(f"{path}: this file has a config of its own; another makes another: python -m tools.bundle")
    layers = [Layer("this file's config", yaml.safe_load(OWN_CONFIG) or {})]
    for text in overrides:
        dotted, equals, value = text.partition("=")
        if not equals:
            raise BadInput(f"'{text}': an override is section.key=value")
        try:
            nested = json.loads(value)
        except ValueError:
            nested = value
        for key in reversed(dotted.split(".")):
            nested = {key: nested}
        layers.append(Layer(f"'{text}'", nested))
    return build(cls, layers)


def build(cls: type[T], layers: Sequence[Layer]) -> T:
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer.values)
    blamed = ", ".join(layer.source for layer in layers[1:] or layers)
    try:  # pydantic's strict mode, as in the repository
        made = TypeAdapter(cls).validate_json(json.dumps(merged, allow_nan=False), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{blamed}: {'.'.join(map(str, first['loc']))} {first['input']!r:.80}: {first['msg']}") from None
    except ValueError as error:  # infinities
        raise BadInput(f"{blamed}: {error}") from None
    plain = to_dict(made)
    for layer in layers:
        _require_known(layer.values, plain, layer.source)
    whole = plain if "model" in plain else {"model": plain} if "rope_base" in plain else {}
    for name, value in OWN_SETTLED.items():
        section, key = name.split(".")
        if (found := whole.get(section, {}).get(key, value)) != value:
            raise BadInput(f"{name} is {found}, and this file is for {value}: python -m tools.bundle")
    return made


def require_divisible(name: str, value: int, by_name: str, by: int) -> None:
    if value < 1 or by < 1 or value % by:
        raise ValueError(f"{name} {value} is not divisible by {by_name} {by}")


def _require_known(said: Any, known: Any, source: str) -> None:
    for key, value in said.items() if isinstance(said, dict) else ():
        if key not in known:
            raise BadInput(f"{source}: unknown key {key}; there are {', '.join(known)}")
        _require_known(value, known[key], source)
''',
    "data/ensure.py": """
from pathlib import Path

from base.errors import BadInput
from data.manifest import MANIFEST


def ensure_dataset(source: str, vocab: int, out: Path) -> None:
    if not (out / MANIFEST).is_file():
        made = f"python -m data.prep {source} --vocab {vocab} --out {out}"
        raise BadInput(f"{out}: no dataset is there, and a single file makes none; in the repository: {made}")
""",
    "engine/plot.py": '''
from pathlib import Path


def plot_losses(folder: Path) -> None:
    """The repository's tools draw it."""
''',
    "model/dial.py": """
from collections.abc import Mapping
from typing import Any


def dial(depth: Any, model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {}
""",
    "model/memory.py": """
from typing import Any

from base.errors import BadInput


def Trainer(**setting: Any) -> None:
    raise BadInput("--dry-run: this file plans nothing; in the repository: python train_gpt.py CONFIG.yaml --dry-run")


def summary(*sizes: Any) -> dict[str, Any]:
    raise AssertionError("there is no Trainer to ask about")
""",
}

# Where every rank has all weights.
UNSHARDED = {
    "engine/shard.py": '''
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from base.errors import BadInput
from engine.device import Device


def placer(kind: str, device: Device) -> Callable[[nn.Module], None]:
    """Puts a module on its device; all ranks have all weights."""
    if kind != "ddp":
        raise BadInput(f"train.shard is {kind}, and this file is for ddp: python -m tools.bundle")

    def place(module: nn.Module) -> None:
        module.to(device.torch)

    return place


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    yield


def value(number: torch.Tensor) -> float:
    return float(number)


def gathered(state: Any) -> Any:
    return state


def spread(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return whole.to(like.device)


def spread_optimizer(whole: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return whole
''',
    "optim/sharded.py": """
from collections.abc import Callable
from typing import Any

import torch

Turned = Callable[[list[torch.Tensor]], list[torch.Tensor]]


def is_sharded(tensor: torch.Tensor) -> bool:
    return False


def held(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def turned_sharded(*matrices: Any) -> list[torch.Tensor]:
    raise AssertionError("no rank has a part of a matrix")
""",
}
