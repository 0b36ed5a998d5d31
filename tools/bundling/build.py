"""The single file of a run: what train_gpt.py reaches, with the run's config as its default.

built = bundle(config, packed=True)        built.data is the file; built.sources: path -> sha256 of what it is made of
"""

from dataclasses import dataclass, replace
from pathlib import Path
from pprint import pformat
from typing import Any

import yaml

from base.code import bare
from base.config import load, to_dict
from tools.bundling.join import readable
from tools.bundling.modules import read_modules
from tools.bundling.packed import minified, self_extracting
from train_gpt import DEFAULT, RunConfig

ROOT = Path(__file__).parents[2]
ENTRY, OWN = "train_gpt.py", "base/code.py"
# What stands in the place of base/code.py: the same names, said of a single file.
OWN_TEXT = '''
import hashlib
from pathlib import Path

OWN_NAME = {name!r}
OWN_SHA256 = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
OWN_CONFIG = {config}
OWN_SOURCES = {sources}


def code_bytes(file: str | None) -> int:
    """Of this file, as it lies on disk."""
    return Path(file or __file__).stat().st_size


def sources() -> dict[str, str]:
    """What it was made of: repository path -> sha256."""
    return OWN_SOURCES
'''


@dataclass(frozen=True)
class Bundle:
    data: bytes
    sources: dict[str, str]


def bundle(config: RunConfig | None, packed: bool, name: str = "train_gpt", root: Path = ROOT) -> Bundle:
    """`config` None: that of train_gpt.py's own default; `name`: of the run's folder."""
    config = load(RunConfig, ROOT / DEFAULT) if config is None else config
    modules = read_modules(root, ENTRY)
    sources = {module.path: module.sha256 for module in sorted(modules, key=lambda module: module.path)}
    said = yaml.safe_dump(_differing(to_dict(config), to_dict(RunConfig())), sort_keys=False, allow_unicode=True)
    plain = packed or '"' in said or "\\" in said
    own = OWN_TEXT.format(
        name=name, config=repr(said) if plain else f'"""\\\n{said}"""', sources=pformat(sources, width=118)
    )
    modules = [replace(module, text=own, replaced=True) if module.path == OWN else module for module in modules]
    if not packed:
        return Bundle(readable(root, modules).encode(), sources)
    readable(root, modules)  # so that broken rules are told with the lines of the real files
    modules = [replace(module, text=bare(module.text)) for module in modules]
    return Bundle(self_extracting(minified(readable(root, modules, docstring=False))), sources)


def _differing(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            if inner := _differing(value, defaults[key]):
                found[key] = inner
        elif value != defaults[key]:
            found[key] = value
    return found
