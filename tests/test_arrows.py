"""The import arrows of the house run one way; this holds them. DESIGN: who may see whom."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

MAY_SEE = {
    "base": set(),
    "model": {"base"},
    "optim": {"base"},
    "data": {"base"},
    "engine": {"base"},
    "quant": {"base", "model", "data", "engine.checkpoint", "engine.device"},
    "eval": {"base", "model", "data", "engine.checkpoint", "engine.device", "quant.unpack"},
    "run_config": {f"{folder}.config" for folder in ("model", "optim", "data", "engine", "quant", "eval")},
    "training": {"base", "model", "optim", "data", "engine", "quant", "eval", "run_config"},
    "train_gpt": {"base", "model", "optim", "data", "engine", "quant", "eval", "run_config", "training"},
    "tools": {"base", "model", "optim", "data", "engine", "quant", "eval", "run_config", "training", "train_gpt"},
}  # fmt: skip
OTHERS = {  # third-party packages, where a folder is held to a few; the standard library is everybody's
    "base": {"pydantic", "yaml", "rich"},
    "model": {"torch", "einops", "annotated_types"},
    "optim": {"torch", "annotated_types"},
    "data": {"numpy", "sentencepiece", "pyarrow", "zstandard", "huggingface_hub"},
    "data/loader.py": {"numpy", "torch"},
    "data/shortlist.py": {"numpy", "torch"},
    "data/remote.py": {"fsspec"},
    "data/near.py": {"numpy", "datatrove"},
    "data/scale.py": {"datatrove", "ray"},
    "engine": {"torch", "matplotlib", "annotated_types"},
    "quant": {"numpy", "torch", "numba", "zstandard", "annotated_types", "matplotlib"},
    "eval": {"numpy", "torch", "numba", "annotated_types", "constriction", "matplotlib"},
    "eval/mixing": {"numpy", "numba"},
    "eval/stats.py": {"scipy"},
    "eval/probes/fresh.py": {"numpy", "scipy"},
    "eval/metric.py": {"numpy"},
    "eval/windows.py": {"numpy"},
}

FILES = sorted(path for folder in MAY_SEE for path in [*ROOT.glob(f"{folder}/**/*.py"), *ROOT.glob(f"{folder}.py")])


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and module of every import, wherever in the file; `from data import check` may mean a module as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [alias.name for alias in node.names] if module in MAY_SEE else []
            yield from ((node.lineno, name) for name in [f"{module}.{name}" for name in names] or [module])


def is_allowed(file: str, module: str) -> bool:
    home = file.split("/")[0].removesuffix(".py")
    package = module.split(".")[0]
    if package in MAY_SEE:
        return package == home or package in MAY_SEE[home] or module in MAY_SEE[home]
    known = next((OTHERS[place] for place in (file, file.rpartition("/")[0], home) if place in OTHERS), None)
    return known is None or package in known or package in sys.stdlib_module_names


def test_imports_follow_the_arrows() -> None:
    violations = []
    for path in FILES:
        file = path.relative_to(ROOT).as_posix()
        for line, module in imported(ast.parse(path.read_text(encoding="utf-8"))):
            if not is_allowed(file, module):
                violations.append(f"{file}:{line} imports {module}")
    assert violations == []


def test_every_file_and_every_folder_begins_with_what_it_is() -> None:
    silent = [path for path in FILES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []
    assert all((ROOT / folder / "__init__.py").is_file() for folder in MAY_SEE if (ROOT / folder).is_dir())
