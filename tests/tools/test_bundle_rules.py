"""tools.bundling: every rule that makes joining sound is held, by file, line and way out; our own tree holds them."""

from pathlib import Path

import pytest

from base.errors import BadInput
from tools.bundling.build import ENTRY, ROOT
from tools.bundling.join import readable
from tools.bundling.modules import read_modules
from tools.bundling.tree import shaken


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for folder in ("base", "model"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("")
    write(tmp_path, "base/thing.py", '"""Thing."""\n\n\ndef thing() -> int:\n    return 1\n')
    write(tmp_path, "model/part.py", '"""Part."""\n\n\ndef part() -> int:\n    return 2\n')
    write(
        tmp_path, "train_gpt.py",
        '"""Doc."""\nfrom base.thing import thing\nfrom model.part import part\n\n'
        'if __name__ == "__main__":\n    print(thing(), part())\n',
    )  # fmt: skip
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    (root / path).write_text(text)


def joined(root: Path) -> str:
    return readable(root, read_modules(root, "train_gpt.py"))


def test_a_tree_that_keeps_the_rules_is_joined_in_import_order(tree: Path) -> None:
    text = joined(tree)
    assert text.index("def thing") < text.index("def part") < text.index("print(")
    assert "from base.thing" not in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import base.thing\n", r"model/part\.py:1: imports base\.thing whole; write `from base\.thing import NAME`"),
        ("from base.thing import thing as t\n", r"model/part\.py:1: imports thing by another name"),
        ("from base.thing import *\n", r"model/part\.py:1: imports \* by another name"),
        ("from .part import x\n", r"model/part\.py:1: a relative import does not survive joining"),
        ("from base import thing\n", r"model/part\.py:1: base is no module of ours"),
        ("def f():\n    from base.thing import thing\n", r"model/part\.py:2: imports base\.thing inside a block"),
        (
            "for n in 1, 2:\n    print(n)\n",
            r"model/part\.py:1: `for n in \(1, 2\):` works at import; a mod",
        ),
        ("print(1)\n", r"model/part\.py:1: `print\(1\)` works at import"),
        (
            "def part():\n    return __file__\n",
            r"model/part\.py:1: __file__ is another in a single file",
        ),
        ("def part():\n    return __doc__\n", r"model/part\.py:1: __doc__ is another in a single file; only the entry"),
        ("def (\n", r"model/part\.py:1: not Python"),
        ("from train_gpt import x\n", r"train_gpt\.py: imports itself, by way of train_gpt\.py -> model/part\.py"),
        (
            "def part():\n    return thing()\ndef thing(): ...\n",
            r"model/part\.py:3: thing is defined in base/th",
        ),
        ("def part():\n    return hash()\ndef hash(): ...\n", r"model/part\.py:3: hash would hide the builtin"),
        ("import numpy as np\nimport torch as thing\ndef part():\n    return thing\n", r"thing is what model/part\.py"),
        (
            "from base.thing import nothing\ndef part():\n    return nothing\n",
            r"model/part\.py: nothing is not def",
        ),
    ],
)
def test_a_broken_rule_names_file_line_and_way_out(tree: Path, text: str, says: str) -> None:
    write(tree, "model/part.py", text)
    with pytest.raises(BadInput, match=says):
        joined(tree)


def test_one_name_for_two_things_from_elsewhere_is_refused(tree: Path) -> None:
    write(tree, "base/thing.py", "from math import floor\ndef thing():\n    return floor(1)\n")
    write(tree, "model/part.py", "from numpy import floor\ndef part():\n    return floor(1)\n")
    with pytest.raises(BadInput, match=r"floor is imported from numpy, and from math in|from math, and"):
        joined(tree)


def test_what_nothing_needs_is_left_out_with_its_imports_and_its_clashes(tree: Path) -> None:
    extra = "import random\n# kept too\ndef part():\n    return 2\n\n# goes\ndef thing():\n    return random.random()\n"
    extra += "if __name__ == '__main__':\n    thing()\n"
    write(tree, "model/part.py", extra)
    text = joined(tree)
    assert "# kept too" in text
    assert "random" not in text
    assert "# goes" not in text


def test_names_in_quoted_annotations_are_needed(tree: Path) -> None:
    write(tree, "model/part.py", "class Later:\n    pass\ndef part(x: 'Later') -> int:\n    return 2\n")
    assert "class Later" in joined(tree)


def test_the_real_tree_keeps_the_rules() -> None:
    kept = shaken(ROOT, read_modules(ROOT, ENTRY)).kept
    assert len(kept) > 40
    assert not [path for path in kept if path.startswith(("tools/", "data/prep", "data/corpus"))]
