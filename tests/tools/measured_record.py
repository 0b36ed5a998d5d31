"""A tiny record that is honest in everything that the second tier measures, and ways to spoil it.

The dataset, its artifacts of random weights, their scores (by eval.score, not by the verifier), hashes are real.
It has no logs, which the first tier looks at.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from base.config import to_dict
from data.dataset import Dataset, open_dataset
from eval.score import score_tokens
from model.config import ModelConfig
from model.cost import parameters
from model.gpt import GPT, parameter_kind
from quant.format import PackedTensor, write_artifact
from quant.unpack import Artifact, from_bytes
from tests.conftest import make_text, prep
from tools.record.schema import Data, Evaluation, SeedResult, Submission
from tools.verify.record import Record, open_record

CONTEXT, STRIDE, VOCAB = 32, 16, 400
TRACK = "track_cpu_10min_1mb"


def make_dataset(folder: Path, fraction: float = 0.3) -> Dataset:
    texts = [make_text(seed, 100) for seed in range(60)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    prep(folder / "text.jsonl", "--vocab", VOCAB, "--val-fraction", fraction, "--out", folder / "data", "--workers", 1)
    return open_dataset(folder / "data")


def run_config(dataset: Dataset, seed: int) -> dict[str, Any]:
    model = ModelConfig(vocab_size=VOCAB, layers=1, dim=16, heads=2, kv_heads=1, bos_id=dataset.tokenizer.bos_id)
    return {
        "seed": seed, "model": to_dict(model), "data": {"path": str(dataset.path), "source": ""},
        "train": {"seq_len": CONTEXT}, "eval": {"stride": STRIDE, "context": 0},
    }  # fmt: skip


def make_artifact(dataset: Dataset, config: dict[str, Any], weights_seed: int, tokenizer: bytes | None = None) -> bytes:
    model = GPT(ModelConfig(**config["model"]))
    draw, tensors = torch.Generator().manual_seed(weights_seed), []
    for name, parameter in model.named_parameters():
        values = (torch.randn(parameter.shape, generator=draw) * 0.3).numpy().astype(np.float32)
        tensors.append(PackedTensor(name, parameter_kind(name, parameter), values.shape, 32, values, None))
    hashes = {"data_sha256": dataset.manifest.data_sha256(), "tokenizer_sha256": dataset.manifest.tokenizer.sha256}
    return write_artifact(tensors, {"config": config, **hashes}, tokenizer or dataset.tokenizer.model, "zstd").data


def true_bpb(dataset: Dataset, data: bytes) -> float:
    return scored(dataset, from_bytes(data))


def scored(dataset: Dataset, artifact: Artifact) -> float:
    tokens = dataset.val.read(0, len(dataset.val))
    return score_tokens(artifact.model, tokens, dataset.table, CONTEXT, STRIDE, 4096).score().bpb


def write_record(
    folder: Path,
    dataset: Dataset,
    seeds: tuple[int, ...] = (1,),
    code: str = "raise SystemExit('not to be run')\n",
    edit: Callable[[Submission], Submission] = lambda submission: submission,
    files: dict[str, bytes] | None = None,
) -> Record:
    """`files`: to lie there instead of the honest ones. Hashes in the submission stay those of the honest ones."""
    folder.mkdir(parents=True)
    written: dict[str, bytes] = {"train_gpt.py": code.encode(), "tokenizer.model": dataset.tokenizer.model}
    results = {}
    for seed in seeds:
        config = run_config(dataset, seed)
        data = make_artifact(dataset, config, seed)
        name = "model.golf" if seed == seeds[0] else f"model_seed{seed}.golf"
        written[name] = data
        results[str(seed)] = SeedResult(
            val_bpb=true_bpb(dataset, data), val_loss=1.0, pre_quant_val_bpb=1.0, steps=1, train_seconds=1.0,
            calibration_seconds=1.0, eval_seconds=1.0, bytes_model=len(data), artifact=name,
            artifact_sha256=hashlib.sha256(data).hexdigest(), log=f"train_seed{seed}.log",
            metrics=f"metrics_seed{seed}.jsonl",
        )  # fmt: skip
    submission = edit(_submission(dataset, results, len(code), max(len(data) for data in written.values())))
    written["submission.json"] = json.dumps(to_dict(submission)).encode()
    written |= files or {}
    listed = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in written.items()}
    manifest = {
        "schema": "bitgolf-manifest-1", "files": listed, "code": {"sources": {}, "packed": False},
        "data": to_dict(submission.data), "environment": {"device": "1 x cpu (2 threads)"},
    }  # fmt: skip
    written["manifest.json"] = json.dumps(manifest).encode()
    for name, data in written.items():
        (folder / name).write_bytes(data)
    return open_record(folder)


def with_result(submission: Submission, seed: int, **changes: Any) -> Submission:
    results = {**submission.seed_results, str(seed): replace(submission.seed_results[str(seed)], **changes)}
    return replace(submission, seed_results=results)


def _submission(dataset: Dataset, results: dict[str, SeedResult], code: int, largest: int) -> Submission:
    manifest = dataset.manifest
    tokens = dataset.val.read(0, len(dataset.val))
    exact, contest = dataset.table.totals(tokens[1:], int(tokens[0]))
    scores = [result.val_bpb for result in results.values()]
    return Submission(
        name="tiny", author="", github_id="", date="2026-11-21", blurb="", track=TRACK, track_version=1,
        val_bpb=sum(scores) / len(scores), val_bpb_std=0.01 if len(scores) > 1 else None, val_loss=1.0,
        val_loss_std=None, seeds=tuple(map(int, results)), seed_results=results, bytes_total=code + largest,
        bytes_code=code, bytes_model=largest, bytes_tokenizer=len(dataset.tokenizer.model), cap_bytes=1_000_000,
        params=sum(parameters(ModelConfig(**run_config(dataset, 1)["model"])).values()),
        evaluation=Evaluation(
            stride=STRIDE, context=CONTEXT, val_tokens=len(tokens) - 1, val_bytes=exact, contest_bytes=contest
        ),
        data=Data(
            name="tiny", source="text.jsonl", sha256=manifest.data_sha256(), val_sha256=manifest.data_sha256("val"),
            tokenizer_sha256=manifest.tokenizer.sha256,
        ),
        hardware="2 cores", pytorch_version="", python_version="", compliance={},
    )  # fmt: skip
