"""A small valid record in our own layout, made in a moment: a tiny real artifact, and logs that agree with each other.

    folder = make_record(tmp_path / "records" / TRACK / "2026-11-21_tiny", tokenizer)        three seeds, valid
    edit_json(folder / "submission.json", lambda claim: claim.update(val_bpb=1.0))           spoil one thing
    resign(folder)                                                                           and hash it again

The numbers are invented, but for every one that bytes can show: sizes, hashes, the ratio of nats to bits.
"""

import hashlib
import json
import math
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure

from base.config import to_dict
from data.tokenizer import Tokenizer
from model.config import ModelConfig
from model.gpt import GPT, parameter_kind
from quant.format import PackedTensor, write_artifact
from tools.record.schema import SCHEMA
from tools.record.tracks import load_tracks

TRACK = "track_cpu_10min_1mb"
SEEDS = (1337, 42, 7)
STEPS, STEP_S, CALIBRATION_S, EVAL_S = 40, 15.002, 71.234, 51.5
VAL_TOKENS, VAL_BYTES = 50_000, 152_800
DATA_SHA256, VAL_SHA256 = "d" * 64, "e" * 64
SOURCES = {"base/errors.py": "1" * 64, "train_gpt.py": "2" * 64}
MACHINE = "1 x cpu (2 threads)"
CODE = (
    f'''"""A tiny run: it would train if it were more than an example."""

# == train_gpt.py sha256 {SOURCES["train_gpt.py"]} ==
'''
    + """

import json
import sys
from pathlib import Path

import torch


def main(words: list[str]) -> int:
    config = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    print(torch.manual_seed(config["seed"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config_of(seed: int, vocab_size: int, bos_id: int) -> dict[str, Any]:
    model = ModelConfig(vocab_size=vocab_size, layers=1, dim=8, heads=2, kv_heads=1, bos_id=bos_id)
    return {
        "seed": seed,
        "model": to_dict(model),
        "data": {"path": "data/datasets/tiny", "order": "shuffled", "source": ""},
        "train": {"seconds": 600.0, "steps": 0, "seq_len": 16, "batch_tokens": 64},
        "eval": {"stride": 8, "context": 16},
    }


def artifact(config: dict[str, Any], tokenizer: Tokenizer) -> bytes:
    draw = torch.Generator().manual_seed(config["seed"])
    tensors = []
    for name, parameter in GPT(ModelConfig(**config["model"])).named_parameters():
        values = (torch.randn(parameter.shape, generator=draw) * 0.1).numpy().astype(np.float16)
        tensors.append(PackedTensor(name, parameter_kind(name, parameter), values.shape, 16, values, None))
    hashes = {"data_sha256": DATA_SHA256, "tokenizer_sha256": sha256(tokenizer.model)}
    return write_artifact(tensors, {"config": config, **hashes}, tokenizer.model, "zstd").data


def make_record(folder: Path, tokenizer: Tokenizer, seeds: tuple[int, ...] = SEEDS, track: str = TRACK) -> Path:
    folder.mkdir(parents=True)
    tokenizer_sha256 = sha256(tokenizer.model)
    (folder / "tokenizer.model").write_bytes(tokenizer.model)
    (folder / "train_gpt.py").write_text(CODE)
    (folder / "requirements.txt").write_text("torch==2.13.0\n")
    _figures(folder)
    results: dict[str, dict[str, Any]] = {}
    for at, seed in enumerate(seeds):
        loss = round(3.2 + 0.001 * (at - 1), 8)
        bpb = round(loss * VAL_TOKENS / math.log(2) / VAL_BYTES, 8)
        config = config_of(seed, tokenizer.vocab_size, tokenizer.bos_id)
        packed = artifact(config, tokenizer)
        name = "model.golf" if at == (len(seeds) - 1) // 2 else f"model_seed{seed}.golf"
        (folder / name).write_bytes(packed)
        (folder / f"metrics_seed{seed}.jsonl").write_text(_metrics(at))
        log = _log(config, tokenizer_sha256, packed, loss, bpb)
        (folder / f"train_seed{seed}.log").write_text(log, encoding="utf-8")
        results[str(seed)] = {
            "val_bpb": bpb, "val_loss": loss, "pre_quant_val_bpb": round(bpb - 0.001, 8), "steps": STEPS,
            "train_seconds": STEPS * STEP_S, "calibration_seconds": CALIBRATION_S, "eval_seconds": 50.25,
            "bytes_model": len(packed), "artifact": name, "artifact_sha256": sha256(packed),
            "log": f"train_seed{seed}.log", "metrics": f"metrics_seed{seed}.jsonl",
        }  # fmt: skip
    claim = _claim(results, seeds, track, tokenizer)
    _write_json(folder / "submission.json", claim)
    (folder / "README.md").write_text(_readme(claim), encoding="utf-8")
    resign(folder)
    return folder


def resign(folder: Path) -> None:
    """A manifest that fits whatever lies there now: what a forger would do next."""
    claim = json.loads((folder / "submission.json").read_text())
    listed = {
        path.relative_to(folder).as_posix(): {"sha256": sha256(path.read_bytes()), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != "manifest.json"
    }
    _write_json(
        folder / "manifest.json",
        {
            "schema": "bitgolf-manifest-1", "files": listed, "code": {"sources": SOURCES, "packed": False},
            "data": claim["data"], "environment": {"python": "3.11.7", "torch": "2.13.0+cpu", "device": "2 cores"},
        },
    )  # fmt: skip


def edit_json(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text())
    edit(values)
    _write_json(path, values)


def edit_text(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} has no {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def copied(record: Path, folder: Path) -> Path:
    """A copy that a test may spoil, in a track's folder of the same name."""
    shutil.copytree(record, folder / TRACK / record.name)
    return folder / TRACK / record.name


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n")


def _metrics(at: int) -> str:
    rows: list[dict[str, float]] = []
    for step in range(1, STEPS + 1):
        elapsed_s = step * STEP_S
        rows.append({"step": step, "elapsed_s": elapsed_s, "loss": 6 - 0.05 * step + 0.01 * at, "step_s": STEP_S})
        if step == STEPS // 2:
            rows.append({"step": step, "elapsed_s": elapsed_s, "val_bpb": 1.9 + 0.01 * at, "artifact_bytes": 9000})
    return "".join(json.dumps(row) + "\n" for row in rows)


def _log(config: dict[str, Any], tokenizer_sha256: str, packed: bytes, loss: float, bpb: float) -> str:
    code, at = len(CODE.encode()), SEEDS.index(config["seed"]) if config["seed"] in SEEDS else 0
    sources = sha256(json.dumps(SOURCES, sort_keys=True).encode())
    lines = [
        yaml.safe_dump(config, sort_keys=False).rstrip("\n"),
        f"python 3.11.7, torch 2.13.0+cpu, on {MACHINE}, torch.compile on",
        f"sources {sources}",
        f"data {DATA_SHA256} tokenizer {tokenizer_sha256}",
        f"step {STEPS // 2} val_bpb:{1.9 + 0.01 * at:.4f} (no overlap, current weights), artifact about 9,000",
        f"steps {STEPS} train_time:{STEPS * STEP_S * 1000:.0f}ms step_avg:{STEP_S * 1000:.2f}ms peak_memory:812MiB",
        f"pre_quant val_loss:{loss - 0.002:.8f} val_bpb:{bpb - 0.001:.8f} eval_time:{EVAL_S * 1000:.0f}ms",
        f"calibration_time:{CALIBRATION_S * 1000:.0f}ms artifact_bytes:{len(packed)} artifact_sha256:{sha256(packed)}",
        f"code_bytes:{code} total_bytes:{code + len(packed)}",
        f"final val_loss:{loss:.8f} val_bpb:{bpb:.8f} eval_time:{EVAL_S * 1000:.0f}ms",
    ]
    return "\n".join(lines) + "\n"


def _claim(
    results: dict[str, dict[str, Any]], seeds: tuple[int, ...], track: str, tokenizer: Tokenizer
) -> dict[str, Any]:
    bpbs, losses = ([result[key] for result in results.values()] for key in ("val_bpb", "val_loss"))
    code, model = len(CODE.encode()), max(result["bytes_model"] for result in results.values())
    return {
        "schema": SCHEMA, "name": "tiny", "author": "", "github_id": "", "date": "2026-11-21", "blurb": "A tiny one.",
        "track": track, "track_version": load_tracks().version,
        "val_bpb": statistics.fmean(bpbs), "val_bpb_std": statistics.stdev(bpbs) if len(seeds) > 1 else None,
        "val_loss": statistics.fmean(losses), "val_loss_std": statistics.stdev(losses) if len(seeds) > 1 else None,
        "seeds": list(seeds), "seed_results": results,
        "bytes_total": code + model, "bytes_code": code, "bytes_model": model, "bytes_tokenizer": len(tokenizer.model),
        "cap_bytes": load_tracks().named(track).cap_bytes, "params": 10_000,
        "evaluation": {"stride": 8, "context": 16, "val_tokens": VAL_TOKENS, "val_bytes": VAL_BYTES,
                       "contest_bytes": VAL_BYTES},
        "data": {"name": "tiny", "source": "tiny", "sha256": DATA_SHA256, "val_sha256": VAL_SHA256,
                 "tokenizer_sha256": sha256(tokenizer.model)},
        "hardware": MACHINE, "pytorch_version": "2.13.0+cpu", "python_version": "3.11.7",
        "compliance": {"bytes_within_cap": True},
    }  # fmt: skip


def _readme(claim: dict[str, Any]) -> str:
    rows = "".join(f"| {seed} | {result['val_bpb']:.5f} |\n" for seed, result in claim["seed_results"].items())
    return (
        f"# tiny: {claim['val_bpb']:.5f} bits a byte in {claim['bytes_total']:,} bytes\n\nA tiny one.\n\n## Results\n\n"
        f"| seed | bits a byte |\n| --- | ---: |\n{rows}| mean | {claim['val_bpb']:.5f} |\n\n## Files\n"
    )


def _figures(folder: Path) -> None:
    (folder / "figures").mkdir()
    for name in ("loss", "bytes", "position"):
        figure = Figure(figsize=(0.4, 0.4))
        figure.text(0.1, 0.1, name)
        figure.savefig(folder / "figures" / f"{name}.png", dpi=20)
