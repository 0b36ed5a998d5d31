"""A trained run -> `model.golf`, and the table of its bytes.

    python -m quant.pack --bits mlp=5,attn=6                    (the newest run, the contest's way: absmax and zstd)
    python -m quant.pack --method rate --dial 0.4               (our own: steps by sensitivity, an adaptive range coder)
    python -m quant.pack --fit 16000000                         (the finest steps whose artifact and code fit the cap)
    python -m quant.pack runs/demo -o small.golf --fit-artifact 500000 --method gptq   (widths that fit the cap)

Flags override the `quant` section of the run's config. Whoever names --bits, --method or --dial describes the packing
anew: then that section does not count, and what no flag names has its default. --fit, --fit-artifact and --dial mean
--method rate unless another is named; the method rate means --codec best, the others zstd.

Calibration reads training text only. The loss and the KL that are printed are measured on validation text, against the
float model.
"""

import argparse
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from base.cli import OneLineParser, command, run
from base.config import Layer, build
from base.errors import BadInput
from base.files import atomic_file, require_folder_of
from base.run_folder import ARTIFACT, MODEL, named_or_newest
from base.source import code_bytes
from data.dataset import Dataset, open_dataset
from engine.checkpoint import load_weights, read_run
from model.config import ModelConfig
from model.gpt import GPT
from quant.config import Codec, Method, QuantConfig
from quant.fidelity import Fidelity, as_packed, measure_fidelity
from quant.packer import Packer, Try
from quant.plot import plot_bytes
from quant.report import KindRow, StreamRow, kind_rows


@dataclass(frozen=True, kw_only=True)
class PackReport:
    artifact: str
    artifact_bytes: int
    code_bytes: int
    total_bytes: int
    cap_bytes: int | None
    headroom_bytes: int | None
    bits: dict[str, int]
    bits_per_weight: float
    entropy_bits_per_weight: float
    kinds: list[StreamRow]
    fidelity: Fidelity
    quant: QuantConfig
    tried: tuple[Try, ...]


def act(args: argparse.Namespace) -> PackReport:
    path = named_or_newest(args.run, MODEL)
    out = Path(args.output) if args.output else path.with_name(ARTIFACT)
    require_folder_of(str(out))
    model, config, dataset = open_run(path, args.data)
    quant = configured(args, config.get("quant", {}))
    packer = Packer(model, config, dataset)
    code = code_bytes(args.code)
    counted = 0 if args.fit_artifact is not None else code  # against the cap
    packed = packer.pack(quant, counted)
    atomic_file(out, packed.data)
    fidelity = measure_fidelity(
        model, as_packed(model, packed.data), dataset, config["train"]["seq_len"], args.check_tokens
    )
    if args.plot:
        plot_bytes(packed.tensors, packed.stream_bytes, out.with_suffix(".png"))
    size = len(packed.data)
    kinds = kind_rows(packed.tensors, packed.stream_bytes)
    on_grid = [row for row in kinds if isinstance(row, KindRow)]
    weights = max(1, sum(row.weights for row in on_grid))
    return PackReport(
        artifact=str(out.resolve()),
        artifact_bytes=size,
        code_bytes=code,
        total_bytes=size + code,
        cap_bytes=quant.cap_bytes or None,
        headroom_bytes=quant.cap_bytes - size - counted if quant.cap_bytes else None,
        bits={row.kind: row.bits for row in on_grid},
        bits_per_weight=8 * sum(row.bytes for row in on_grid) / weights,
        entropy_bits_per_weight=sum(row.entropy_bits_per_weight * row.weights for row in on_grid) / weights,
        kinds=kinds,
        fidelity=fidelity,
        quant=packed.quant,
        tried=packed.tried,
    )


def open_run(path: Path, data: str | None) -> tuple[GPT, dict[str, Any], Dataset]:
    """A finished run's model, resolved config and dataset; `data` names another place for the dataset."""
    config, weights = read_run(path)
    model = GPT(build(ModelConfig, [Layer(str(path), config["model"])]))
    load_weights(model, weights, str(path))
    dataset = open_dataset(data or config.get("data", {}).get("path", ""))
    dataset.require(model.config.vocab_size, model.config.bos_id)
    return model, config, dataset


def configured(args: argparse.Namespace, of_run: dict[str, Any]) -> QuantConfig:
    """The flags over the run's own section, by the rules of the header."""
    names = [field.name for field in fields(QuantConfig)]
    flags = {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    layers = [] if {"bits", "method", "dial"} & set(flags) else [Layer("the run's config", of_run)]
    cap = args.fit if args.fit is not None else args.fit_artifact
    if cap is not None:
        if cap <= 0:
            raise BadInput(f"--fit {cap}: a cap is a number of bytes above 0")
        flags["cap_bytes"] = cap
    if "dial" in flags or cap is not None:
        flags.setdefault("method", "rate")
    if "method" in flags:
        flags.setdefault("codec", "best" if flags["method"] == "rate" else "zstd")
    return build(QuantConfig, [*layers, Layer("the command line", flags)])


def show(report: PackReport) -> str:
    lines = ["| kind | weights | bits | bytes | bits/weight | entropy | over it |", "|---" * 7 + "|"]
    lines += [_line(row) for row in report.kinds]
    cap = "" if report.cap_bytes is None else f"; cap {report.cap_bytes:,}"
    fidelity = report.fidelity
    lines += [
        "",
        f"artifact {report.artifact_bytes:,} + code {report.code_bytes:,} = {report.total_bytes:,} bytes{cap}",
        f"KL {fidelity.kl_nats:.5f} nats per token, loss {fidelity.float_nats:.4f} -> {fidelity.packed_nats:.4f}, "
        f"packed {fidelity.packed_bpb:.4f} bits per byte ({fidelity.tokens:,} validation tokens)",
    ]
    if report.tried:
        sizes = (f"{each.artifact_bytes:,} (dial {each.dial:.4f})" for each in report.tried)
        lines.append("tried: " + ", ".join(sizes))
    return "\n".join([*lines, report.artifact])


def _line(row: StreamRow) -> str:
    if not isinstance(row, KindRow):
        return f"| {row.kind} | | | {row.bytes:,} | | | |"
    bits = f"{row.bits}" if row.least_bits == row.bits else f"{row.least_bits}-{row.bits}"
    return (
        f"| {row.kind} | {row.weights:,} | {bits} | {row.bytes:,} | {row.bits_per_weight:.3f} "
        f"| {row.entropy_bits_per_weight:.3f} | {row.over_entropy:+.2%} |"
    )


def parser() -> OneLineParser:
    flags = command("quant.pack", __doc__ or "")
    flags.add_argument("run", nargs="?", metavar="RUN", help="a run's folder or model.pt (default: the newest)")
    flags.add_argument("--bits", help="mlp=5,attn=6,blocks.0.mlp.*=4 …")
    flags.add_argument("--method", choices=get_args(Method))
    flags.add_argument("--codec", choices=get_args(Codec))
    flags.add_argument("--dial", type=float, help="rate: step over spread; sigma: step over a row's deviation")
    flags.add_argument("--calibration-tokens", type=int, help="of training text")
    cap = flags.add_mutually_exclusive_group()
    cap.add_argument("--fit", type=int, metavar="BYTES", help="cap on artifact and code")
    cap.add_argument("--fit-artifact", type=int, metavar="BYTES", help="cap on the artifact alone")
    flags.add_argument("--code", metavar="FILE", help="the counted code (default: an estimate from the sources)")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: the run's own)")
    flags.add_argument("--check-tokens", type=int, default=65_536, help="of validation text, for KL (%(default)s)")
    flags.add_argument("--plot", action="store_true", help="a picture of the bytes by kind, beside the artifact")
    flags.add_argument("-o", "--output", metavar="FILE", help=f"default: {ARTIFACT} in the run's folder")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
