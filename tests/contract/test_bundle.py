"""tools.bundle: the single file does what the modules do, bit for bit; alone, in either form, within its size."""

import bz2
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import train_gpt
from base.cli import plain
from base.config import load, to_yaml
from base.errors import BadInput
from base.files import file_sha256
from base.packing import PACKED, pack, packed_file, read_sources, strip_source
from base.source import code_bytes, hash_of, sources
from run_config import RunConfig
from tests.runs import CPU, ROOT, answer, make_dataset, metrics, small
from tools.bundle import HEAD, TAIL, bundle, render, unbundle
from train_gpt import train_pack_score

PACKED_BYTES = 70_000
CONFIG = small(
    "train.steps=5", "train.compile=off", "quant.method=rate", "quant.codec=best", "quant.calibration_tokens=4096",
    "eval.adapt.kind=mix", "eval.adapt.table_bits=14",
)  # fmt: skip
FORMS = ("packed", "readable")
ALONE = ["-I"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


@pytest.fixture(scope="module")
def folder(jsonl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and both single files, each in a folder that has nothing else of ours."""
    place = tmp_path_factory.mktemp("bundles")
    make_dataset(jsonl, place / "data")
    for form in FORMS:
        (place / form).mkdir()
        (place / form / "data").symlink_to(place / "data")
        data = bundle(CONFIG, "tiny", readable=form == "readable")
        (place / form / "train_gpt.py").write_bytes(data)
    return place


def start(place: Path, *words: str, launcher: list[str] = ALONE) -> subprocess.CompletedProcess[str]:
    """As the shell would run it, in a process of its own."""
    line = [sys.executable, *launcher, "train_gpt.py", *words]
    return subprocess.run(line, cwd=place, capture_output=True, text=True)


def answer_of(place: Path, *words: str, launcher: list[str] = ALONE) -> dict[str, Any]:
    done = start(place, *words, "--json", launcher=launcher)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return found


@pytest.fixture(scope="module")
def of_modules(folder: Path) -> dict[str, Any]:
    with contextlib.chdir(folder):
        return plain(train_pack_score(CONFIG, "tiny", CPU))


def losses(answer: dict[str, Any]) -> list[tuple[float, float]]:
    return [(row["loss"], row["grad_norm"]) for row in metrics(answer["run"]) if "loss" in row]


@pytest.mark.parametrize("form", ["packed", pytest.param("readable", marks=pytest.mark.slow)])
def test_the_single_file_repeats_the_run_bit_for_bit(folder: Path, of_modules: dict[str, Any], form: str) -> None:
    answer = answer_of(folder / form)
    assert Path(answer["run"]).name == "tiny"
    assert len(losses(answer)) == 5
    assert losses(answer) == losses(of_modules)
    assert Path(answer["artifact"]).read_bytes() == Path(of_modules["artifact"]).read_bytes()
    for key in ("val_bpb", "sources_sha256", "val_bytes", "params"):
        assert answer[key] == of_modules[key], key
    assert (Path(answer["run"]) / "config.yaml").read_text() == (Path(of_modules["run"]) / "config.yaml").read_text()
    file = folder / form / "train_gpt.py"
    assert answer["code_bytes"] == file.stat().st_size
    assert answer["bundle_sha256"] == file_sha256(file)


def test_the_single_file_scores_an_artifact_as_the_modules_do(folder: Path, of_modules: dict[str, Any]) -> None:
    words = ["--score", of_modules["artifact"], "--data", "data"]
    with contextlib.chdir(folder):
        expected = train_gpt.act(train_gpt.parser().parse_args(words))
    clock = {"seconds": 0, "tokens_per_second": 0}
    assert {**answer_of(folder / "packed", *words), **clock} == {**plain(expected), **clock}


@pytest.mark.slow
def test_it_takes_overrides_and_other_configs(folder: Path) -> None:
    other = folder / "other.yaml"
    other.write_text(to_yaml(small("quant.method=none", "train.compile=off")))
    assert answer_of(folder / "packed", str(other), "train.steps=2", "model.layers=1")["steps"] == 2
    assert answer_of(folder / "packed", "train.steps=3", "--name", "three")["steps"] == 3
    for words, error in (
        (["train.stepz=1"], "'train.stepz=1': unknown key train.stepz; nearest: train.steps"),
        (["--dry-run"], "--dry-run is the repository's; there: python -m tools.plan CONFIG"),
    ):
        wrong = start(folder / "packed", *words)
        assert (wrong.returncode, wrong.stderr) == (2, f"train_gpt.py: {error}\n")


@pytest.mark.slow
def test_it_compiles_and_runs_on_two_ranks(folder: Path) -> None:
    assert answer_of(folder / "packed", "train.compile=on", "--name", "compiled")["steps"] == 5
    words = ["train.shard=fsdp", "eval.adapt.kind=off", "--name", "two"]
    assert answer_of(folder / "packed", *words, launcher=TORCHRUN)["steps"] == 5


def made(path: Path, entry: str, readable: bool) -> Path:
    """A single file with another entry, and one module more."""
    hook = read_sources()["base/hook.py"]
    helper = '"""A module."""\n\n\ndef divide(number: int) -> float:\n    return number / 0\n'
    files = {"train_gpt.py": entry, "base/hook.py": hook, "inner/__init__.py": "", "inner/part.py": helper}
    meta = {"name": "other", "config.yaml": "seed: 1\n", "sources_sha256": "0" * 64}
    (path / "train_gpt.py").write_bytes((render if readable else pack)({**meta, **files}))
    return path


@pytest.mark.parametrize("readable", [False, True])
def test_tracebacks_and_inspect_show_the_source(tmp_path: Path, readable: bool) -> None:
    entry = "import inspect\nfrom inner import part\n\n\nclass Shape:\n    size = 3\n\n\n"
    entry += "print(inspect.getsource(Shape) + inspect.getsource(part.divide))\nprint(part.__file__)\npart.divide(3)\n"
    done = start(made(tmp_path, entry, readable))
    assert "class Shape:\n    size = 3\n" in done.stdout
    assert "def divide(number: int) -> float:\n    return number / 0\n" in done.stdout
    assert done.stdout.rstrip().endswith("train_gpt.py/inner/part.py")
    assert 'part.py", line 5, in divide\n    return number / 0' in done.stderr
    assert 'train_gpt.py/train_gpt.py", line 11, in <module>\n    part.divide(3)' in done.stderr


def test_a_single_file_can_be_read_without_running_it(folder: Path) -> None:
    texts = read_sources()
    for form in FORMS:
        inside = unbundle((folder / form / "train_gpt.py").read_bytes())
        assert inside is not None
        assert (inside.packed, inside.name) == (form == "packed", "tiny")
        assert inside.config_yaml == to_yaml(CONFIG)
        assert inside.sources_sha256 == hash_of(sources())
        assert inside.modules == (texts if form == "readable" else {p: strip_source(t) for p, t in texts.items()})
        assert form == "packed" or inside.hashes() == sources()


@pytest.mark.parametrize("readable", [False, True])
def test_a_file_that_is_not_ours_to_the_byte_is_not_read(tmp_path: Path, readable: bool) -> None:
    data = made(tmp_path, "print(1)\n", readable).joinpath("train_gpt.py").read_bytes()
    assert unbundle(data) is not None
    for at in (0, data.index(b"FILES"), len(data)):
        assert unbundle(data[:at] + b"import os\n" + data[at:]) is None
    for at in range(0, len(data), 29):
        for changed in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]):
            with contextlib.suppress(BadInput):
                assert unbundle(changed) is None, at


def test_hostile_streams_are_refused() -> None:
    assert unbundle(b"") is None
    assert unbundle(b"import os\n") is None
    assert unbundle((HEAD + TAIL).encode()) is None
    assert unbundle(packed_file(bz2.compress(b"a\0b"))) is None  # without a config
    bomb = packed_file(bz2.compress(bytes(1 << 26)))
    for data in (bomb, packed_file(b""), packed_file(bz2.compress(b"\xff\0")), packed_file(bz2.compress(b"a\0b\0c"))):
        with pytest.raises(BadInput, match="a packed file that"):
            unbundle(data)


def test_any_bytes_come_back_out_of_the_literal() -> None:
    for coded in (b"", b"'", b"''''''", b"\\", b"\\'", b"\r\n\0\0007", bytes(range(256)) * 2, b"'''\\'''", b"\\x00\\r"):
        literal = packed_file(coded).decode("latin-1").partition("decompress(")[2].partition(".encode")[0]
        space: dict[str, Any] = {}
        exec(b"#coding:latin-1\nx=" + literal.encode("latin-1"), space)
        assert space["x"].encode("latin-1") == coded
    assert PACKED.isascii()


def test_what_a_readable_file_cannot_quote_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"model/odd\.py: holds '''"):
        render({"model/odd.py": "x = '''a'''\n"})


def test_stripping_keeps_the_program_and_what_is_read_at_run_time() -> None:
    text = '"""Doc."""\nX: int = 1  # one\n\n\nclass A(B):\n    """Doc."""\n\n    x: int = 1\n\n'
    text += '    def f(self, a: int, *b: int) -> str:\n        """Doc."""\n        y: int\n        z: int = a\n\n\n'
    text += "@cache\ndef g(x: int) -> int:\n    return x\n"
    short = "X = 1\n\nclass A(B):\n x: int = 1\n\n def f(self, a, *b):\n  pass\n  z = a\n\n"
    short += "@cache\ndef g(x: int) -> int:\n return x"
    assert strip_source(text) == short
    assert strip_source('"""Doc."""\nprint(__doc__)') == '"""Doc."""\nprint(__doc__)'
    assert strip_source("class A:\n    'Doc.'\n") == "class A:\n pass"


def test_the_estimate_of_modules_is_near_the_packed_size_and_never_below(folder: Path) -> None:
    for config in ("cpu10", "golf465", "demo"):
        size = len(bundle(load(RunConfig, ROOT / "configs" / f"{config}.yaml"), config, readable=False))
        assert size <= code_bytes(None) <= 1.02 * size
        assert config != "cpu10" or size <= PACKED_BYTES


def test_the_command_writes_the_file(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    found = answer("tools.bundle", ROOT / "configs" / "demo.yaml", "seed=7", "-o", file, "--readable")
    assert (found["path"], found["bytes"], found["packed"]) == (str(file), file.stat().st_size, False)
    assert (found["modules"], found["sources_sha256"]) == (len(sources()), hash_of(sources()))
    assert "seed: 7" in file.read_text()
