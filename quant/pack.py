"""A trained run -> `model.golf`, and the table of its bytes.

    python -m quant.pack --bits mlp=5,attn=6                    (the newest run, the contest's way: absmax and zstd)
    python -m quant.pack --method rate --dial 0.4               (our own: steps by sensitivity, an adaptive range coder)
    python -m quant.pack --fit 16000000                         (the finest steps whose artifact and code fit the cap)
    python -m quant.pack runs/demo -o small.golf --fit-artifact 500000 --method gptq   (widths that fit the cap)

Flags override the `quant` section of the run's config, whose method none means absmax here. --bits, --method or --dial
describe the packing anew: then that section does not count. --fit, --fit-artifact and --dial mean --method rate unless
another is named; the method rate means --codec best, the others zstd. Calibration reads training text only; KL and loss
are of validation text.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from base.cli import OneLineParser, command, run
from base.config import Layer, build
from base.errors import BadInput, CheckFailed
from base.files import atomic_file, require_folder_of
from base.run_folder import ARTIFACT, MODEL, named_or_newest
from base.source import code_bytes
from data.dataset import Dataset, open_dataset
from engine.checkpoint import load_weights, read_run
from engine.device import barrier, joined, packing_device, run_rank
from model.config import ModelConfig
from model.gpt import GPT
from quant.budget import over_cap
from quant.coder import entropy_bits
from quant.config import Codec, Method, QuantConfig
from quant.fidelity import Fidelity, as_packed, measure_fidelity
from quant.format import PackedTensor, read_head
from quant.packer import Packed, Packer
from quant.unpack import attach_table


@dataclass(frozen=True)
class KindRow:
    kind: str
    bytes: int  # of its stream
    weights: int
    bits: int  # of the widest tensor
    bits_per_weight: float
    entropy_bits_per_weight: float


@dataclass(frozen=True, kw_only=True)
class PackReport:
    artifact: str
    artifact_bytes: int
    code_bytes: int
    total_bytes: int
    cap_bytes: int | None
    bits: dict[str, int]
    bits_per_weight: float
    entropy_bits_per_weight: float
    kinds: list[KindRow]
    streams: dict[str, int]
    fidelity: Fidelity
    quant: QuantConfig  # with the dial or the widths that met the cap


def act(args: argparse.Namespace) -> PackReport:
    path = named_or_newest(args.run, MODEL)
    out = Path(args.output) if args.output else path.with_name(ARTIFACT)
    require_folder_of(str(out))
    if args.check_tokens < 1:
        raise BadInput(f"--check-tokens {args.check_tokens}: use at least 1")
    model, config, dataset = open_run(path, args.data)
    quant = configured(args, config.get("quant", {}))
    code = code_bytes(args.code)
    counted = code if args.fit_artifact is None else 0
    with joined() as device:
        model.to(packing_device(device))
        packed = Packer(model, config, dataset, device).pack(quant, counted)
        if device.main:
            atomic_file(out, packed.data)
        barrier(device)  # the other ranks read it, too
        data = out.read_bytes()
        fidelity = measure_fidelity(
            model, as_packed(model, data), dataset, config["train"]["seq_len"], args.check_tokens
        )
    report = describe(packed, out, fidelity, code)
    over = over_cap(len(data), counted, quant.cap_bytes)
    if over:
        raise CheckFailed(over, report)
    return report


def describe(packed: Packed, out: Path, fidelity: Fidelity, code: int) -> PackReport:
    streams = read_head(out.read_bytes()).stream_bytes
    kinds = kind_rows(packed.tensors, streams)
    weights = max(1, sum(row.weights for row in kinds))
    return PackReport(
        artifact=str(out.resolve()),
        artifact_bytes=packed.size_bytes,
        code_bytes=code,
        total_bytes=packed.size_bytes + code,
        cap_bytes=packed.quant.cap_bytes or None,
        bits={row.kind: row.bits for row in kinds},
        bits_per_weight=8 * sum(row.bytes for row in kinds) / weights,
        entropy_bits_per_weight=sum(row.entropy_bits_per_weight * row.weights for row in kinds) / weights,
        kinds=kinds,
        streams=streams,
        fidelity=fidelity,
        quant=packed.quant,
    )


def kind_rows(tensors: Sequence[PackedTensor], stream_bytes: Mapping[str, int]) -> list[KindRow]:
    rows = []
    on_grid = [tensor for tensor in tensors if tensor.grid is not None]
    for kind in dict.fromkeys(tensor.kind for tensor in on_grid):
        mine = [tensor for tensor in on_grid if tensor.kind == kind]
        size = sum(tensor.values.size for tensor in mine)
        coded_bytes = stream_bytes[f"integers.{kind}"]
        entropy = sum(entropy_bits(tensor.values) for tensor in mine)
        widest = max(tensor.bits for tensor in mine)
        rows.append(KindRow(kind, coded_bytes, size, widest, 8 * coded_bytes / size, entropy / size))
    return rows


def open_run(path: Path, data: str | None) -> tuple[GPT, dict[str, Any], Dataset]:
    """A finished run's model, resolved config and dataset; `data` names another place for the dataset."""
    config, weights = read_run(path)
    model = GPT(build(ModelConfig, [Layer(str(path), config["model"])]))
    load_weights(model, weights, str(path))
    dataset = open_dataset(data or config.get("data", {}).get("path", ""))
    dataset.require(model.config.vocab_size, model.config.bos_id)
    return attach_table(model, dataset.tokenizer), config, dataset


def configured(args: argparse.Namespace, of_run: dict[str, Any]) -> QuantConfig:
    """The flags over the run's own section, by the rules of the header."""
    words = {"bits": args.bits, "method": args.method, "dial": args.dial, "codec": args.codec}
    words |= {"calibration_tokens": args.calibration_tokens, "cap_bytes": args.fit or args.fit_artifact}
    flags: dict[str, Any] = {name: value for name, value in words.items() if value is not None}
    if flags.get("cap_bytes"):
        flags["solve"] = True
    if of_run.get("method") == "none":
        of_run = {**of_run, "method": "absmax"}
    layers = [] if {"bits", "method", "dial"} & set(flags) else [Layer("the run's config", of_run)]
    if {"dial", "cap_bytes"} & set(flags):
        flags.setdefault("method", "rate")
    if "method" in flags:
        flags.setdefault("codec", "best" if flags["method"] == "rate" else "zstd")
    return build(QuantConfig, [*layers, Layer("the command line", flags)])


def show(report: PackReport) -> str:
    lines = ["| kind | weights | bits | bytes | bits/weight | entropy |", "|---" * 6 + "|"]
    for row in report.kinds:
        figures = f"{row.bytes:,} | {row.bits_per_weight:.3f} | {row.entropy_bits_per_weight:.3f}"
        lines.append(f"| {row.kind} | {row.weights:,} | {row.bits} | {figures} |")
    others = {name: size for name, size in report.streams.items() if not name.startswith("integers.")}
    lines += [f"| {name} | | | {size:,} | | |" for name, size in others.items()]
    cap = "" if report.cap_bytes is None else f"; cap {report.cap_bytes:,}"
    fidelity = report.fidelity
    lines += [
        "",
        f"artifact {report.artifact_bytes:,} + code {report.code_bytes:,} = {report.total_bytes:,} bytes{cap}",
        f"KL {fidelity.kl_nats:.5f} nats per token, loss {fidelity.float_nats:.4f} -> {fidelity.packed_nats:.4f}, "
        f"packed {fidelity.packed_bpb:.4f} bits per byte ({fidelity.tokens:,} validation tokens)",
        report.artifact,
    ]
    return "\n".join(lines)


def number_of_bytes(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: a cap is a number of bytes above 0")
    return int(text)


def parser() -> OneLineParser:
    flags = command("quant.pack", __doc__ or "")
    flags.add_argument("run", nargs="?", metavar="RUN", help="a run's folder or model.pt (default: the newest)")
    flags.add_argument("--bits", help="mlp=5,attn=6,blocks.0.mlp.*=4 …")
    flags.add_argument("--method", choices=get_args(Method)[1:])  # not none
    flags.add_argument("--codec", choices=get_args(Codec))
    flags.add_argument("--dial", type=float, help="rate: step over spread; sigma: step over a row's deviation")
    flags.add_argument("--calibration-tokens", type=int, help="of training text")
    cap = flags.add_mutually_exclusive_group()
    cap.add_argument("--fit", type=number_of_bytes, metavar="BYTES", help="cap on artifact and code")
    cap.add_argument("--fit-artifact", type=number_of_bytes, metavar="BYTES", help="cap on the artifact alone")
    flags.add_argument("--code", metavar="FILE", help="the counted code (default: an estimate from the sources)")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: the run's own)")
    flags.add_argument("--check-tokens", type=int, default=65_536, help="of validation text, for KL (%(default)s)")
    flags.add_argument("-o", "--output", metavar="FILE", help=f"default: {ARTIFACT} in the run's folder")
    return flags


if __name__ == "__main__":
    run_rank(lambda: run(parser(), act, show))
