"""What is in an artifact: its tensors and its streams; nothing but the file is read.

python -m quant.inspect                    (the newest run's)
python -m quant.inspect model.golf --plot  (and a picture of its bytes)
"""

import argparse
import hashlib
import math
import sys
from dataclasses import dataclass

from base.cli import OneLineParser, command, run
from base.errors import BadInput
from base.run_folder import ARTIFACT, named_or_newest
from quant.coder import entropy_bits
from quant.format import PackedTensor, read_artifact
from quant.header import ArtifactHeader
from quant.plot import plot_bytes


@dataclass(frozen=True)
class TensorRow:
    name: str
    kind: str
    shape: tuple[int, ...]
    bits: int
    entropy_bytes: float  # of floats: all that they take


@dataclass(frozen=True)
class InspectReport:
    artifact: str
    artifact_bytes: int
    sha256: str
    streams: dict[str, int]
    tensors: list[TensorRow]
    header: ArtifactHeader


def act(args: argparse.Namespace) -> InspectReport:
    path = named_or_newest(args.artifact, ARTIFACT)
    data = path.read_bytes()
    try:
        contents = read_artifact(data)
    except BadInput as bad:
        raise BadInput(f"{path}: {bad}") from None
    if args.plot:
        plot_bytes(contents.tensors, contents.stream_bytes, path.with_suffix(".png"))
    return InspectReport(
        artifact=str(path.resolve()),
        artifact_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        streams=contents.stream_bytes,
        tensors=[TensorRow(t.name, t.kind, t.shape, t.bits, entropy_bytes(t)) for t in contents.tensors],
        header=contents.header,
    )


def entropy_bytes(tensor: PackedTensor) -> float:
    return tensor.values.nbytes if tensor.grid is None else entropy_bits(tensor.values) / 8


def show(report: InspectReport) -> str:
    lines = ["| tensor | shape | bits | entropy, bits/weight | entropy, bytes |", "|---" * 5 + "|"]
    for row in report.tensors:
        shape = " x ".join(map(str, row.shape))
        per_weight = 8 * row.entropy_bytes / math.prod(row.shape)
        lines.append(f"| {row.name} | {shape} | {row.bits} | {per_weight:.3f} | {row.entropy_bytes:,.0f} |")
    lines += ["", *(f"{name:<18} {size:>12,} bytes" for name, size in report.streams.items())]
    return "\n".join([*lines, f"{'all':<18} {report.artifact_bytes:>12,} bytes  sha256 {report.sha256}"])


def parser() -> OneLineParser:
    flags = command("quant.inspect", __doc__ or "")
    flags.add_argument("artifact", nargs="?", metavar="ARTIFACT", help="a file or a run's folder (default: the newest)")
    flags.add_argument("--plot", action="store_true", help="a picture of the bytes by kind, beside the artifact")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
