"""From a trained model to its artifact: what each method costs, and that a reader gets what the packer measured."""

import contextlib
import copy
import io
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import torch

from base.cli import run as run_command
from base.config import load
from base.errors import BadInput
from data.dataset import Dataset
from engine.device import Device
from model.config import ModelConfig
from model.gpt import GPT
from quant import inspect, pack
from quant.fidelity import Damage, damage
from quant.hessian import measure
from quant.packer import Packer, calibration_rows, projected_bytes
from quant.quantize import Method, QuantConfig, quantize
from quant.unpack import open_artifact, put_into
from tests.conftest import prep
from tools import compare
from train_gpt import RunConfig, whole_run

WORDS = [
    "model.vocab_size=400", "model.layers=2", "model.dim=64", "model.heads=2", "model.kv_heads=1", "model.smear=static",
    "model.bigram_buckets=128", "model.bigram_dim=16", "model.skips=plain", "model.embed_norm=true", "train.seconds=0",
    "train.steps=120", "train.seq_len=64", "train.batch_tokens=1024", "eval.stride=64", "eval.during=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    """A small model, trained for seconds: random weights compress unlike trained ones."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    prep(folder / "text.jsonl", "--vocab", 400, "--val-fraction", 0.3, "--out", folder / "data", "--workers", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = load(RunConfig, None, [*WORDS, f"data.path={folder / 'data'}"])
        return Path(whole_run(config, "r", Device(torch.device("cpu")))["run"])


@pytest.fixture(scope="module")
def opened(run: Path) -> tuple[GPT, dict[str, Any], Dataset]:
    return pack.open_run(run / "model.pt", None)


@pytest.fixture(scope="module")
def packer(opened: tuple[GPT, dict[str, Any], Dataset]) -> Packer:
    return Packer(*opened)


def harm(
    opened: tuple[GPT, dict[str, Any], Dataset], packer: Packer, quant: QuantConfig, cap: int = 0
) -> tuple[int, Damage]:
    model, _, dataset = opened
    packed = packer.fit(quant, cap) if cap else packer.pack(quant)
    after = copy.deepcopy(model)
    put_into(after, packed.tensors)
    return len(packed.data), damage(model, after, dataset, 64, 8192)


@pytest.mark.parametrize("method", get_args(Method))
def test_what_a_run_projects_on_its_way_is_near_what_it_will_pack(
    opened: tuple[GPT, dict[str, Any], Dataset], packer: Packer, method: Method
) -> None:
    quant = QuantConfig(method=method, codec="best", calibration_tokens=4096)
    projected = projected_bytes(opened[0], quant, opened[2].tokenizer.model)
    assert projected == pytest.approx(len(packer.pack(quant).data), rel=0.15)


def said(module: ModuleType, code: int, *words: object) -> str:
    """A command in this process: its exit code is as it should be; what it printed, errors included."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        assert run_command(module.parser(), module.act, module.show, [str(word) for word in words]) == code
    return printed.getvalue()


def answered(module: ModuleType, *words: object) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(said(module, 0, *words, "--json").splitlines()[-1])
    return answer


def quant(**values: Any) -> QuantConfig:
    return QuantConfig(calibration_tokens=8192, **values)


def test_training_ends_with_an_artifact_that_scores_as_reported(run: Path, opened: Any) -> None:
    answer = json.loads((run / "result.json").read_text())
    artifact = open_artifact(run / "model.golf")
    assert artifact.size_bytes == answer["artifact_bytes"] == (run / "model.golf").stat().st_size
    assert answer["total_bytes"] == answer["artifact_bytes"] + answer["code_bytes"]
    assert abs(answer["packed_bpb"] - answer["val_bpb"]) < 0.05
    assert artifact.header.config == opened[1]


def test_a_reader_of_the_artifact_gets_the_figures_that_pack_printed(run: Path, tmp_path: Path, opened: Any) -> None:
    out = tmp_path / "a.golf"
    answer = answered(pack, run, "--data", run.parents[1] / "data", "-o", out, "--check-tokens", 4096)
    model, _, dataset = opened
    again = damage(model, open_artifact(out).model, dataset, 64, 4096)
    assert again.packed_bpb == answer["damage"]["packed_bpb"]
    assert again.kl_nats == answer["damage"]["kl_nats"]
    assert answered(inspect, out)["kinds"] == answer["kinds"]  # absmax measures nothing that inspect could not see
    assert said(inspect, 0, out).count("\n| ") == len(answer["tensors"])


def test_rate_at_three_quarters_of_the_bytes_harms_less_than_absmax(opened: Any, packer: Packer) -> None:
    size, plain = harm(opened, packer, quant(method="absmax"))
    smaller, ours = harm(opened, packer, quant(method="rate", codec="best"), cap=int(0.75 * size))
    assert 0.997 * 0.75 * size <= smaller <= 0.75 * size
    assert ours.kl_nats < plain.kl_nats


def test_every_part_of_rate_pays_at_equal_bytes(opened: Any, packer: Packer) -> None:
    size, whole = harm(opened, packer, quant(method="rate", codec="ans", dial=0.5))
    for part in ({"feedback": False}, {"by_tensor": False}):
        _, without = harm(opened, packer, quant(method="rate", codec="ans", **part), cap=size)
        assert without.kl_nats > whole.kl_nats, part


@pytest.mark.parametrize("method", ["absmax", "gptq"])
def test_fitted_widths_harm_less_than_even_ones_of_the_same_bytes(opened: Any, packer: Packer, method: str) -> None:
    for width in (4, 5):
        even = quant(method=method, bits=",".join(f"{kind}={width}" for kind in ("mlp", "attn", "embed", "bigram")))
        size, plain = harm(opened, packer, even)
        smaller, fitted = harm(opened, packer, quant(method=method), cap=size)
        assert smaller <= size
        assert fitted.kl_nats < plain.kl_nats


def test_words_of_the_user_stay_while_the_other_widths_are_fitted(packer: Packer) -> None:
    packed = packer.fit(quant(method="absmax", bits="blocks.0.mlp.*=8,attn=6"), 90_000)
    bits = {tensor.name: tensor.bits for tensor in packed.tensors if tensor.grid is not None}
    assert bits["blocks.0.mlp.up.weight"] == 8
    assert {width for name, width in bits.items() if ".attn." in name} == {6}
    assert bits["embedding.table.weight"] < 6
    assert set(packer.foretold(packed)) == set(bits)


def test_gptq_harms_less_than_absmax_at_the_same_bits(opened: Any, packer: Packer) -> None:
    _, plain = harm(opened, packer, quant(method="absmax", bits="mlp=4,attn=4,embed=4,bigram=4"))
    _, better = harm(opened, packer, quant(method="gptq", bits="mlp=4,attn=4,embed=4,bigram=4"))
    assert better.kl_nats < plain.kl_nats


def test_sensitivity_foretells_the_divergence(opened: Any) -> None:
    """1/2 sum d H d over a matrix is the KL that noise of its size gives: the Fisher information is right, in nats."""
    model, _config, dataset = opened
    costs = measure(model, calibration_rows(dataset.train, 64, 8192))
    draw = torch.Generator().manual_seed(1)
    for name in ("blocks.0.mlp.up.weight", "blocks.1.attn.out.weight", "embedding.table.weight"):
        noisy = copy.deepcopy(model)
        parameter = dict(noisy.named_parameters())[name]
        noise = torch.randn(parameter.shape, generator=draw) * 0.05 * float(parameter.detach().std())
        parameter.data += noise
        foretold = 0.5 * float((noise.double() @ costs[name].hessian * noise.double()).sum(1) @ costs[name].rows)
        found = damage(model, noisy, dataset, 64, 8192).kl_nats
        assert 0.5 < found / foretold < 2, name


def test_untied_heads_dead_layers_and_constant_vectors_are_packed_too(opened: Any) -> None:
    """No gradient reaches q, k and v while the output projection is zero; vectors of ones have no spread."""
    dataset = opened[2]
    config = ModelConfig(
        vocab_size=400, layers=2, dim=32, heads=2, kv_heads=1, tied=False, init="ortho", branch_scale=True, q_gain=1.5
    )
    model = GPT(config)
    for method in ("rate", "sigma"):
        even = "control=8,mlp=8,attn=8,embed=8,head=8"
        words = {"method": method, "bits": even, "dial": 0.3 if method == "rate" else 0.05}
        packed = Packer(model, opened[1], dataset).pack(quant(**words))
        back = {tensor.name: tensor.weights() for tensor in packed.tensors}
        for name, parameter in model.named_parameters():
            weight = parameter.detach().numpy()
            error = float(np.square(back[name] - weight).mean())
            assert error <= 0.05 * float(np.square(weight).mean()) + 1e-12, (method, name)


def test_calibration_reads_training_text_alone(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, config, dataset = opened
    read = []

    def guarded(stream: Any, start: int, count: int) -> Any:
        assert stream is dataset.train, "validation text was read"
        read.append(start)
        out = np.empty(count, np.uint16)
        stream.read_into(out, start)
        return out

    monkeypatch.setattr(type(dataset.val), "read", guarded)
    Packer(model, config, dataset).pack(quant(method="rate"))
    assert len(read) > 10


def test_globs_and_floats_and_odd_widths_are_kept(opened: Any) -> None:
    model = opened[0]
    stored = quantize(model, QuantConfig(bits="blocks.0.mlp.*=3,embed=32,control=8,attn=16"))
    bits = {tensor.name: (tensor.bits, tensor.values.dtype.name) for tensor in stored}
    assert bits["blocks.0.mlp.up.weight"] == (3, "int8")
    assert bits["blocks.1.mlp.up.weight"] == (5, "int8")
    assert bits["embedding.table.weight"] == (32, "float32")
    assert bits["blocks.0.attn.q.weight"] == (16, "float16")
    assert bits["embedding.smear"] == (8, "int8")
    assert [tensor.weights().shape for tensor in stored] == [tuple(p.shape) for p in model.parameters()]


def test_a_checkpoint_with_nan_is_named_by_tensor(opened: Any) -> None:
    broken = copy.deepcopy(opened[0])
    broken.blocks[1].mlp.up.weight.data[3, 4] = float("nan")  # type: ignore[union-attr, index]
    with pytest.raises(BadInput, match=r"blocks\.1\.mlp\.up\.weight: holds NaN or infinity"):
        quantize(broken, QuantConfig())
    large = copy.deepcopy(opened[0])
    large.embedding.smear.data[0] = 1e6
    with pytest.raises(BadInput, match=r"beyond fp16; give it 32 bits"):
        quantize(large, QuantConfig())


def test_bad_requests_end_with_one_line(run: Path, tmp_path: Path) -> None:
    data = ("--data", run.parents[1] / "data")
    for words, says in (
        ((run, *data, "--bits", "mpl=5"), "neither a kind"),
        ((run, *data, "--fit", 10), "the code alone"),
        ((run, *data, "--fit-artifact", 900), "cannot be met: the coarsest steps give"),
        ((run, *data, "--fit-artifact", 900, "--method", "gptq"), "cannot be met: the narrowest widths"),
        ((tmp_path / "nothing", *data), "no such file"),
        ((run, *data, "--code", "nowhere.py"), "no such file"),
        ((run / "result.json", *data), "not a checkpoint that can be read"),
        ((run, "--data", tmp_path), "not a dataset"),
    ):
        assert says in said(pack, 2, *words), words
    (tmp_path / "model.golf").write_bytes(b"GOLF")
    assert "too short" in said(inspect, 2, tmp_path / "model.golf")


def test_the_comparison_says_of_every_way_what_packing_it_gives(run: Path, tmp_path: Path, packer: Packer) -> None:
    words = (run, "--data", run.parents[1] / "data", "--check-tokens", 2048, "--calibration-tokens", 8192)
    answer = answered(compare, *words, "--ways", "^absmax, mlp|^gptq, mlp|^rate, 0.4", "--plot", tmp_path / "a.png")
    assert [row["way"] for row in answer["lossy"]] == ["absmax, mlp=5 attn=6, zstd", "gptq, mlp=5 attn=6", "rate, 0.4"]
    assert answer["lossy"][2]["artifact_bytes"] == len(packer.pack(quant(method="rate", codec="best")).data)
    for row in answer["lossless"]:
        assert row["best"] <= min(row["zstd"], row["ans"]) < row["contest"]
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert "finds none of: absmax" in said(compare, 2, *words, "--ways", "zip")


def test_bits_alone_ask_for_widths_whatever_the_run_was_packed_with(opened: Any) -> None:
    own = {"quant": {"method": "rate", "codec": "best", "cap_bytes": 1000, "dial": 0.3}}
    for words, expected in (
        (["--bits", "mlp=5,attn=6"], ("absmax", "zstd", 0)),
        (["--method", "gptq"], ("gptq", "zstd", 0)),
        (["--dial", "0.5"], ("rate", "best", 0)),
        (["--fit", "9000", "--bits", "mlp=4"], ("rate", "best", 9000)),
        ([], ("rate", "best", 1000)),
    ):
        found = pack.configured(pack.parser().parse_args(words), own)
        assert (found.method, found.codec, found.cap_bytes) == expected, words


@pytest.mark.parametrize("spoilt", [{"config": {}}, {"config": {"model": {}}}, {"weights": [1, 2]}])
def test_a_model_file_that_lacks_something_is_refused(run: Path, tmp_path: Path, spoilt: dict[str, Any]) -> None:
    torch.save(torch.load(run / "model.pt", weights_only=True) | spoilt, tmp_path / "model.pt")
    assert "holds no config with weights" in said(pack, 2, tmp_path)


def test_code_that_is_named_counts_as_it_lies_on_disk(run: Path, tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "train_gpt.py")
    words = (run, "--data", run.parents[1] / "data", "-o", tmp_path / "a.golf", "--check-tokens", 64, "--plot")
    answer = answered(pack, *words, "--code", tmp_path / "train_gpt.py")
    assert answer["code_bytes"] == Path(__file__).stat().st_size
    assert (tmp_path / "a.png").stat().st_size > 10_000
