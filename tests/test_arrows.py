"""The import arrows of the house run one way; this holds them. DESIGN: who may see whom.

First-party imports are at the top of a file and name what they take (`from pkg.mod import name`), so that modules can
be joined into one file later.
"""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_SEE = {
    "base": set(),
    "model": {"base"},
    "optim": {"base"},
    "data": {"base"},
    "engine": {"base"},
    "quant": {"base", "model", "data", "engine.checkpoint", "engine.device"},
    "eval": {"base", "model", "data", "engine.checkpoint", "engine.device", "quant.unpack"},
    "tools": {"base", "model", "optim", "data", "engine", "quant", "eval", "train_gpt"},
    "train_gpt": {"base", "model", "optim", "data", "engine", "quant", "eval"},
}  # fmt: skip
OTHERS = {  # third-party packages, where a folder is held to a few; the standard library is everybody's
    "base": {"pydantic", "yaml", "rich"},
    "model": {"torch", "einops", "annotated_types"},
    "optim": {"torch", "annotated_types"},
    "data": {"numpy", "sentencepiece", "pyarrow", "zstandard", "huggingface_hub"},
    "data/loader.py": {"numpy", "torch"},
    "engine": {"torch", "matplotlib", "annotated_types"},
    "quant": {"numpy", "torch", "zstandard", "constriction", "annotated_types", "matplotlib"},
    "eval": {"numpy", "torch", "annotated_types", "constriction", "matplotlib"},
    "eval/stats.py": set(),
    "eval/metric.py": {"numpy"},
    "eval/windows.py": {"numpy"},
}

FILES = sorted(path for folder in [*MAY_SEE] for path in [*ROOT.glob(f"{folder}/**/*.py"), *ROOT.glob(f"{folder}.py")])


def imports(tree: ast.AST) -> list[tuple[ast.stmt, str]]:
    found: list[tuple[ast.stmt, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node, "." * node.level + (node.module or "")))
    return found


def ours(module: str) -> bool:
    return module.startswith(".") or module.split(".")[0] in MAY_SEE


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_arrows(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    home = name.split("/")[0].removesuffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for statement, module in imports(tree):
        where = f"{name}:{statement.lineno} imports {module}"
        if not ours(module):
            root, allowed = module.split(".")[0], OTHERS.get(name, OTHERS.get(home))
            assert allowed is None or root in allowed or root in sys.stdlib_module_names, f"{where}: not for {home}"
            continue
        assert isinstance(statement, ast.ImportFrom), f"{where}: write `from {module} import name`"
        assert not module.startswith("."), f"{where}: relative imports do not survive bundling"
        assert statement in tree.body, f"{where}: first-party imports stand at the top of the file"
        plain = all(alias.name != "*" and alias.asname is None for alias in statement.names)
        assert plain, f"{where}: plain names only"
        seen = module.split(".")[0]
        assert seen == home or seen in MAY_SEE[home] or module in MAY_SEE[home], f"{where}: not an arrow of the house"


def test_every_folder_says_in_its_init_what_it_is() -> None:
    for folder in MAY_SEE:
        if (ROOT / folder).is_dir():
            assert ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8"))), folder


def test_every_file_begins_with_what_it_is() -> None:
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
