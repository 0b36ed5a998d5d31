"""Tiny artifacts of random weights: for the codec with every kind of state, and as a run on a dataset leaves it."""

from pathlib import Path

import numpy as np
import torch

from base.config import load, to_dict
from data.dataset import Dataset
from data.tokenizer import Tokenizer
from model.config import ModelConfig
from model.gpt import GPT, parameter_kind
from quant.config import QuantConfig
from quant.format import PackedTensor, write_artifact
from quant.packer import Packer
from quant.unpack import attach_table
from run_config import RunConfig

CONTEXT = 16


def tiny_artifact(tokenizer: Tokenizer, seed: int = 0, data_path: str = "", canonical: bool = False) -> bytes:
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, layers=2, dim=16, heads=2, kv_heads=1, smear="static", bigram_buckets=8,
        bigram_dim=4, skips="plain", q_gain=1.5, embed_norm=True, softcap=15.0, bos_id=tokenizer.bos_id,
        canonical=canonical,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(seed)
    tensors = []
    for name, parameter in GPT(config).named_parameters():
        values = (torch.randn(parameter.shape, generator=draw) * 0.5).numpy().astype(np.float32)
        tensors.append(PackedTensor(name, parameter_kind(name, parameter), values.shape, 32, values, None))
    run = {"model": to_dict(config), "train": {"seq_len": CONTEXT}, "eval": {"context": 0}, "data": {"path": data_path}}
    return write_artifact(tensors, {"config": run}, tokenizer.model, "zstd")


def packed(dataset: Dataset, path: Path, *words: str) -> Path:
    """An artifact as a run of train_gpt.py leaves it, with these overrides."""
    own = ["layers=2", "dim=16", "heads=2", "kv_heads=1", "skips=plain", "smear=static", "vocab_size=400"]
    own = [f"data.path={dataset.path}", "train.seq_len=24", "eval.stride=8", *(f"model.{word}" for word in own)]
    config: RunConfig = load(RunConfig, None, [*own, *words])
    torch.manual_seed(0)
    packer = Packer(attach_table(GPT(config.model), dataset.tokenizer), to_dict(config), dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packer.pack(QuantConfig(method="absmax", codec="zstd")).data)
    return path


def written(folder: Path, tokenizer: Tokenizer, seed: int = 0) -> Path:
    path = folder / "model.golf"
    path.write_bytes(tiny_artifact(tokenizer, seed))
    return path
