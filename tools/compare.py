"""Every way to pack one run, side by side: bytes, bits a weight, KL; as a table and a picture.

    python -m tools.compare                          (the newest run)
    python -m tools.compare runs/cpu10 --plot docs/quant-cpu10.png
    python -m tools.compare --ways 'absmax|rate, 0.4'    (those that a regular expression finds)

Two tables: the same integers stored in several ways (lossless), and every method at several steps (lossy),
each packed, read back, and compared with the float model on validation text.
"""

import argparse
import io
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput
from base.run_folder import MODEL, named_or_newest
from quant.coder import encode_ranges, encode_zstd
from quant.config import QuantConfig
from quant.fidelity import damage_of
from quant.pack import open_run
from quant.packer import Packer
from quant.report import entropy_bits
from quant.stored import Stored

EVEN = "mlp={0},attn={0},embed={0},head={0},bigram={0}"
WAYS: list[tuple[str, dict[str, Any]]] = [
    ("absmax, mlp=5 attn=6, zstd", {"codec": "zstd"}),
    *[(f"absmax, all {n}, zstd", {"codec": "zstd", "bits": EVEN.format(n)}) for n in (4, 5, 6)],
    ("absmax + range coder, mlp=5 attn=6", {}),
    ("clip search, mlp=5 attn=6", {"method": "clip"}),
    ("gptq, mlp=5 attn=6", {"method": "gptq"}),
    *[(f"gptq, all {n}", {"method": "gptq", "bits": EVEN.format(n)}) for n in (4, 5)],
    *[(f"sigma + gptq, {d}", {"method": "sigma", "dial": d, "bits": EVEN.format(8)}) for d in (0.15, 0.25, 0.4)],
    *[(f"rate, {d}", {"method": "rate", "dial": d}) for d in (0.15, 0.25, 0.4, 0.55, 0.75, 1.0)],
    ("rate 0.4, without trellis", {"method": "rate", "trellis": False}),
    ("rate 0.4, without feedback", {"method": "rate", "feedback": False}),
    ("rate 0.4, without sensitivity", {"method": "rate", "by_tensor": False}),
    ("rate 0.4, without columns", {"method": "rate", "columns": 0.0}),
    ("rate 0.4, without rows", {"method": "rate", "rows": 0.0}),
]
STORED = ("absmax, mlp=5 attn=6, zstd", "rate, 0.4")  # whose integers are stored in every way


def act(args: argparse.Namespace) -> Answer:
    path = named_or_newest(args.run, MODEL)
    model, config, dataset = open_run(path, args.data)
    packer = Packer(model, config, dataset)
    base = QuantConfig(codec="best", calibration_tokens=args.calibration_tokens)
    lossy, lossless = [], []
    ways = [way for way in WAYS if re.search(args.ways, way[0])]
    if not ways:
        raise BadInput(f"--ways {args.ways}: finds none of: {'; '.join(name for name, _ in WAYS)}")
    for name, values in track(ways, description="packing", console=None, disable=not sys.stderr.isatty()):
        packed = packer.pack(replace(base, **values))
        harm = damage_of(packed.data, model, dataset, config["train"]["seq_len"], args.check_tokens)
        weights = sum(tensor.values.size for tensor in packed.tensors if tensor.grid is not None)
        coded = sum(
            n for stream, n in packed.stream_bytes.items() if stream.startswith(("integers", "scales", "octaves"))
        )
        lossy.append(
            {
                "way": name, "artifact_bytes": len(packed.data), "bits_per_weight": 8 * coded / weights,
                "kl_nats": harm.kl_nats, "loss_increase": harm.loss_increase, "bpb": harm.packed_bpb,
            }
        )  # fmt: skip
        if name in STORED:
            lossless.append(_lossless(name, packed.tensors))
        print(f"{name}: {len(packed.data):,} bytes, KL {harm.kl_nats:.5f}", file=sys.stderr, flush=True)
    if args.plot:
        _plot(lossy, path.parent.name, Path(args.plot))
    return {"run": str(path), "lossless": lossless, "lossy": lossy}


def _lossless(name: str, tensors: list[Stored]) -> dict[str, Any]:
    """The same integers, steps apart: a pickled dict, one stream a kind, our coder; order-0 entropy by tensor."""
    whole = [tensor for tensor in tensors if tensor.grid is not None]
    contest = {tensor.name: torch.from_numpy(tensor.values) for tensor in whole}
    pickled = io.BytesIO()
    torch.save(contest, pickled)
    streams = []
    for kind in dict.fromkeys(tensor.kind for tensor in whole):
        mine = [(t.values, t.grid is not None and t.grid.trellis) for t in whole if t.kind == kind]
        matrices, trellises = [values for values, _ in mine], [trellis for _, trellis in mine]
        streams.append((encode_zstd(b"".join(m.tobytes() for m in matrices)), encode_ranges(matrices, trellises)))
    return {
        "integers": name,
        "contest": len(encode_zstd(pickled.getvalue())),
        "zstd": sum(len(a) for a, _ in streams),
        "ans": sum(len(b) for _, b in streams),
        "best": sum(min(len(a), len(b)) for a, b in streams),
        "order0": round(sum(entropy_bits(tensor.values) for tensor in whole) / 8),
    }


def _plot(rows: list[dict[str, Any]], name: str, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    families = dict.fromkeys(row["way"].split(",")[0] for row in rows if "without" not in row["way"])
    for family in families:
        mine = [r for r in rows if r["way"].split(",")[0] == family and "without" not in r["way"]]
        mine.sort(key=lambda row: row["bits_per_weight"])
        style = "o-" if len(mine) > 3 else "o"
        axes.plot([r["bits_per_weight"] for r in mine], [r["kl_nats"] for r in mine], style, label=family)
    axes.set_yscale("log")
    axes.set_xlabel("bits a weight, steps included")
    axes.set_ylabel("KL to the float model, nats a token")
    axes.set_title(f"{name}: divergence against size")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=130)


def show(answer: Answer) -> str:
    lines = ["| integers | contest's way | zstd-22 | range coder | best | order-0 | best/zstd | best/order-0 |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in answer["lossless"]:
        sizes = " | ".join(f"{row[key]:,}" for key in ("contest", "zstd", "ans", "best", "order0"))
        ratios = f"{row['best'] / row['zstd']:.4f} | {row['best'] / row['order0']:.4f}"
        lines.append(f"| {row['integers']} | {sizes} | {ratios} |")
    lines += ["", "| way | artifact bytes | bits/weight | KL | loss increase | bpb |", "|---|---|---|---|---|---|"]
    for row in answer["lossy"]:
        lines.append(
            f"| {row['way']} | {row['artifact_bytes']:,} | {row['bits_per_weight']:.3f} | {row['kl_nats']:.5f} | "
            f"{row['loss_increase']:+.4f} | {row['bpb']:.4f} |"
        )
    return "\n".join(lines)


def parser() -> OneLineParser:
    flags = command("tools.compare", __doc__ or "")
    flags.add_argument("run", nargs="?", metavar="RUN", help="a run's folder (default: the newest)")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: the run's own)")
    flags.add_argument("--check-tokens", type=int, default=65_536, help="of validation text, for KL (%(default)s)")
    flags.add_argument("--calibration-tokens", type=int, default=131_072, help="of training text (%(default)s)")
    flags.add_argument("--ways", default="", metavar="REGEX", help="only those (default: all)")
    flags.add_argument("--plot", metavar="PNG", help="KL against bits a weight")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
