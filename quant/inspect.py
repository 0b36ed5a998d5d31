"""What is in an artifact: its kinds, its tensors, its streams; nothing but the file is read.

python -m quant.inspect                    (the newest run's)
python -m quant.inspect model.golf --plot  (and a treemap of its bytes)
"""

import argparse
import hashlib
import sys
from dataclasses import asdict

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput
from base.run_folder import ARTIFACT, named_or_newest
from quant.format import read_artifact
from quant.report import kind_rows, tensor_rows
from quant.treemap import plot_bytes


def act(args: argparse.Namespace) -> Answer:
    path = named_or_newest(args.artifact, ARTIFACT)
    data = path.read_bytes()
    try:
        contents = read_artifact(data)
    except BadInput as bad:
        raise BadInput(f"{path}: {bad}") from None
    if args.plot:
        plot_bytes(contents.tensors, contents.stream_bytes, path.with_suffix(".png"))
    return {
        "artifact": str(path.resolve()),
        "artifact_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "streams": contents.stream_bytes,
        "kinds": kind_rows(contents.tensors, contents.stream_bytes),
        "tensors": tensor_rows(contents.tensors),
        "header": asdict(contents.header),
    }


def show(answer: Answer) -> str:
    lines = ["| tensor | shape | bits | entropy, bits/weight | entropy, bytes |", "|---|---|---|---|---|"]
    for row in answer["tensors"]:
        shape = " x ".join(map(str, row["shape"]))
        cells = (row["bits"], f"{row['entropy_bits_per_weight']:.3f}", f"{row['entropy_bytes']:,.0f}")
        lines.append(f"| {row['name']} | {shape} | {cells[0]} | {cells[1]} | {cells[2]} |")
    lines += ["", *(f"{name:<18} {size:>12,} bytes" for name, size in answer["streams"].items())]
    return "\n".join([*lines, f"{'all':<18} {answer['artifact_bytes']:>12,} bytes  sha256 {answer['sha256']}"])


def parser() -> OneLineParser:
    flags = command("quant.inspect", __doc__ or "")
    flags.add_argument("artifact", nargs="?", metavar="ARTIFACT", help="a file or a run's folder (default: the newest)")
    flags.add_argument("--plot", action="store_true", help="a treemap of the bytes beside the artifact")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
