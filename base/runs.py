"""The newest run: what a command takes when RUN or ARTIFACT is left out.

Not a registry: a run is a folder in `runs/`, and the file asked for (`config.yaml`, `model.golf`) is its mark.
"""

import itertools
import sys
from pathlib import Path

from base.errors import BadInput

RUNS = Path("runs")
CONFIG = "config.yaml"  # the resolved config: a folder that has it is a run


def newest(mark: str, root: Path = RUNS) -> Path:
    """The most recently written `root/*/mark`."""
    found = [path for path in root.glob(f"*/{mark}") if path.is_file()]
    if not found:
        raise BadInput(f"no {mark} in {root}/*/; name one, or make one with: torchrun train_gpt.py")
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.as_posix()))


def named_or_newest(given: str | None, mark: str, root: Path = RUNS) -> Path:
    """`given` as a file, or as a folder that holds `mark`; the newest run's, said aloud, when nothing is given."""
    if given is None:
        path = newest(mark, root)
        print(f"taking the newest: {path}", file=sys.stderr)
        return path
    path = Path(given)
    path = path / mark if path.is_dir() else path
    if not path.is_file():
        raise BadInput(f"{path}: no such file; name a run's folder or its {mark}")
    return path


def new_or_unfinished(name: str, config: str, finished: str, root: Path = RUNS) -> Path:
    """`root/name` to go on in, if it holds this very config and no `finished` file; else a new folder beside it."""
    for number in itertools.count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        written = folder / CONFIG
        if not folder.exists():
            folder.mkdir(parents=True)
            written.write_text(config, encoding="utf-8")
            return folder
        if written.is_file() and written.read_text(encoding="utf-8") == config and not (folder / finished).exists():
            return folder
    raise AssertionError("unreachable")
