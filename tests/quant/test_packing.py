"""From a trained model to its artifact: what each method costs, and that a reader gets what the packer measured."""

import copy
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from base.config import load
from base.errors import BadInput, CheckFailed
from base.result_file import read_result
from base.source import code_bytes
from data.dataset import Dataset
from engine.device import Device
from model.config import ModelConfig
from model.gpt import GPT
from quant import pack
from quant.config import QuantConfig
from quant.fidelity import Fidelity, as_packed, measure_fidelity
from quant.format import write_artifact
from quant.hessian import measure
from quant.packer import Packer, calibration_batches
from quant.quantize import quantize
from quant.unpack import open_artifact
from tests.conftest import prep
from tests.runs import CPU, answer, printed, write_texts
from train_gpt import RunConfig, train_pack_score

WORDS = [
    "model.vocab_size=400", "model.layers=2", "model.dim=64", "model.heads=2", "model.kv_heads=1", "model.smear=static",
    "model.bigram_buckets=128", "model.bigram_dim=16", "model.skips=plain", "model.embed_norm=true", "train.seconds=0",
    "train.steps=120", "train.seq_len=64", "train.batch_tokens=1024", "eval.stride=64", "eval.during=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    """A small model, trained for seconds: random weights compress unlike trained ones."""
    folder = tmp_path_factory.mktemp("run")
    text = write_texts(folder / "text.jsonl", texts)
    prep(text, "--vocab", 400, "--val-fraction", 0.3, "--out", folder / "data", "--workers", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = load(RunConfig, None, [*WORDS, f"data.path={folder / 'data'}"])
        train_pack_score(config, "r", CPU)
    return folder / "runs" / "r"


@pytest.fixture(scope="module")
def opened(run: Path) -> tuple[GPT, dict[str, Any], Dataset]:
    return pack.open_run(run / "model.pt", None)


@pytest.fixture(scope="module")
def packer(opened: tuple[GPT, dict[str, Any], Dataset]) -> Packer:
    return Packer(*opened)


def measured(
    opened: tuple[GPT, dict[str, Any], Dataset], packer: Packer, quant: QuantConfig, cap: int = 0
) -> tuple[int, Fidelity]:
    model, _, dataset = opened
    data = packer.pack(replace(quant, cap_bytes=cap)).data
    return len(data), measure_fidelity(model, as_packed(model, data), dataset, 64, 8192)


def quant(**values: Any) -> QuantConfig:
    return QuantConfig(calibration_tokens=8192, **values)


def test_a_reader_of_the_artifact_gets_the_figures_that_pack_printed(run: Path, tmp_path: Path, opened: Any) -> None:
    out = tmp_path / "a.golf"
    words = (run, "--data", run.parents[1] / "data", "-o", out, "--check-tokens", 4096)
    found = answer("quant.pack", *words, "--code", __file__)
    model, config, dataset = opened
    artifact = open_artifact(out)
    assert asdict(measure_fidelity(model, artifact.model, dataset, 64, 4096)) == found["fidelity"]
    assert artifact.header.config == config
    assert out.read_bytes() == (run / "model.golf").read_bytes()  # as the run itself packed it
    assert found["code_bytes"] == Path(__file__).stat().st_size
    assert found["artifact_bytes"] + found["code_bytes"] == found["total_bytes"]
    inspected = answer("quant.inspect", out, "--plot")
    assert inspected["streams"] == found["streams"]
    assert {f"integers.{row['kind']}": row["bytes"] for row in found["kinds"]}.items() <= found["streams"].items()
    assert printed("quant.inspect", out)[0].count("\n| ") == len(inspected["tensors"])
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_rate_beats_absmax_at_three_quarters_of_it(
    opened: Any, packer: Packer, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, plain = measured(opened, packer, quant(method="absmax"))
    packs = list[str]()

    def counted(*words: Any) -> bytes:
        packs.append(words[-1])
        return write_artifact(*words)

    monkeypatch.setattr("quant.packer.write_artifact", counted)
    smaller, ours = measured(opened, packer, quant(method="rate", codec="best"), cap=int(0.75 * size))
    *tries, last = packs
    assert last == "best"
    assert set(tries) == {"ans"}
    # So small a model's bytes vary by chance as much as the cap leaves, and with them the number of tries.
    assert len(tries) <= 16
    assert 0.99 * 0.75 * size <= smaller <= 0.75 * size
    assert ours.kl_nats < plain.kl_nats


@pytest.mark.slow
def test_every_part_of_rate_pays_at_equal_bytes(opened: Any, packer: Packer) -> None:
    size, complete = measured(opened, packer, quant(method="rate", codec="ans", dial=0.5))
    for part in ({"feedback": False}, {"by_tensor": False}):
        _, without = measured(opened, packer, quant(method="rate", codec="ans", **part), cap=size)
        assert without.kl_nats > complete.kl_nats, part


def test_gptq_diverges_less_than_absmax_and_fitted_widths_less_than_even_ones(opened: Any, packer: Packer) -> None:
    for width in (4, 5):
        bits = ",".join(f"{kind}={width}" for kind in ("mlp", "attn", "embed", "bigram"))
        divergences = {}
        for method in ("absmax", "gptq"):
            size, even = measured(opened, packer, quant(method=method, bits=bits))
            smaller, fitted = measured(opened, packer, quant(method=method), cap=size)
            assert smaller <= size
            assert fitted.kl_nats < even.kl_nats
            divergences[method] = even.kl_nats
        assert divergences["gptq"] < divergences["absmax"]


def _pack_on_a_rank(rank: int, folder: str, run: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model, config, dataset = pack.open_run(Path(run) / "model.pt", None)
    if rank:
        torch.nn.init.zeros_(model.embedding.table.weight)  # the main rank's weights count
    for name, values in RANKS.items():
        packed = Packer(model, config, dataset, Device(torch.device("cpu"), rank, 2)).pack(quant(**values))
        if rank == 0:
            (Path(folder) / name).write_bytes(packed.data)
    os._exit(0)  # as `engine.device.run_rank` does, and for its reason


RANKS: dict[str, dict[str, Any]] = {
    "fitted": {"method": "rate", "codec": "ans", "cap_bytes": 70_000},
    "gptq": {"method": "gptq", "bits": "mlp=4"},
}


@pytest.mark.slow
def test_two_ranks_pack_the_same_bytes_as_one(tmp_path: Path, run: Path, packer: Packer) -> None:
    mp.spawn(_pack_on_a_rank, (str(tmp_path), str(run)), nprocs=2)
    for name, values in RANKS.items():
        assert (tmp_path / name).read_bytes() == packer.pack(quant(**values)).data, name


def test_a_cap_that_is_only_checked_fails_with_the_artifact_kept(run: Path, tmp_path: Path) -> None:
    state = torch.load(run / "model.pt", weights_only=True)
    own = Path(__file__).stat().st_size
    state["config"]["quant"] |= {"cap_bytes": own + 50_000, "solve": False}
    torch.save(state, tmp_path / "model.pt")
    words = (tmp_path / "model.pt", "--data", run.parents[1] / "data", "--check-tokens", 64, "--code", __file__)
    out, err = printed("quant.pack", *words, "--json", code=1)
    size = (tmp_path / "model.golf").stat().st_size
    assert (tmp_path / "model.golf").read_bytes() != (run / "model.golf").read_bytes()  # its config is another
    assert f"{size:,} bytes and {own:,} counted beside it are {size - 50_000:,} over the cap of" in err
    assert f'"total_bytes": {size + own},' in out
    printed("quant.pack", *words, "--fit", own + 50_000)
    assert (tmp_path / "model.golf").stat().st_size <= 50_000


def test_a_run_over_its_cap_fails_with_its_artifact(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train.steps=1", "train.compile=off", "quant.solve=false", f"quant.cap_bytes={code_bytes(None) + 50_000}"]
    config = load(RunConfig, None, [*WORDS, *words, f"data.path={run.parents[1] / 'data'}"])
    with pytest.raises(CheckFailed, match="over the cap") as failed:
        train_pack_score(config, "r", CPU)
    result = read_result(Path("runs/r/result.json"))
    assert result == failed.value.answer
    assert result.over_cap_bytes == Path(result.artifact).stat().st_size - 50_000 > 0
    assert str(failed.value) in Path("runs/r/train.log").read_text()


def test_named_widths_stay_while_the_others_are_fitted(packer: Packer) -> None:
    packed = packer.pack(quant(method="absmax", bits="blocks.0.mlp.*=8,attn=6", cap_bytes=90_000 + 1000), 1000)
    assert len(packed.data) <= 90_000
    with pytest.raises(BadInput, match="cannot be met: the coarsest steps give"):
        packer.pack(quant(method="rate", cap_bytes=900))
    bits = {tensor.name: tensor.bits for tensor in packed.tensors if tensor.grid is not None}
    assert bits["blocks.0.mlp.up.weight"] == 8
    assert {width for name, width in bits.items() if ".attn." in name} == {6}
    assert bits["embedding.table.weight"] < 6


def test_sensitivity_predicts_the_divergence(opened: Any) -> None:
    """1/2 sum d H d over a matrix is the KL that noise of its size gives: the Fisher information is right, in nats."""
    model, _config, dataset = opened
    costs = measure(model, calibration_batches(dataset.train, 64, 8192), CPU)
    draw = torch.Generator().manual_seed(1)
    for name in ("blocks.0.mlp.up.weight", "blocks.1.attn.out.weight", "embedding.table.weight"):
        noisy = copy.deepcopy(model)
        parameter = dict(noisy.named_parameters())[name]
        noise = torch.randn(parameter.shape, generator=draw) * 0.05 * float(parameter.detach().std())
        parameter.data += noise
        found = measure_fidelity(model, noisy, dataset, 64, 8192).kl_nats
        assert 0.5 < found / costs[name].nats(noise) < 2, name


def test_untied_heads_dead_layers_and_constant_vectors_are_packed_too(opened: Any) -> None:
    """No gradient reaches q, k and v while the output projection is zero; vectors of ones have no spread."""
    dataset = opened[2]
    config = ModelConfig(
        vocab_size=400, layers=2, dim=32, heads=2, kv_heads=1, tied=False, init="ortho", branch_scale=True, q_gain=1.5
    )
    torch.manual_seed(0)
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
    plain = type(dataset.val).read

    def guarded(stream: Any, start: int, count: int) -> Any:
        assert stream is dataset.train, "validation text was read"
        read.append(start)
        return plain(stream, start, count)

    monkeypatch.setattr(type(dataset.val), "read", guarded)
    Packer(model, config, dataset).pack(quant(method="rate"))
    assert len(read) > 10


def test_globs_and_floats_and_odd_widths_are_kept_and_bad_weights_named_by_tensor(opened: Any) -> None:
    packed = quantize(opened[0], QuantConfig(bits="blocks.0.mlp.*=3,embed=32,control=8,attn=16"))
    kept = {tensor.name: (tensor.bits, tensor.values.dtype.name) for tensor in packed}
    assert kept["blocks.0.mlp.up.weight"] == (3, "int8")
    assert kept["blocks.1.mlp.up.weight"] == (5, "int8")
    assert kept["embedding.table.weight"] == (32, "float32")
    assert kept["blocks.0.attn.q.weight"] == (16, "float16")
    assert kept["embedding.smear"] == (8, "int8")
    for name, value, says in (
        ("blocks.1.mlp.up.weight", float("nan"), r"blocks\.1\.mlp\.up\.weight: holds NaN or infinity"),
        ("embedding.smear", 1e6, "beyond fp16; give it 32 bits"),
    ):
        broken = copy.deepcopy(opened[0])
        broken.get_parameter(name).data[0] = value
        with pytest.raises(BadInput, match=says):
            quantize(broken, QuantConfig())


@pytest.mark.slow
def test_the_comparison_packs_as_pack_does(run: Path, tmp_path: Path, packer: Packer) -> None:
    words = (run, "--data", run.parents[1] / "data", "--check-tokens", 2048, "--calibration-tokens", 8192)
    rows = answer("tools.compare", *words, "--ways", "^absmax, mlp|^rate, 0.4", "--plot", tmp_path / "a.png")["rows"]
    assert [row["way"] for row in rows] == ["absmax, mlp=5 attn=6, zstd", "rate, 0.4"]
    assert rows[1]["artifact_bytes"] == len(packer.pack(quant(method="rate", codec="best")).data)
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert "matches none of: absmax" in printed("tools.compare", *words, "--ways", "zip", code=2)[1]


def test_a_comparison_with_the_float_model_takes_text(run: Path, tmp_path: Path) -> None:
    words = (run, "--data", run.parents[1] / "data", "-o", tmp_path / "a.golf", "--check-tokens", 0)
    assert "--check-tokens 0: use at least 1" in printed("quant.pack", *words, code=2)[1]
    assert not (tmp_path / "a.golf").exists()


def test_flags_override_the_run_and_a_packing_named_by_hand_replaces_it() -> None:
    of_run = {"method": "rate", "codec": "ans", "cap_bytes": 1000, "dial": 0.3, "trellis": False}
    for words, expected in {
        "": replace(QuantConfig(), **of_run),
        "--codec zstd": replace(QuantConfig(), **{**of_run, "codec": "zstd"}),
        "--calibration-tokens 64": replace(QuantConfig(), **of_run, calibration_tokens=64),
        "--fit 9000": replace(QuantConfig(), **{**of_run, "codec": "best", "cap_bytes": 9000}),
        "--bits mlp=5,attn=6": QuantConfig(bits="mlp=5,attn=6", method="absmax", codec="zstd", cap_bytes=0),
        "--dial 0.5": QuantConfig(method="rate", codec="best", dial=0.5),
        "--method sigma --dial 0.5 --codec ans": QuantConfig(method="sigma", codec="ans", dial=0.5),
        "--fit 9000 --bits mlp=4": QuantConfig(bits="mlp=4", method="rate", codec="best", cap_bytes=9000),
        "--fit-artifact 9000 --method gptq": QuantConfig(method="gptq", codec="zstd", cap_bytes=9000),
    }.items():
        assert pack.configured(pack.parser().parse_args(words.split()), of_run) == expected, words
    assert pack.configured(pack.parser().parse_args(["--fit", "9000"]), {"method": "gptq"}).method == "rate"
