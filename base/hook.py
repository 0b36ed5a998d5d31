"""How a single file serves its modules: an import hook over a dict of sources.

The file that tools.bundle writes holds this text among the others, executes it, and calls `serve`. In a checkout nobody
uses it. It imports nothing of ours: when it runs, nothing of ours can be imported yet.
"""

import importlib.abc
import linecache
import os
import sys
import traceback
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from typing import Any

ENTRY = "train_gpt.py"


class Hook(importlib.abc.ExecutionLoader):
    """Finder and loader of every module in `files`, each under its own name, as a file inside the single file."""

    def __init__(self, path: str, files: dict[str, str]) -> None:
        self.path = path  # of the single file; base.source finds it here
        self.files = files  # repository path -> source; also "config.yaml", "name" and "sources_sha256"
        for name, text in files.items():  # so that tracebacks, inspect and torch.compile see the source
            linecache.cache[self.place(name)] = (len(text), None, text.splitlines(True), self.place(name))

    def place(self, name: str) -> str:
        return f"{self.path}/{name}"

    def find(self, module: str) -> str | None:
        """A module's path in the repository; a package's is that of its __init__.py."""
        stem = module.replace(".", "/")
        return next((name for name in (f"{stem}/__init__.py", f"{stem}.py") if name in self.files), None)

    def find_spec(self, module: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return spec_from_loader(module, self) if self.find(module) else None

    def is_package(self, module: str) -> bool:
        return self.get_filename(module).endswith("/__init__.py")

    def get_filename(self, module: str) -> str:
        name = self.find(module)
        if name is None:
            raise ImportError(f"{self.path} has no module {module}")
        return self.place(name)

    def get_source(self, module: str) -> str:
        return self.files[self.get_filename(module).removeprefix(self.place(""))]


def serve(file: str, files: dict[str, str], space: dict[str, Any]) -> None:
    """Import from `files` from now on, and run the entry in `space`: the single file's own, which is __main__."""
    hook = Hook(os.path.abspath(file), files)
    sys.meta_path.insert(0, hook)
    sys.excepthook = traceback.print_exception  # the built-in one looks for lines on disk only
    space["__file__"] = hook.place(ENTRY)
    exec(compile(files[ENTRY], hook.place(ENTRY), "exec", dont_inherit=True), space)
