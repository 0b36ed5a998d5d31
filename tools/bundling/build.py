"""The single file of a run: what train_gpt.py reaches, with the run's config as its default.

built = bundle(config, packed=True)        built.data is the file; built.sources: path -> sha256 of what it is made of
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from pprint import pformat
from typing import Any

import yaml

from base.config import load, to_dict
from base.source import bare, hash_of
from run_config import DEFAULT, RunConfig
from tools.bundling.join import readable
from tools.bundling.modules import read_modules
from tools.bundling.packed import minified, self_extracting
from tools.bundling.settle import settled
from tools.bundling.twins import OWN, TWINS, UNSHARDED, overlaid

ROOT = Path(__file__).parents[2]
ENTRY = "train_gpt.py"


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
    quoted = packed or '"' in said or "\\" in said
    written = repr(said) if quoted else f'"""\\\n{said}"""'
    own = TWINS[OWN].format(name=name, config=written, sources=hash_of(sources))
    texts = TWINS | ({} if config.train.shard == "fsdp" else UNSHARDED) | {OWN: own}
    modules = [
        replace(m, text=overlaid(m.text, texts[m.path]), replaced=True) if m.path in texts else m for m in modules
    ]
    text, values = settled(readable(root, modules, docstring=not packed), config)
    if not packed:
        return Bundle(re.sub(r"\n{4,}", "\n\n\n", _told(text, values)).encode(), sources)
    text, more = settled(bare(text), config)  # annotations needed names, too
    return Bundle(self_extracting(minified(_told(text, values | more))), sources)


def _told(text: str, values: dict[str, Any]) -> str:
    return re.sub(
        r"^(OWN_SETTLED.*) = {}$", lambda found: f"{found[1]} = {pformat(values, width=100)}", text, flags=re.M
    )


def _differing(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            if inner := _differing(value, defaults[key]):
                found[key] = inner
        elif value != defaults[key]:
            found[key] = value
    return found
