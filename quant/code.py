"""The code that counts against the cap: a named file as it lies on disk, or an estimate of what a submission ships.

The estimate is what `train_gpt.py` imports of ours, file after file, zstd-22. A generated single file is the real one.
"""

import ast
from pathlib import Path

from base.errors import BadInput
from quant.coder import encode_zstd

ROOT = Path(__file__).parents[1]
ENTRY = "train_gpt.py"


def code_bytes(file: str | None) -> int:
    if file is not None:
        if not Path(file).is_file():
            raise BadInput(f"--code {file}: no such file")
        return Path(file).stat().st_size
    return len(encode_zstd(b"".join(path.read_bytes() for path in reached(ROOT / ENTRY))))


def reached(entry: Path) -> list[Path]:
    """The entry and every file of ours that it imports, directly or not."""
    found, waiting = dict[Path, None](), [entry]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = (ROOT / node.module.replace(".", "/")).with_suffix(".py")
                waiting += [module] if module.is_file() else []
    return sorted(found)
