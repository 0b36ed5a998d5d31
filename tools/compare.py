"""Pack one run in many ways, side by side: bytes and KL, as a table and a picture.

python -m tools.compare                          (the newest run)
python -m tools.compare runs/cpu10 --plot docs/quant-cpu10.png
python -m tools.compare --ways 'absmax|rate, 0.4'    (those that match a regular expression)
"""

import argparse
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure

from base.cli import OneLineParser, command, run
from base.errors import BadInput
from base.run_folder import MODEL, named_or_newest
from quant.config import QuantConfig
from quant.fidelity import Fidelity, as_packed, measure_fidelity
from quant.pack import open_run
from quant.packer import Packer

ABSMAX = QuantConfig(codec="best")
RATE = QuantConfig(codec="best", method="rate")
EVEN = {n: f"mlp={n},attn={n},embed={n},head={n},bigram={n}" for n in (4, 5, 6, 8)}
WAYS = {
    "absmax, mlp=5 attn=6, zstd": replace(ABSMAX, codec="zstd"),
    **{f"absmax, all {n}, zstd": replace(ABSMAX, codec="zstd", bits=EVEN[n]) for n in (4, 5, 6)},
    "absmax + range coder, mlp=5 attn=6": ABSMAX,
    "clip search, mlp=5 attn=6": replace(ABSMAX, method="clip"),
    "gptq, mlp=5 attn=6": replace(ABSMAX, method="gptq"),
    **{f"gptq, all {n}": replace(ABSMAX, method="gptq", bits=EVEN[n]) for n in (4, 5)},
    **{f"sigma + gptq, {d}": replace(ABSMAX, method="sigma", dial=d, bits=EVEN[8]) for d in (0.15, 0.25, 0.4)},
    **{f"rate, {d}": replace(RATE, dial=d) for d in (0.15, 0.25, 0.4, 0.55, 0.75, 1.0)},
}


@dataclass(frozen=True)
class Row:
    way: str
    artifact_bytes: int
    fidelity: Fidelity


@dataclass(frozen=True)
class Comparison:
    run: str
    rows: list[Row]


def act(args: argparse.Namespace) -> Comparison:
    path = named_or_newest(args.run, MODEL)
    model, config, dataset = open_run(path, args.data)
    packer = Packer(model, config, dataset)
    ways = {name: quant for name, quant in WAYS.items() if re.search(args.ways, name)}
    if not ways:
        raise BadInput(f"--ways {args.ways}: matches none of: {'; '.join(WAYS)}")
    rows = []
    for name, quant in ways.items():
        data = packer.pack(replace(quant, calibration_tokens=args.calibration_tokens)).data
        packed = as_packed(model, data)
        fidelity = measure_fidelity(model, packed, dataset, config["train"]["seq_len"], args.check_tokens)
        rows.append(Row(name, len(data), fidelity))
        print(f"{name}: {len(data):,} bytes, KL {fidelity.kl_nats:.5f}", file=sys.stderr, flush=True)
    if args.plot:
        plot(rows, path.parent.name, Path(args.plot))
    return Comparison(str(path), rows)


def plot(rows: list[Row], name: str, path: Path) -> None:
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    families: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.artifact_bytes):
        families.setdefault(row.way.split(",")[0], []).append(row)
    for family, mine in families.items():
        axes.plot([row.artifact_bytes for row in mine], [row.fidelity.kl_nats for row in mine], "o-", label=family)
    axes.set(yscale="log", xlabel="bytes of the artifact", ylabel="KL to the float model, nats per token", title=name)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=130)


def show(comparison: Comparison) -> str:
    lines = ["| way | artifact bytes | KL | loss increase | bpb |", "|---" * 5 + "|"]
    for row in comparison.rows:
        fidelity = row.fidelity
        lines.append(
            f"| {row.way} | {row.artifact_bytes:,} | {fidelity.kl_nats:.5f} "
            f"| {fidelity.packed_nats - fidelity.float_nats:+.4f} | {fidelity.packed_bpb:.4f} |"
        )
    return "\n".join(lines)


def parser() -> OneLineParser:
    flags = command("tools.compare", __doc__ or "")
    flags.add_argument("run", nargs="?", metavar="RUN", help="a run's folder (default: the newest)")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: the run's own)")
    flags.add_argument("--check-tokens", type=int, default=65_536, help="of validation text, for KL (%(default)s)")
    flags.add_argument("--calibration-tokens", type=int, default=131_072, help="of training text (%(default)s)")
    flags.add_argument("--ways", default="", metavar="REGEX", help="only those (default: all)")
    flags.add_argument("--plot", metavar="PNG", help="KL against bytes")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
