"""What reading a program finds in it: the house's own code nothing, hidden and reaching code its place."""

import ast
import base64
import lzma
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from base.source import sources
from tools.verify import unpacking
from tools.verify.code import code_findings
from tools.verify.unpacking import unpacked

ROOT = Path(__file__).parents[2]
FILLER = "".join(f"value_{n} = {n * n * n % 9973}\n" for n in range(600))


def named(source: str, requirements: str | None = None) -> dict[str, str]:
    """Rule -> level."""
    return {f.rule: f.level for f in code_findings("x.py", source.encode(), requirements) if f.level != "note"}


def test_the_houses_own_code_hides_nothing() -> None:
    for name in sources():
        found = [f for f in code_findings(name, (ROOT / name).read_bytes(), None) if f.level != "note"]
        assert [f for f in found if f.rule != "code.process"] == [], name


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("import socket", "code.network"),
        ("def f():\n    from urllib.request import urlopen", "code.network"),
        ("import importlib\nimportlib.import_module('requests')", "code.network"),
        ("import subprocess as s\ns.run(['curl'])", "code.process"),
        ("import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])", "code.process"),
        ("import os\nos.system('x')", "code.process"),
        ("from os import system as s\ns('x')", "code.process"),
        ("import ctypes", "code.process"),
        ("import pickle", "code.blob"),
        ("import torch\ntorch.load('x', weights_only=False)", "code.blob"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "code.blob"),
        ("import torch\ntorch.hub.load('a', 'b')", "code.network"),
        ("from torch.utils.cpp_extension import load_inline", "code.process"),
        ("import torch\ntorch.ops.load_library('model.golf')", "code.process"),
        ("import asyncio\nasyncio.create_subprocess_exec('x')", "code.process"),
        ("import os\nos.spawnvp(0, 'x', [])", "code.process"),
        ("import os\nos.posix_spawnp('x', [], {})", "code.process"),
        ("import os as o\no.environ['SEED']", "code.environment"),
        ("from os import environ as e\ne.get('SEED')", "code.environment"),
        ("from pathlib import Path\nPath('../val.bin').read_bytes()", "code.path"),
        ("open('/data/val.bin')", "code.path"),
        ("eval('1')", "code.dynamic"),
        ("exec(compile('1', 'x', 'exec'))", "code.dynamic"),
        (f"x = {[n / 7 for n in range(100)]}", "code.constants"),
        (f"x = {'a9Z!' * 1000!r}", "code.dynamic"),
        ("def f(:", "code.syntax"),
        ("x = " + "(" * 500 + ")" * 500, "code.syntax"),
        ("\0", "code.syntax"),
    ],
)
def test_what_reaches_out_or_hides_is_named(source: str, rule: str) -> None:
    assert rule in named(source)


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'data.prep'])",
        "import os\nrank = os.environ.get('RANK', '0')\nos.environ['OMP_NUM_THREADS'] = '1'",
        "import re, torch\nx = re.compile('a')\ny = torch.compile(x)\nx.eval()",
        "open('/dev/null', 'w')\nopen('model.golf', 'rb')",
        f"x = {'many words of a text ' * 300!r}",
        "x = [8.1, -22.4, 15.8]",
    ],
)
def test_what_is_plain_is_not_accused(source: str) -> None:
    assert named(source) == {}


@pytest.mark.parametrize(
    ("source", "accused"),
    [
        ("import torch, numpy, yaml, json", False),
        ("import brotli", True),
        ("try:\n    import brotli\nexcept ImportError:\n    pass", False),
    ],
)
def test_imports_are_looked_up_in_the_requirements(source: str, accused: bool) -> None:
    assert ("code.requirements" in named(source, "torch==2.13.0\nPyYAML==6.0.3  # base\n")) == accused


def raw(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}])


@pytest.mark.parametrize("compress", [lzma.compress, raw, zlib.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("spell", [base64.b85encode, base64.a85encode, base64.b64encode, bytes])
@pytest.mark.parametrize("text", [True, False])
def test_a_packed_program_is_unpacked_without_running_it(compress: object, spell: object, text: bool) -> None:
    data = spell(compress((FILLER + "import socket\n").encode()))  # type: ignore[operator]
    literal = repr(data.decode("latin-1")) if text else repr(data)
    source = f"import lzma, base64\nexec(lzma.decompress(base64.b85decode({literal})))\n"  # of whichever spelling
    assert [program.text for program in unpacked(ast.parse(source))] == [FILLER + "import socket\n"]
    assert named(source) == {"code.network": "flag"}


def test_a_loader_that_does_more_is_named() -> None:
    blob = base64.b85encode(lzma.compress(FILLER.encode())).decode()
    assert named(f"import socket\nexec({blob!r})") == {"code.network": "flag"}
    assert named(f"x = {'k7Q!' * 1000!r}\nexec({blob!r})") == {"code.dynamic": "unverified"}


@pytest.mark.parametrize(
    "runs",
    [
        "exec(open('README.md').read())",
        "exec('import this; x = 1')",
        "import marshal\nexec(marshal.loads(b'x'))",
        "import builtins as lzma\nexec(lzma.decompress(D))",
        "for D in open('README.md'):\n    exec(D)",
        "from other import D\nexec(D)",
        "globals()['D'] = open('README.md').read()\nexec(D)",
        f"exec({'Z9!k' * 600!r})",
    ],
)
def test_a_loader_is_excused_only_for_what_it_holds(runs: str) -> None:
    blob = base64.b85encode(lzma.compress(FILLER.encode())).decode()
    honest = f"import base64\nimport lzma\nD = lzma.decompress(base64.b85decode({blob!r}))\n"
    assert named(f"{honest}exec(D)") == {}
    assert named(honest + runs)["code.dynamic"] == "unverified"


def test_many_packed_programs_are_read_up_to_a_bound_over_all() -> None:
    packed = base64.b85encode(zlib.compress(random_names(8_000).encode(), 9)).decode()
    source = "\n".join(f"x{n} = {packed!r}" for n in range(20))
    assert 1 <= len(unpacked(ast.parse(source))) <= 3


def random_names(count: int) -> str:
    return "".join(f"v{n * n * n % 99_991} = 1\n" for n in range(count))


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES", 1 << 16)
    for compress in (lzma.compress, zlib.compress, zstandard.ZstdCompressor().compress):
        blob = base64.b85encode(compress(b"# " + bytes(1 << 24) + FILLER.encode())).decode()
        assert unpacked(ast.parse(f"x = {blob + ' ' * 1000!r}")) == []


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    list(code_findings("x.py", data, ""))
