"""tools.convert_rscalm: the files of seed 001 hold our weights and tokens, and its checkpoints open here."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from base.run_folder import MODEL
from data.dataset import Dataset
from data.tokenizer import SentencePieceTokenizer
from model.config import ModelConfig
from tests.runs import command, refusal
from tests.tools.test_export_llama import export, make_model, same, save_run
from tools import generate
from tools.llama import write_out_sizes
from tools.load_model import open_model

RSCALM = ModelConfig(
    vocab_size=400, layers=2, dim=32, heads=4, kv_heads=4, hidden=128, norm="rms_weight", rope_base=1e5
)
FILES = ["ckpt_last.pt", "ckpt_best.pt", "pytorch_model.bin", "config.json", "tokenizer.model"]


def convert(*words: object) -> int:
    return command("tools.convert_rscalm", *map(str, words))


def run_rscalm(weights: dict[str, torch.Tensor], config: dict[str, Any], tokens: torch.Tensor) -> torch.Tensor:
    """Seed 001's model, written out from its document: the oracle for its layout. Pairs (2i, 2i + 1) rotate."""
    heads, width = config["n_head"], config["d_model"] // config["n_head"]

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    def rotate(x: torch.Tensor) -> torch.Tensor:  # (B, H, T, C)
        angle = torch.arange(x.shape[2])[:, None] * config["rope_base"] ** (-torch.arange(0, width, 2) / width)
        a, b, cos, sin = x[..., 0::2], x[..., 1::2], angle.cos(), angle.sin()
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)

    x = weights["tok_emb.weight"][tokens]
    for layer in range(config["n_layer"]):
        w = {name.split(".", 2)[2]: tensor for name, tensor in weights.items() if name.startswith(f"blocks.{layer}.")}
        n = norm(x, w["norm1.weight"]) @ w["attn.qkv.weight"].T
        q, k, v = (part.unflatten(-1, (heads, width)).transpose(1, 2) for part in n.chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        x = x + attended.transpose(1, 2).flatten(-2) @ w["attn.proj.weight"].T
        n = norm(x, w["norm2.weight"])
        x = x + (F.silu(n @ w["mlp.w1.weight"].T) * (n @ w["mlp.w2.weight"].T)) @ w["mlp.w3.weight"].T
    return norm(x, weights["norm.weight"]) @ weights["lm_head.weight"].T


def test_a_checkpoint_has_their_names_and_comes_back(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    model = make_model(RSCALM)
    out = tmp_path / "old"
    assert convert("checkpoint", save_run(tmp_path / "run", model, tokenizer), "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.w1", "mlp.w2", "mlp.w3")
    names = {"tok_emb.weight", "lm_head.weight", "norm.weight"}
    names |= {f"blocks.{layer}.{part}.weight" for layer in range(2) for part in parts}
    config = json.loads((out / "config.json").read_text())
    tokens = torch.randint(400, (2, 40))
    for file in ("ckpt_last.pt", "ckpt_best.pt"):
        state = torch.load(out / file, weights_only=True)
        assert set(state) == {"model", "config", "optim", "scaler"}
        assert state["config"] == config
        assert set(state["model"]) == names
        assert same(state["model"], torch.load(out / "pytorch_model.bin", weights_only=True))
        assert (run_rscalm(state["model"], config, tokens) - model(tokens)).abs().max() < 1e-4
        back = open_model(str(out / file), MODEL)
        assert same(back.model.state_dict(), model.state_dict())
        assert replace(write_out_sizes(back.model.config), mlp_mult=RSCALM.mlp_mult) == write_out_sizes(RSCALM)


def test_a_compiled_checkpoint_becomes_a_llama_and_text(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    run_folder = save_run(tmp_path / "run", make_model(RSCALM), tokenizer)
    assert convert("checkpoint", run_folder, "--out", tmp_path) == 0
    state = torch.load(tmp_path / "ckpt_last.pt", weights_only=True)
    state["model"] = {f"_orig_mod.{name}": tensor for name, tensor in state["model"].items()}
    (tmp_path / "compiled").mkdir()
    torch.save(state, tmp_path / "compiled" / "ckpt_last.pt")
    flags = ["--tokenizer", str(tmp_path / "tokenizer.model")]
    assert export(tmp_path / "compiled" / "ckpt_last.pt", tmp_path / "hf", *flags).argmax_agreement == 1
    texts = []
    for source in (run_folder, tmp_path / "compiled"):
        words = [str(source), *flags, "--prompt", "The sun is", "--temperature", "0", "--mark", "eos"]
        texts.append(generate.act(generate.parser().parse_args(words)).tokens)
    assert texts[0] == texts[1]


def test_a_dataset_is_int32_with_eos_after_each_document(dataset: Dataset, tmp_path: Path) -> None:
    assert convert("dataset", dataset.path, "--out", tmp_path / "old") == 0
    for split, stream in (("train", dataset.train), ("val", dataset.val)):
        tokens = stream.read(0, len(stream))
        theirs = np.fromfile(tmp_path / "old" / f"{split}.bin", "<i4")
        bos, eos = dataset.tokenizer.bos_id, dataset.tokenizer.eos_id
        assert theirs.tolist() == np.where(np.append(tokens, bos) == bos, eos, np.append(tokens, bos))[1:].tolist()


def test_what_theirs_has_no_place_for_is_refused_by_name(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    no_place = {"kv_heads": 2, "norm_eps": 1e-5, "tied": False, "embed_norm": True, "softcap": 30.0, "norm": "rms"}
    for name, value in no_place.items():
        source = save_run(tmp_path / name, make_model(replace(RSCALM, **{name: value})), tokenizer)
        assert f"{name}={value}" in refusal("tools.convert_rscalm", "checkpoint", source, "--out", tmp_path / "old")
        assert not (tmp_path / "old").exists()
    source = save_run(tmp_path / "run", make_model(RSCALM), tokenizer)
    assert convert("checkpoint", source, "--out", tmp_path / "old") == 0
    assert "holds ckpt_last.pt" in refusal("tools.convert_rscalm", "checkpoint", source, "--out", tmp_path / "old")


def test_a_broken_checkpoint_is_refused_by_its_fault(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    assert convert("checkpoint", save_run(tmp_path / "run", make_model(RSCALM), tokenizer), "--out", tmp_path) == 0
    state = torch.load(tmp_path / "ckpt_last.pt", weights_only=True)
    weights, config = state["model"], state["config"]
    qkv = "blocks.0.attn.qkv.weight"
    broken: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        (weights | {"lm_head.weight": -weights["lm_head.weight"]}, config, "differs from tok_emb"),
        (weights | {qkv: weights[qkv][:-1]}, config, "does not split into 4 heads"),
        (weights | {"extra": weights[qkv]}, config, "not in this model"),
        (weights, {name: config[name] for name in config if name != "n_head"}, "heads"),
        (weights, {name: config[name] for name in config if name != "seq_len"}, "seq_len"),
    ]
    for theirs, values, message in broken:
        torch.save({"model": theirs, "config": values}, tmp_path / "ckpt_last.pt")
        assert message in refusal("tools.generate", tmp_path / "ckpt_last.pt", "--prompt", "a")
