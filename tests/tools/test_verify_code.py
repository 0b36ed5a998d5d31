"""What reading a program finds in it: our own code hides nothing; code that reaches out or hides is named."""

import ast
import base64
import bz2
import lzma
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.packing import HOOK
from run_config import RunConfig
from tests.runs import ROOT
from tools.bundle import bundle, render
from tools.verify import unpacking
from tools.verify.code import code_findings
from tools.verify.unpacking import unpacked

FILLER = "".join(f"value_{n} = {n * n * n % 9973}\n" for n in range(600))


def named(source: str | bytes, requirements: str | None = None) -> dict[str, str]:
    """Rule -> level."""
    data = source if isinstance(source, bytes) else source.encode()
    return {f.rule: f.level for f in code_findings("x.py", data, requirements) if f.level != "note"}


def programs(source: str) -> list[str]:
    return [program.text for program in unpacked(ast.parse(source))]


def test_our_own_single_file_hides_nothing_and_its_modules_need_no_requirement_for_each_other() -> None:
    requirements = (ROOT / "requirements.txt").read_text()
    for readable in (True, False):
        data = bundle(RunConfig(), "x", readable)
        assert [f for f in code_findings("train_gpt.py", data, requirements) if f.level != "note"] == []
    assert "code.requirements" in named((ROOT / "train_gpt.py").read_text(), requirements)


def test_a_fault_in_one_module_of_a_single_file_is_named_there() -> None:
    hook = (ROOT / HOOK).read_text()
    modules = {"model/gpt.py": "import base.errors\n", "base/errors.py": "import socket\nimport foo\n"}
    meta = {"name": "x", "config.yaml": "", "sources_sha256": ""}
    for changed in (hook, hook.replace("exec(", "eval(")):
        found = list(code_findings("x.py", render({**meta, **modules, HOOK: changed}), ""))
        assert ("code.network", "base/errors.py", 1) in [
            (f.rule, f.evidence["file"], f.evidence["line"]) for f in found
        ]
        assert {f.rule for f in found} - {"code.dynamic"} == {"code.network", "code.requirements"}
        assert ("code.dynamic" in {f.rule for f in found}) == (changed != hook)


ACCUSED = [
    ("import socket", "code.network"),
    ("import importlib\nimportlib.import_module('requests')", "code.network"),
    ("import subprocess as s\ns.run(['curl'])", "code.process"),
    ("from os import system as s\ns('x')", "code.process"),
    ("import ctypes", "code.process"),
    ("import pickle", "code.blob"),
    ("import torch\ntorch.load('x', weights_only=False)", "code.blob"),
    ("import numpy as np\nnp.load('x', allow_pickle=True)", "code.blob"),
    ("import torch\ntorch.hub.load('a', 'b')", "code.network"),
    ("from torch.utils.cpp_extension import load_inline", "code.process"),
    ("import torch\ntorch.ops.load_library('model.golf')", "code.process"),
    ("import asyncio\nasyncio.create_subprocess_exec('x')", "code.process"),
    ("import os as o\no.environ['SEED']", "code.environment"),
    ("from os import environ as e\ne.get('SEED')", "code.environment"),
    ("from pathlib import Path\nPath('../val.bin').read_bytes()", "code.path"),
    ("open('/data/val.bin')", "code.path"),
    ("eval('1')", "code.dynamic"),
    ("import builtins as b\nb.exec('1')", "code.dynamic"),
    ("def f():\n    from re import compile as exec\nexec('1')", "code.dynamic"),  # a decoy
    (f"x = {[n / 7 for n in range(100)]}", "code.constants"),
    (f"x = {'a9Z!' * 1000!r}", "code.dynamic"),
    ("x = " + "(" * 500 + ")" * 500, "code.syntax"),
    ("x = " + "-" * 100_000 + "1", "code.syntax"),
    ("\0", "code.syntax"),
]


def test_what_reaches_out_or_hides_is_named() -> None:
    for source, rule in ACCUSED:
        assert rule in named(source), source[:200]


def test_plain_code_is_not_accused() -> None:
    for source in (
        "import os\nrank = os.environ.get('RANK', '0')\nos.environ['OMP_NUM_THREADS'] = '1'",
        "import re, torch\nx = re.compile('a')\ny = torch.compile(x)\nx.eval()",
        "open('/dev/null', 'w')\nopen('model.golf', 'rb')",
        f"x = {'many words of a text ' * 300!r}",
        "x = [8.1, -22.4, 15.8]",
    ):
        assert named(source) == {}, source[:200]


def test_imports_are_looked_up_in_the_requirements() -> None:
    requirements = "torch==2.13.0\nPyYAML==6.0.3  # base\n"
    optional = "try:\n    import brotli\nexcept ImportError:\n    pass"
    assert named("import brotli", requirements).keys() == {"code.requirements"}
    for source in ("import torch, numpy, yaml, json", optional):
        assert named(source, requirements) == {}


# -- packed programs ------------------------------------------------------------------------------------------------


def raw(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}])


def packed(source: str) -> str:
    return base64.b85encode(lzma.compress(source.encode())).decode()


def test_a_packed_program_is_unpacked_without_running_it() -> None:
    program = FILLER + "import socket\n"
    for compress in (lzma.compress, raw, zlib.compress, bz2.compress):
        for spell in (base64.b85encode, base64.a85encode, base64.b64encode, bytes):
            data = spell(compress(program.encode()))
            for literal in (repr(data.decode("latin-1")), repr(data)):
                # the text around it is the same, whichever the coding
                source = f"import lzma, base64\nexec(lzma.decompress(base64.b85decode({literal})))\n"
                assert programs(source) == [program]
                assert named(source) == {"code.network": "flag"}


def test_a_program_packed_twice_is_read() -> None:
    inner = f"{FILLER}import socket\nx = 1\n"
    middle = f"exec({packed(inner)!r})\n{FILLER}"
    assert programs(f"exec({packed(middle)!r})") == [middle, inner]


@pytest.mark.parametrize(
    ("imports", "runs"),
    [
        ("import socket\nimport lzma, base64", ""),
        ("import lzma, base64, marshal", ""),
        ("from other import lzma, base64", ""),
        ("import lzma, base64", "exec(open('README.md').read())\n"),
        ("import lzma, base64", f"x = {'Z9!k' * 600!r}\n"),
    ],
)
def test_a_loader_is_excused_only_if_it_does_nothing_else(imports: str, runs: str) -> None:
    load = f"exec(lzma.decompress(base64.b85decode({packed(FILLER)!r})))\n"
    for honest in (load, load.replace("))\n", ", format=lzma.FORMAT_RAW, filters=[{'id': lzma.FILTER_LZMA2}]))\n")):
        assert named(f"import lzma, base64\n{honest}") == {}
    assert named(f"{imports}\n{runs}{load}")["code.dynamic"] == "unverified"


@pytest.mark.parametrize(
    "data", [bytes(4_000), raw(b"x = 1\n") + bytes(range(256)) * 16, zlib.compress(b"x = 1\n") + bytes(range(256)) * 16]
)
def test_data_behind_a_small_program_is_no_program(data: bytes) -> None:
    """Raw LZMA takes a zero byte for its end: so any data that begins with one would unpack to nothing."""
    assert named(f"x = {base64.b64encode(data).decode()!r}") == {"code.dynamic": "unverified"}


def test_hostile_packs_are_read_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.process_time()
    names = "".join(f"v{n * n * n % 99_991} = 1\n" for n in range(8_000))
    many = base64.b85encode(zlib.compress(names.encode(), 9)).decode()
    assert 1 <= len(programs("\n".join(f"x{n} = {many!r}" for n in range(20)))) <= 3
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES", 1 << 16)
    for compress in (lzma.compress, zlib.compress, bz2.compress):
        bomb = base64.b85encode(compress(b"# " + bytes(1 << 24) + FILLER.encode())).decode()
        assert programs(f"x = {bomb + ' ' * 1000!r}") == []
        assert programs(f"x = {bomb * 1!r}") == []
    assert time.process_time() - started < 20


@settings(max_examples=50)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    list(code_findings("x.py", data, ""))
