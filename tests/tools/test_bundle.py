"""tools.bundle: the single file does what the modules do, bit for bit; alone, in either form, within its size."""

import importlib.util
import inspect
import io
import json
import runpy
import subprocess
import sys
import types
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import train_gpt
from base.cli import run, show_pairs
from base.config import load
from base.files import file_sha256
from base.progress import byte_progress
from base.source import code_bytes, sources
from engine.device import Device
from eval import bpb
from tests.conftest import prep
from tools import bundle as command
from tools.bundling.build import ROOT, bundle
from tools.bundling.join import banners
from tools.bundling.packed import minified, self_extracting, unpacked
from train_gpt import RunConfig, whole_run

PACKED_BYTES, READABLE_BYTES = 30_000, 185_000  # the target; what was reached (docs/bundle.md)
SMALL = [
    "model.vocab_size=400", "model.layers=2", "model.dim=32", "model.heads=2", "model.kv_heads=1", "model.smear=static",
    "model.bigram_buckets=64", "model.bigram_dim=8", "model.skips=plain", "train.seconds=0", "train.steps=5",
    "train.seq_len=32", "train.batch_tokens=256", "train.compile=off", "eval.stride=16", "quant.method=rate",
    "quant.codec=best", "quant.calibration_tokens=4096", "data.path=data",
]  # fmt: skip
OTHERS = {  # every other branch: what a bundle leaves out differs with its config
    "many options": [
        "model.mlp=swiglu", "model.norm=rms_weight", "model.norm_order=post", "model.dropout=0.1", "model.tied=false",
        "model.smear=gated", "model.skips=gated", "model.xsa=1", "model.doc_mask=true", "model.yarn_factor=2.0",
        "model.q_gain=1.5", "model.qk_norm=true", "model.resid_mix=true", "model.branch_scale=true",
        "model.ln_scale=true", "model.loop_first=1", "model.loop_last=1", "model.loop_repeats=1",
        "model.loop_start=0.5", "model.softcap=20", "model.embed_norm=true", "model.init=ortho", "average.kind=swa",
        "optim.matrix=adamw", "optim.shape=cosine", "optim.warmup=0.2", "quant.method=sigma", "quant.codec=ans",
        "quant.bits=embed=16", "train.checkpointing=true", "train.loss_tokens=32", "train.shard=fsdp",
        "data.order=sequential",
    ],
    "next to none": [
        "model.mlp=gelu", "model.norm=none", "model.pos=none", "model.parallel_from=1", "model.smear=off",
        "model.bigram_buckets=0", "model.skips=off", "average.kind=off", "optim.clip=0", "optim.muon_row_norm=true",
        "quant.method=absmax", "quant.codec=zstd", "quant.cap_bytes=50000", "train.micro_tokens=128",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(jsonl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and both single files, each in a directory that has nothing else of ours."""
    place = tmp_path_factory.mktemp("bundles")
    prep(jsonl, "--vocab", 400, "--val-fraction", 0.2, "--out", place / "data", "--workers", 1)
    for form in ("readable", "packed"):
        (place / form).mkdir()
        (place / form / "data").symlink_to(place / "data")
        built = bundle(load(RunConfig, None, SMALL), form == "packed", "tiny")
        (place / form / "train_gpt.py").write_bytes(built.data)
    return place


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def alone(place: Path, *words: str) -> Done:
    """As the shell would run it, in a process of its own."""
    done = subprocess.run([sys.executable, "-I", "train_gpt.py", *words], cwd=place, capture_output=True, text=True)
    return Done(done.returncode, done.stdout, done.stderr)


def here(place: Path, *words: str) -> Done:
    """The same in this process, which has torch already; nothing of ours is to be found but what is loaded."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(place)
        patch.setattr(sys, "argv", ["train_gpt.py", *words])
        patch.setattr(sys, "path", [path for path in sys.path if Path(path).resolve() != ROOT])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path("train_gpt.py", run_name="__main__")
    return Done(int(str(ended.value.code)), out.getvalue(), err.getvalue())


def answered(done: Done) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def of_modules(folder: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return whole_run(load(RunConfig, None, SMALL), "tiny", Device(torch.device("cpu")))


def losses(answer: dict[str, Any]) -> list[tuple[float, float]]:
    rows = map(json.loads, (Path(answer["run"]) / "metrics.jsonl").read_text().splitlines())
    return [(row["loss"], row["grad_norm"]) for row in rows if "loss" in row]


@pytest.mark.parametrize(("form", "process"), [("readable", here), ("packed", alone)])
def test_the_single_file_repeats_the_run_bit_for_bit(
    folder: Path, of_modules: dict[str, Any], form: str, process: Callable[..., Done]
) -> None:
    answer = answered(process(folder / form, "--json"))
    assert Path(answer["run"]).name == "tiny"
    assert len(losses(answer)) == 5
    assert losses(answer) == losses(of_modules)
    assert Path(answer["artifact"]).read_bytes() == Path(of_modules["artifact"]).read_bytes()
    for key in ("val_bpb", "packed_bpb", "sources_sha256", "val_bytes", "params"):
        assert answer[key] == of_modules[key], key
    assert (Path(answer["run"]) / "config.yaml").read_text() == (Path(of_modules["run"]) / "config.yaml").read_text()
    file = folder / form / "train_gpt.py"
    assert answer["code_bytes"] == file.stat().st_size
    assert answer["bundle_sha256"] == file_sha256(file)
    scored = answered(here(folder / form, "--score", answer["artifact"], "--data", "data", "--json"))
    assert scored["bpb"] == pytest.approx(answer["packed_bpb"], rel=1e-6)
    assert scored["artifact_sha256"] == answer["artifact_sha256"]


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_the_config_nothing_is_left_out_that_its_run_needs(folder: Path, tmp_path: Path, name: str) -> None:
    config = load(RunConfig, None, [*SMALL, *OTHERS[name]])
    (tmp_path / "data").symlink_to(folder / "data")
    (tmp_path / "train_gpt.py").write_bytes(bundle(config, True, "own").data)
    answer = answered(here(tmp_path, "--json"))
    assert answer["code_bytes"] <= code_bytes(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        of_modules = whole_run(config, "modules", Device(torch.device("cpu")))
    assert losses(answer) == losses(of_modules)
    if not config.quant.cap_bytes:  # else the code's own size counts
        assert Path(answer["artifact"]).read_bytes() == Path(of_modules["artifact"]).read_bytes()
    assert answer["packed_bpb"] == pytest.approx(of_modules["packed_bpb"], rel=0.05)
    scored = answered(here(tmp_path, "--score", answer["artifact"], "--data", "data", "--json"))
    assert scored["bpb"] == pytest.approx(answer["packed_bpb"], rel=1e-6)


def test_what_is_left_out_cannot_be_asked_for(folder: Path, of_modules: dict[str, Any], tmp_path: Path) -> None:
    done = here(folder / "packed", "model.mlp=gelu")
    assert (done.returncode, done.stderr) == (
        2, "train_gpt.py: model.mlp is gelu, and this file is for swiglu: python -m tools.bundle\n",
    )  # fmt: skip
    other = load(RunConfig, None, [*SMALL, "model.mlp=gelu"])
    (tmp_path / "data").symlink_to(folder / "data")
    (tmp_path / "train_gpt.py").write_bytes(bundle(other, True).data)
    done = here(tmp_path, "--score", of_modules["artifact"], "--data", "data")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "model.mlp is swiglu, and this file is for gelu" in done.stderr
    assert here(folder / "packed", "configs/demo.yaml").stderr.startswith(
        "train_gpt.py: configs/demo.yaml: this file has"
    )
    assert "in the repository: python train_gpt.py CONFIG" in here(folder / "packed", "--dry-run").stderr


def test_an_override_is_an_override_and_a_wrong_one_is_one_line(folder: Path) -> None:
    answer = answered(here(folder / "packed", "seed=42", "train.steps=1", "--name", "other", "--json"))
    assert (answer["seed"], answer["steps"], Path(answer["run"]).name) == (42, 1, "other")
    done = here(folder / "packed", "train.sedonds=1", "seed=3")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "train_gpt.py: 'train.sedonds=1': unknown key sedonds; there are seconds, steps, reserve_s, seq_len, "
        "batch_tokens, micro_tokens, checkpoint_s, shard, checkpointing, loss_tokens, compile, diverged_nats"
    ]


def test_without_its_dataset_a_single_file_says_how_to_make_one(folder: Path) -> None:
    done = here(folder / "packed", "data.path=nowhere", "data.source=stdlib")
    assert done.returncode == 2
    assert "in the repository: python -m data.prep stdlib --vocab 400 --out nowhere" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_score_is_that_of_eval_bpb(folder: Path, of_modules: dict[str, Any], tmp_path: Path) -> None:
    words = [of_modules["artifact"], "--data", str(folder / "data"), "--limit", "300"]
    theirs = bpb.act(bpb.parser().parse_args([*words, "-o", str(tmp_path / "score.json")]))
    of_module = train_gpt.act(train_gpt.parser().parse_args(["--score", *words]))
    own = answered(here(folder / "packed", "--score", *words, "--json"))
    assert own["bpb"] == of_module["bpb"] == pytest.approx(theirs["bpb"], rel=1e-6)
    assert own["partial"]
    same = ("tokens", "bytes", "contest_bytes", "coverage", "stride", "context", "artifact_sha256", "data_sha256")
    assert (
        {key: own[key] for key in same} == {key: theirs[key] for key in same} == {key: of_module[key] for key in same}
    )
    done = here(folder / "packed", "--score", "nothing.golf", "--data", "data")
    assert (done.returncode, done.stderr) == (2, "train_gpt.py: nothing.golf: no such artifact\n")


def test_a_traceback_out_of_the_packed_file_shows_its_lines(folder: Path, tmp_path: Path) -> None:
    source = '"""Doc."""\nimport sys\ndef inner(value):\n    return 1 / value\nprint(inner.__name__)\n'
    source += "try:\n    inner(0)\nexcept ZeroDivisionError:\n    import traceback\n    traceback.print_exc()\n"
    source += (
        "import inspect\nprint(inspect.getsource(inner))\nclass Shape:\n    '''A.'''\nprint(inspect.getsource(Shape))\n"
    )
    (tmp_path / "train_gpt.py").write_bytes(self_extracting(source))
    done = alone(tmp_path)
    assert "line 4, in inner\n    return 1 / value" in done.stderr
    assert "def inner(value):\n    return 1 / value\n" in done.stdout
    assert "class Shape:\n    '''A.'''" in done.stdout


def test_a_bug_in_the_packed_file_is_told_with_its_lines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "manual_seed", None)
    done = here(folder / "packed", "--name", "bug")
    assert done.returncode == 70
    assert "torch.manual_seed(" in done.stderr  # the line that failed, out of the packed source
    assert "TypeError: 'NoneType' object is not callable" in done.stderr


@pytest.mark.slow  # two processes with torch
def test_torchrun_takes_the_single_file(folder: Path) -> None:
    words = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "train_gpt.py",
        "--name",
        "two",
        "--json",
    ]
    done = subprocess.run([sys.executable, *words], cwd=folder / "packed", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["steps"] == 5


def test_what_is_packed_can_be_read_without_running_it(folder: Path) -> None:
    data = (folder / "packed" / "train_gpt.py").read_bytes()
    source = unpacked(data)
    assert source is not None
    assert "OneLineParser" not in source  # names are short
    assert all(name in source for name in ("vocab_size", "batch_tokens", "kv_heads"))  # fields are not
    assert unpacked((folder / "readable" / "train_gpt.py").read_bytes()) is None


@pytest.mark.parametrize(
    "text", ["", "x = 1\n", "s = '\\x00\\n' * 3  # é ▁ 🙂\n", "".join(f"a{n} = '{n:o}'\n" for n in range(3000))]
)
def test_any_source_comes_back_out_of_the_packed_file(text: str) -> None:
    assert unpacked(self_extracting(text)) == text


def test_minifying_keeps_fields_and_their_annotations() -> None:
    source = "from dataclasses import dataclass\n@dataclass\nclass Config:\n"
    source += "    width: int = 3\n    names: 'list[str] | None' = None\n"
    short: dict[str, Any] = {"__name__": "short"}
    sys.modules["short"] = types.ModuleType("short")
    exec(minified(source), short)
    made = next(value for value in short.values() if inspect.isclass(value))
    assert list(made.__annotations__) == ["width", "names"]


def test_the_readable_file_keeps_comments_and_says_where_each_section_is_from(folder: Path) -> None:
    text = (folder / "readable" / "train_gpt.py").read_text()
    assert "# before the weights are touched" in text
    said = [line.split() for line in text.splitlines() if line.startswith("# ==")]
    assert [words[2] for words in said][-1] == "train_gpt.py"
    assert banners(text.encode()) == sources() == {path: file_sha256(ROOT / path) for path in sources()}
    assert byte_progress.__name__ not in text  # nothing needs it


@pytest.mark.parametrize(("packed", "limit"), [(True, PACKED_BYTES), (False, READABLE_BYTES)])
def test_the_cpu_tracks_file_has_not_grown(packed: bool, limit: int) -> None:
    assert len(bundle(load(RunConfig, ROOT / "configs" / "cpu10.yaml"), packed).data) <= limit


def test_the_estimate_from_modules_is_near_and_never_below(folder: Path, of_modules: dict[str, Any]) -> None:
    size = (folder / "packed" / "train_gpt.py").stat().st_size
    assert size <= of_modules["code_bytes"] <= 1.2 * size


def test_the_command_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "one.py"
    words = [str(ROOT / "configs" / "demo.yaml"), "seed=7", "-o", str(file), "--json"]
    assert run(command.parser(), command.act, show_pairs, words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["path"], answer["bytes"]) == (str(file), file.stat().st_size)
    assert importlib.util.spec_from_file_location("one", file) is not None
    assert "seed: 7" in file.read_text()
