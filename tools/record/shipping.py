"""The shipped single file at work: alone in a clean folder, isolated (`python -I`), with the network cut.

    nats, seconds = score_shipped(code, artifact, data)     block sums of nats, as `train_gpt.py --score` measures them
    folder = train_again(code, seed, data, root)            --rerun: the same file trains

A record's scores come from nowhere else. Seconds are the complete process's.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from base.errors import BadInput, CheckFailed
from base.run_folder import ARTIFACT
from tools.bundle import unbundle
from tools.record.evidence import Floats, read_nats
from tools.record.schema import CODE
from tools.verify.sandbox import CUT, is_network_cut

PINNED = Path(__file__).parents[2] / "requirements.txt"
NATS = "nats.npy"


def score_shipped(code: bytes, artifact: Path, data: Path) -> tuple[Floats, float]:
    with tempfile.TemporaryDirectory(prefix="record-") as made:
        clean = Path(made)
        (clean / CODE).write_bytes(code)
        shutil.copyfile(artifact, clean / ARTIFACT)
        words = ["--score", ARTIFACT, "--data", str(data.resolve()), "--nats", NATS, "--json"]
        began = time.perf_counter()
        answer = _run_alone(words, clean, f"scoring {artifact}")
        seconds = time.perf_counter() - began
        if answer["partial"]:
            raise CheckFailed(f"{artifact}: {answer['coverage']:.2%} of the targets were scored; a record needs all")
        return read_nats((clean / NATS).read_bytes(), NATS), seconds


def train_again(code: bytes, seed: int, data: Path, root: Path) -> Path:
    """The folder of a run of the single file; the same call resumes an interrupted one."""
    root.mkdir(parents=True, exist_ok=True)
    (root / CODE).write_bytes(code)
    words = [f"seed={seed}", f"data.path={data.resolve()}", "--name", f"seed{seed}", "--json"]
    return Path(_run_alone(words, root, f"training seed {seed}")["run"])


def _run_alone(words: Sequence[str], folder: Path, what: str) -> dict[str, Any]:
    cut = CUT if is_network_cut() else ()
    done = subprocess.run([*cut, sys.executable, "-I", CODE, *words], cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise CheckFailed(f"{what}: the single file ended with exit code {done.returncode}; its message is above")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise BadInput(f"{what}: the single file's answer is not one JSON object: {done.stdout!r:.100}")
    return answer


def requirements(code: bytes) -> str:
    """The project's pins of what the single file's modules import, in the project's spelling."""
    inside = unbundle(code)
    assert inside is not None, "tools.record ships what tools.bundle made"
    sources = inside.modules
    imported = {name.split(".")[0] for text in sources.values() for name in _imports(ast.parse(text))}
    local = {path.split("/")[0].removesuffix(".py") for path in sources}
    lines = PINNED.read_text(encoding="utf-8").splitlines()
    pins = {_normal(line.split("==")[0]): line.split("#")[0].strip() for line in lines if "==" in line}
    installed = packages_distributions()
    found: set[str] = set()
    for module in sorted(imported - local - sys.stdlib_module_names):
        having = [pins[_normal(name)] for name in installed.get(module, ()) if _normal(name) in pins]
        if not having:
            raise BadInput(f"the single file imports {module}, and no line of {PINNED.name} pins it: add it there")
        found.update(having)
    return "".join(f"{line}\n" for line in sorted(found))


def _imports(tree: ast.Module) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
