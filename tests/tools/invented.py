"""Invented records for the leaderboard's tests: folders as tools.record writes them, with nothing true in them."""

import hashlib
import json
import math
import random
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

CPU, ANY = "track_cpu_10min_1mb", "track_non_record_16mb"
STDLIB, FINEWEB = "1" * 64, "2" * 64


def submission(track: str = CPU, bpb: float = 1.67, seeds: int = 3, **changes: Any) -> dict[str, Any]:
    """A whole submission.json; `changes` replace its keys."""
    draw = random.Random(f"{track}{bpb}{seeds}")
    scores = [bpb + 0.0004 * (i - (seeds - 1) / 2) for i in range(seeds)]
    size = changes.get("bytes_model", 929_914)
    results = {
        str(seed): {
            "val_bpb": score, "val_loss": score * 2.118, "pre_quant_val_bpb": score - 0.0011, "steps": 1280 + seed,
            "train_seconds": 599.2 + draw.random(), "calibration_seconds": 71.2, "eval_seconds": 51.2 + draw.random(),
            "bytes_model": size, "artifact": "model.golf" if seed == 1 else f"model_seed{seed}.golf",
            "artifact_sha256": "a" * 64, "log": f"train_seed{seed}.log", "metrics": f"metrics_seed{seed}.jsonl",
        }
        for seed, score in enumerate(scores)
    }  # fmt: skip
    code = changes.get("bytes_code", 28_123)
    kinds = {"mlp": 0.52, "attn": 0.27, "embed": 0.15, "head": 0.05}
    made = {
        "schema": "bitgolf-record-1", "name": "A record", "author": "Ada Example", "github_id": "ada-example",
        "date": "2026-11-21", "blurb": "Wider layers, fewer of them.", "track": track, "track_version": 1,
        "val_bpb": sum(scores) / seeds, "val_bpb_std": 0.0004 if seeds > 1 else None, "val_loss": bpb * 2.118,
        "val_loss_std": 0.0009 if seeds > 1 else None, "seeds": list(range(seeds)), "seed_results": results,
        "bytes_total": code + size, "bytes_code": code, "bytes_model": size, "bytes_tokenizer": 51_234,
        "cap_bytes": 1_000_000, "params": 1_551_897,
        "evaluation": {"stride": 64, "context": 1024, "val_tokens": 1_000_000, "val_bytes": 3_055_000,
                       "contest_bytes": 3_054_100},
        "data": {"name": "stdlib-3.11.7", "source": "stdlib", "sha256": "c" * 64, "val_sha256": STDLIB,
                 "tokenizer_sha256": "d" * 64, "python": "3.11.7"},
        "hardware": "cpu, 2 threads", "pytorch_version": "2.13.0+cpu", "python_version": "3.11.7",
        "compliance": {"bytes_within_cap": True, "scored_without_network": True, "enough_seeds": seeds > 2},
        "technique_summary": "8 layers of 128, 4/2 heads, relu2; vocabulary 4096; quantisation gptq",
        "notes": {
            "parent": "configs/cpu10.yaml", "changes": {"model.dim": [128, 160]}, "prep": "python -m data.prep stdlib",
            "kinds": [{"kind": kind, "weights": int(1_500_000 * share), "bytes": int(size * share)}
                      for kind, share in kinds.items()],
        },
    }  # fmt: skip
    return made | changes


@cache
def picture(width: int = 640, height: int = 360) -> bytes:
    """A PNG: a falling line on white."""
    rows = bytearray()
    for y in range(height):
        row = bytearray(b"\xff" * 3 * width)
        for x in range(width):
            if abs(y - height * (0.85 - 0.7 * math.exp(-4 * x / width))) < 2:
                row[3 * x : 3 * x + 3] = b"\x20\x60\xc0"
        rows += b"\0" + row

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(rows), 9))
        + chunk(b"IEND", b"")
    )


@cache
def metrics(last: float, seconds: float = 600.0, steps: int = 300) -> bytes:
    draw, lines = random.Random(f"{last}"), []
    for step in range(1, steps + 1):
        loss = last + 4.5 * math.exp(-9 * step / steps) + 0.6 * math.exp(-2 * step / steps) + draw.gauss(0, 0.08)
        lines.append({"step": step, "elapsed_s": seconds * step / steps, "loss": loss, "grad_norm": 0.5, "step_s": 2.0})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def invent(root: Path, folder: str, said: dict[str, Any], figures: bool = True) -> Path:
    """The folder, its files and its manifest."""
    home = root / said["track"] / folder
    (home / "figures").mkdir(parents=True)
    files = {"submission.json": json.dumps(said, indent=1).encode(), "README.md": b"# it\n", "model.golf": b"golf"}
    files["train_gpt.py"] = b"raise SystemExit('never run')\n"
    for result in said["seed_results"].values():
        files[result["metrics"]] = metrics(result["val_loss"], result["train_seconds"])
    if figures:
        files |= {f"figures/{name}.png": picture() for name in ("loss", "bytes", "position")}
    for name, data in files.items():
        (home / name).write_bytes(data)
    seal(home)
    return home


def seal(home: Path) -> None:
    """The manifest of what lies in the folder now."""
    paths = sorted(path for path in home.rglob("*") if path.is_file() and path.name != "manifest.json")
    entries = {
        path.relative_to(home).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in paths
    }
    environment = {"python": "3.11.7", "torch": "2.13.0+cpu", "device": "cpu, 2 threads"}
    manifest = {"schema": "bitgolf-manifest-1", "files": entries, "environment": environment}
    (home / "manifest.json").write_text(json.dumps(manifest, indent=1))


def judge(root: Path, home: Path, verdict: str = "valid", tier: str = "sample", findings: tuple[Any, ...] = ()) -> None:
    """An entry of verdicts.json, as tools.verify --keep writes it."""
    path = root / "verdicts.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[home.relative_to(root).as_posix()] = {
        "verdict": verdict, "tier": tier, "date": "2026-11-22", "measured": {}, "findings": list(findings),
        "record_sha256": hashlib.sha256((home / "manifest.json").read_bytes()).hexdigest(),
    }  # fmt: skip
    path.write_text(json.dumps(kept, indent=1))


def finding(rule: str, level: str, message: str) -> dict[str, Any]:
    return {"rule": rule, "level": level, "message": message, "evidence": {}}


def a_board(root: Path) -> Path:
    """Eight records on two tracks and three corpora, with every kind of badge, and one that cannot be read."""
    root.mkdir(parents=True, exist_ok=True)
    for number, (name, bpb, date, changes) in enumerate(
        [
            ("Baseline of the CPU track", 1.6893, "2026-11-02", {"params": 1_310_000, "bytes_model": 811_340}),
            ("Wider layers", 1.6724, "2026-11-09", {}),
            ("Bigram table, 4096 buckets", 1.6716, "2026-11-14", {"bytes_model": 968_002, "params": 1_802_311}),
            ("Calibrated clipping and a smaller tokenizer", 1.6631, "2026-11-21", {"bytes_model": 955_120}),
            ("Two megabytes by accident", 1.6102, "2026-11-22", {"bytes_model": 1_922_000, "params": 3_990_000}),
        ]
    ):
        home = invent(root, f"{date}_{number}", submission(CPU, bpb, name=name, date=date, **changes))
        if number == 0:
            judge(root, home, "valid", "whole", (finding("data.val_sha256", "note", "the corpus was prepared again"),))
        if number == 1:
            judge(root, home, "flagged", "sample", (
                finding("code.network", "flag", "train_gpt.py imports socket in line 40; say what for"),
                finding("score.bpb", "note", "re-scored on 65,536 tokens: 1.67239, claimed 1.67240")))  # fmt: skip
        if number == 2:
            judge(root, home)
            (home / "submission.json").write_bytes((home / "submission.json").read_bytes() + b"\n")
        if number == 4:
            judge(root, home, "invalid", "fast", (finding("size.cap", "invalid", "1,950,123 bytes > 1,000,000"),))
    other = {"name": "proposals", "source": "proposals.jsonl.xz", "sha256": "e" * 64, "val_sha256": "3" * 64,
             "tokenizer_sha256": "f" * 64, "python": ""}  # fmt: skip
    home = invent(root, "2026-11-20_proposals", submission(CPU, 1.2411, name="The same on proposals", data=other))
    judge(root, home, "unverified", "fast", (finding("data.absent", "unverified", "give the corpus with --data"),))
    web = {**other, "name": "fineweb10B-sp1024", "source": "hf:fineweb", "val_sha256": FINEWEB}
    for number, (name, bpb, size) in enumerate([("Longer context", 1.0912, 15_900_000), ("Demo", 2.31, 402_311)]):
        said = submission(
            ANY, bpb, 1, name=name, data=web, bytes_model=size, cap_bytes=16_000_000, params=11 * size // 10
        )
        invent(root, f"2026-11-2{number}_any", said, figures=number == 0)
    broken = root / CPU / "2026-11-23_broken"
    broken.mkdir()
    (broken / "submission.json").write_text('{"name": "<script>alert(1)</script>", "val_bpb": "low"}')
    return root
