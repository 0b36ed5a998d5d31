"""The embedded corpus: the interpreter's own standard library, so that a first run needs no download.

Left out is what differs between distributions of one Python version: installed packages, test suites, caches,
build records, and the parts that Debian, Fedora or Alpine ship separately or not at all. The rest is read in the order
of its names. `data.prep` prints the corpus's hash; another Python version is another corpus.
"""

import sys
import sysconfig
from pathlib import Path

from base.errors import BadInput

LEFT_OUT_FOLDERS = frozenset(
    "test tests idlelib tkinter turtledemo ensurepip lib2to3 distutils macholib msilib venv __phello__ "
    "site-packages dist-packages lib-dynload __pycache__".split()
)
LEFT_OUT_FILES = ("_sysconfigdata", "_distutils_system_mod", "sitecustomize", "usercustomize", "turtle.py")


def stdlib_files() -> list[tuple[str, Path]]:
    """(name, path) of every module that counts, sorted by name; names are relative and the same everywhere."""
    root = Path(sysconfig.get_path("stdlib"))
    found = [(path.relative_to(root).as_posix(), path) for path in root.rglob("*.py") if path.is_file()]
    kept = sorted(pair for pair in found if _counts(pair[0]))
    if not kept:
        raise BadInput(f"this interpreter ({sys.executable}) keeps no standard library as files in {root}")
    return kept


def _counts(name: str) -> bool:
    *folders, file = name.split("/")
    return not (
        LEFT_OUT_FOLDERS.intersection(folders)
        or any(folder.startswith("config-") for folder in folders)
        or file.startswith(LEFT_OUT_FILES)
    )
