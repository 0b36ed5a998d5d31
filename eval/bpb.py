"""Score an artifact: sliding-window bits per byte over a dataset's validation side, into score.json beside it.

    python -m eval.bpb --stride 64                        (the newest run's artifact, on the dataset that it names)
    python -m eval.bpb runs/cpu10 --data DIR --limit 20000         (the first so many targets: marked partial)
    python -m eval.bpb --adapt off --docs --dump losses.npz --plot loss.png    (documents one by one; where the loss is)
    python -m eval.bpb --by kind                          (which targets cost what: eval/kinds.py)
    python -m eval.bpb --adapt mix --streams 2            (score first, then learn from it: eval/adapt.py)
    python -m eval.bpb --adapt off                        (plainly, whatever the artifact's own eval.adapt is)
    torchrun --nproc_per_node=2 -m eval.bpb --adapt off            (the same answer from several ranks)

With --docs a document is scored as if it were alone, from its BOS on; the token that begins the next one is its last
target: the model is charged for the end. `--adapt lora` implies it. Where the score adapts, the plain one is measured
too, and the answer has the gain. A long plain score that is killed goes on where it was (score.json.HASH.partial,
beside score.json); one that adapts, or whose losses are wanted one by one, begins again.
"""

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.errors import BadInput
from base.files import atomic_file, require_folder_of
from base.precision import Precision
from base.run_folder import ARTIFACT, SCORE, named_or_newest
from base.source import sources_sha256
from engine.device import Device, joined, run_rank
from eval.adapt import ADAPTATIONS
from eval.config import PLAIN
from eval.kept import Kept
from eval.kinds import NAMES, show_kinds, split_loss
from eval.plot import TargetLosses, plot_positions, target_losses
from eval.protocol import artifact_protocol, matching_dataset
from eval.score import describe_score, require_same_files, score
from eval.stats import nats_per_bpb
from eval.windows import find_begins
from quant.unpack import open_artifact


def act(args: argparse.Namespace) -> Answer:
    with joined() as device:
        if device.main:  # whose node keeps what is written
            require_folder_of(args.output, args.dump, args.plot)  # before an hour's scoring, not after
        for output, ending in ((args.dump, ".npz"), (args.plot, ".png")):
            if output is not None and Path(output).suffix != ending:
                raise BadInput(f"{output}: name a file that ends in {ending}")
        return evaluate(args, device)


def evaluate(args: argparse.Namespace, device: Device) -> Answer:
    path = named_or_newest(args.artifact, ARTIFACT)
    artifact = open_artifact(path)
    of_mix = {"streams": args.streams, "trees": args.trees, "table_bits": args.table_bits}
    protocol = artifact_protocol(artifact, args.context, args.stride, args.precision, kind=args.adapt, **of_mix)
    protocol = replace(protocol, docs=args.docs or protocol.by_document)
    is_adapted = protocol.adapt.kind != "off"
    if set(of_mix.values()) != {None} and protocol.adapt.kind != "mix":
        raise BadInput("--streams, --trees and --table-bits are for a mixed score; add --adapt mix")
    dataset = matching_dataset(args.data, artifact)
    require_same_files(artifact, dataset, device)
    model = artifact.model.to(device.torch)
    nats = np.empty(len(dataset.val) - 1) if args.dump or args.plot or args.by else None
    target = Path(args.output) if args.output else path.with_name(SCORE)
    kept = None
    if nats is None and not is_adapted:
        of = f"artifact {artifact.sha256}, text {dataset.manifest.data_sha256('val')}, code {sources_sha256()}"
        identity = f"{of}, limit {args.limit}, {protocol}"
        kept = Kept(target, identity, device)

    started = time.perf_counter()
    begun = None if kept is None else kept.begun
    found = score(model, dataset, protocol, device, args.limit, "scoring", nats, begun)
    seconds = time.perf_counter() - started if kept is None else kept.seconds
    answer = describe_score(found, protocol, artifact, dataset, seconds)
    if is_adapted:
        started = time.perf_counter()
        plain_bpb = score(model, dataset, replace(protocol, adapt=PLAIN), device, args.limit, "without adapting").bpb
        answer |= {"plain_bpb": plain_bpb, "plain_seconds": time.perf_counter() - started}
        answer |= {"gain": 1 - found.bpb / plain_bpb}
    begins = find_begins(dataset.val.read(0, len(dataset.val)), dataset.mark)
    answer |= {
        "nats_per_bpb": nats_per_bpb(found.tokens, found.bytes),
        "documents": int(np.searchsorted(begins, found.tokens)),
        "artifact": str(path.resolve()),
        "data": str(dataset.path.resolve()),
        "device": device.describe(),
        "versions": {"torch": torch.__version__, "python": platform.python_version(), "platform": platform.platform()},
    }
    if device.main:
        losses = target_losses(nats, dataset, protocol) if nats is not None else None
        if losses is not None and args.by:
            answer["kinds"] = split_loss(losses._asdict())
        atomic_file(target, (json.dumps(answer, indent=1) + "\n").encode())
        if kept is not None:
            kept.remove()
        if losses is not None:
            write_losses(losses, answer, args.dump, args.plot)
    return answer


def write_losses(losses: TargetLosses, answer: Answer, dump: str | None, plot: str | None) -> None:
    if dump:
        arrays = losses._asdict() | {f"{label}_names": names for label, names in NAMES.items()}
        np.savez_compressed(dump, **arrays)
    if plot:
        title = f"{answer['bpb']:.4f} bits per byte, context {answer['context']}, stride {answer['stride']}"
        plot_positions(Path(plot), title, losses)


def show(answer: Answer) -> str:
    text = show_pairs({key: value for key, value in answer.items() if key != "kinds"})
    return f"{text}\n{show_kinds(answer['kinds'])}" if "kinds" in answer else text


def parser() -> OneLineParser:
    flags = command("eval.bpb", __doc__ or "")
    flags.add_argument("artifact", nargs="?", metavar="ARTIFACT or RUN", help="default: the newest run's")
    flags.add_argument("--stride", type=int, help="targets that a window adds (default: the run's eval.stride)")
    flags.add_argument("--context", type=int, help="tokens a window feeds (default: eval.context or train.seq_len)")
    flags.add_argument("--precision", choices=get_args(Precision), help="of matrix products (default: the artifact's)")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: the one that the artifact names)")
    flags.add_argument("--docs", action="store_true", help="score every document as if it were alone")
    flags.add_argument("--limit", type=int, metavar="TOKENS", help="score the first so many targets only")
    flags.add_argument("--adapt", choices=ADAPTATIONS, help="learn from what has been scored (default: as its run did)")
    flags.add_argument("--streams", type=int, metavar="N", help="with mix: parts of the text, each with its own past")
    flags.add_argument("--trees", type=int, metavar="N", help="with mix: trees of the vocabulary, 1 or 2")
    flags.add_argument("--table-bits", type=int, metavar="N", help="with mix: log2 of the lines of a tree's table")
    flags.add_argument("--by", choices=["kind"], help="the loss by repetition, position and kind of token")
    flags.add_argument("--dump", metavar="FILE.npz", help="every target's loss, document, positions and kinds")
    flags.add_argument("--plot", metavar="FILE.png", help="mean loss against position")
    flags.add_argument("-o", "--output", metavar="FILE", help=f"default: {SCORE} beside the artifact")
    return flags


if __name__ == "__main__":
    run_rank(lambda: run(parser(), act, show))
