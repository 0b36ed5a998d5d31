"""A trained run -> `model.golf`, and the table of its bytes.

    python -m quant.pack --bits mlp=5,attn=6                    (the newest run, the contest's way: absmax and zstd)
    python -m quant.pack --method rate --codec best --dial 0.4  (our own: steps by sensitivity, an adaptive range coder)
    python -m quant.pack --method rate --fit 16000000           (the finest steps whose artifact and code fit the cap)
    python -m quant.pack runs/demo -o small.golf --method rate --fit-artifact 500000

What no flag says is as the run's config has it; --bits alone asks for widths, and so for absmax and zstd. Under rate,
bits are a mere clamp. Calibration reads training text only; the loss and the KL that are printed are measured on
validation text, against the float model.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args, get_type_hints

from base.cli import Answer, OneLineParser, command, run
from base.config import Layer, build
from base.errors import BadInput
from base.files import atomic_file, require_folder_of
from base.run_folder import ARTIFACT, MODEL, named_or_newest
from base.source import code_bytes
from data.dataset import Dataset, open_dataset
from engine.checkpoint import load_weights, read_state
from model.config import ModelConfig
from model.gpt import GPT
from quant.config import Codec, Method, QuantConfig
from quant.fidelity import damage_of
from quant.packer import Packed, Packer
from quant.report import kind_rows, tensor_rows
from quant.treemap import plot_bytes


def act(args: argparse.Namespace) -> Answer:
    path = named_or_newest(args.run, MODEL)
    out = Path(args.output) if args.output else path.with_name(ARTIFACT)
    require_folder_of(str(out))
    model, config, dataset = open_run(path, args.data)
    quant = configured(args, config)
    packer, code = Packer(model, config, dataset), code_bytes(args.code)
    counted = 0 if args.fit_artifact is not None else code  # against the cap
    packed = packer.fit(quant, quant.cap_bytes - counted) if quant.cap_bytes else packer.pack(quant)
    atomic_file(out, packed.data)
    harm = damage_of(packed.data, model, dataset, config["train"]["seq_len"], args.check_tokens)
    originals = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    if args.plot:
        plot_bytes(packed.tensors, packed.stream_bytes, out.with_suffix(".png"))
    return report(packed, code, counted, packer.foretold(packed)) | {
        "artifact": str(out.resolve()),
        "damage": {**asdict(harm), "loss_increase": harm.loss_increase},
        "tensors": tensor_rows(packed.tensors, originals),
    }


def report(packed: Packed, code: int, counted: int, foretold: dict[str, float]) -> Answer:
    size, cap = len(packed.data), packed.quant.cap_bytes
    kinds = kind_rows(packed.tensors, packed.stream_bytes, foretold)
    coded = [row for row in kinds if "weights" in row]
    weights = sum(row["weights"] for row in coded)
    return {
        "artifact_bytes": size,
        "code_bytes": code,
        "total_bytes": size + code,
        "cap_bytes": cap or None,
        "headroom_bytes": cap - size - counted if cap else None,
        "bits": {row["kind"]: row["bits"] for row in coded},
        "bits_per_weight": 8 * sum(row["bytes"] for row in coded) / max(weights, 1),
        "entropy_bits_per_weight": sum(r["entropy_bits_per_weight"] * r["weights"] for r in coded) / max(weights, 1),
        "kinds": kinds,
        "quant": asdict(packed.quant),
        "tried": [{"dial": dial, "artifact_bytes": size} for dial, size in packed.tried],
    }


def open_run(path: Path, data: str | None) -> tuple[GPT, dict[str, Any], Dataset]:
    """A finished run's model, resolved config and dataset; `data` is another place to find that."""
    state = read_state(path)
    config = state.get("config")
    whole = isinstance(config, dict) and {"model", "data", "train"} <= set(config)
    if not whole or not isinstance(state.get("weights"), dict):
        raise BadInput(f"{path}: holds no config with weights; name the {MODEL} of a finished run")
    model = GPT(build(ModelConfig, [Layer(str(path), state["config"]["model"])]))
    load_weights(model, state["weights"], str(path))
    dataset = open_dataset(data or state["config"]["data"]["path"])
    dataset.require(model.config.vocab_size, model.config.bos_id)
    return model, state["config"], dataset


def configured(args: argparse.Namespace, config: dict[str, Any]) -> QuantConfig:
    """The run's own `quant` section, under what the flags say."""
    flags = {name: getattr(args, name) for name in get_type_hints(QuantConfig) if getattr(args, name, None) is not None}
    own = config.get("quant", {})
    cap = args.fit if args.fit is not None else args.fit_artifact
    if cap is not None:
        if cap <= 0:
            raise BadInput(f"--fit {cap}: a cap is a number of bytes above 0")
        flags["cap_bytes"] = cap
        if own.get("method", "absmax") == "absmax":
            flags.setdefault("method", "rate")  # unless another way was asked for
    elif {"method", "dial", "bits"} & set(flags):
        flags["cap_bytes"] = 0  # what is asked for by name is not turned by the run's own cap
        if "dial" not in flags:
            flags.setdefault("method", "absmax")
    if "method" in flags:
        flags.setdefault("codec", "best" if flags["method"] == "rate" else "zstd")
    return build(QuantConfig, [Layer("the run's config", own), Layer("the command line", flags)])


def show(answer: Answer) -> str:
    lines = ["| kind | weights | bits | bytes | bits/weight | entropy | over it | nats foretold |", "|---" * 8 + "|"]
    for row in answer["kinds"]:
        if "weights" in row:
            bits = str(row["bits"]) if row["least_bits"] == row["bits"] else f"{row['least_bits']}-{row['bits']}"
            nats = "" if row["foretold_nats"] is None else f"{row['foretold_nats']:.5f}"
            cells = [f"{row['weights']:,}", bits, f"{row['bytes']:,}", f"{row['bits_per_weight']:.3f}",
                     f"{row['entropy_bits_per_weight']:.3f}", f"{row['over_entropy']:+.2%}", nats]  # fmt: skip
        else:
            cells = ["", "", f"{row['bytes']:,}", "", "", "", ""]
        lines.append(f"| {row['kind']} | {' | '.join(cells)} |")
    cap = answer["cap_bytes"]
    lines += [
        "",
        f"artifact {answer['artifact_bytes']:,} + code {answer['code_bytes']:,} = {answer['total_bytes']:,} bytes"
        + ("" if cap is None else f"; cap {cap:,}"),
    ]
    if harm := answer.get("damage"):
        lines.append(
            f"KL {harm['kl_nats']:.5f} nats a token, loss {harm['float_nats']:.4f} -> {harm['packed_nats']:.4f}, "
            f"packed {harm['packed_bpb']:.4f} bits a byte ({harm['tokens']:,} validation tokens)"
        )
    if answer["tried"]:
        sizes = (f"{t['artifact_bytes']:,}" + f" (dial {t['dial']:.4f})" for t in answer["tried"])
        lines.append("tried: " + ", ".join(sizes))
    return "\n".join([*lines, answer["artifact"]])


def parser() -> OneLineParser:
    flags = command("quant.pack", __doc__ or "")
    flags.add_argument("run", nargs="?", metavar="RUN", help="a run's folder or model.pt (default: the newest)")
    flags.add_argument("--bits", help="mlp=5,attn=6,blocks.0.mlp.*=4 …")
    flags.add_argument("--method", choices=get_args(Method))
    flags.add_argument("--codec", choices=get_args(Codec))
    flags.add_argument("--dial", type=float, help="rate: step over spread; sigma: step over a row's deviation")
    flags.add_argument("--columns", type=float, help="rate: power of the column steps (0: none)")
    flags.add_argument("--rows", type=float, help="rate: power of the row steps (0: none)")
    flags.add_argument("--by-tensor", action=argparse.BooleanOptionalAction, help="rate: steps by sensitivity")
    flags.add_argument("--trellis", action=argparse.BooleanOptionalAction, help="rate: two staggered grids")
    flags.add_argument("--feedback", action=argparse.BooleanOptionalAction, help="rate, sigma: GPTQ on the grid")
    flags.add_argument("--calibration-tokens", type=int, help="of training text")
    cap = flags.add_mutually_exclusive_group()
    cap.add_argument("--fit", type=int, metavar="BYTES", help="cap on artifact and code")
    cap.add_argument("--fit-artifact", type=int, metavar="BYTES", help="cap on the artifact alone")
    flags.add_argument("--code", metavar="FILE", help="the counted code (default: an estimate from the sources)")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: the run's own)")
    flags.add_argument("--check-tokens", type=int, default=65_536, help="of validation text, for KL (%(default)s)")
    flags.add_argument("--plot", action="store_true", help="a treemap of the bytes beside the artifact")
    flags.add_argument("-o", "--output", metavar="FILE", help=f"default: {ARTIFACT} in the run's folder")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
