"""Score an artifact: sliding-window bits per byte over a dataset's validation side, into score.json beside it.

    python -m eval.bpb --stride 64                        (the newest run's artifact, on the dataset that it names)
    python -m eval.bpb runs/cpu10 --data DIR --limit 20000         (the first so many targets: marked partial)
    python -m eval.bpb --docs --dump losses.npz --plot loss.png    (documents one by one; every loss; where it is)
    python -m eval.bpb --adapt mix                        (score first, then learn from it: eval/adapt.py)
    torchrun --nproc_per_node=2 -m eval.bpb --stride 64            (the same answer from several ranks)

Every target is scored once, its bytes are the byte table's, sums are float64. With --docs a document is scored as if it
were alone, from its BOS on; what begins the next one is its last target: the model is charged for seeing the end.
Without --adapt nothing is learned: a window holds its own tokens, and a target is predicted from those before it. With
it the plain score is measured too, and its gain is told.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.errors import BadInput, CheckFailed
from base.files import atomic_file, require_folder_of
from base.progress import counted_progress
from base.run_folder import ARTIFACT, SCORE, named_or_newest
from data.bytes import bits_per_byte
from data.dataset import Dataset
from engine.device import Device, as_rank, gather, joined
from eval.adapt import ADAPTATIONS, Adapted
from eval.metric import Score, Tally
from eval.plot import plot_positions
from eval.protocol import checked_context, checked_stride, matching_dataset, own_stride
from eval.score import EvalConfig, planned_losses, total
from eval.stats import nats_per_bpb
from eval.windows import Windows, plan_documents
from quant.unpack import Artifact, open_artifact

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """How a text is scored."""

    context: int
    stride: int
    docs: bool


class Losses:
    """What each target cost and where in its window it stood; what was not scored is not a number."""

    def __init__(self, targets: int) -> None:
        self.nats = np.full(targets, np.nan)
        self.position = np.zeros(targets, np.int32)  # how many tokens it was predicted from, less one

    def add(self, first: int, nats: Floats, start: int) -> None:
        span = slice(first, first + len(nats))
        self.nats[span], self.position[span] = nats, np.arange(span.start, span.stop) - start

    def merge(self, other: Self) -> None:
        theirs = np.isfinite(other.nats)
        self.nats[theirs], self.position[theirs] = other.nats[theirs], other.position[theirs]


def act(args: argparse.Namespace) -> Answer:
    with joined() as device:
        path = named_or_newest(args.artifact, ARTIFACT)
        require_folder_of(args.output, args.dump, args.plot)  # not found out after an hour's scoring
        for output, endings in ((args.dump, (".npz",)), (args.plot, (".png", ".svg", ".pdf"))):
            if output is not None and Path(output).suffix not in endings:
                raise BadInput(f"{output}: name a file that ends in {' or '.join(endings)}")
        artifact = open_artifact(path)
        if args.adapt and device.ranks > 1:
            raise BadInput(f"--adapt on {device.ranks} ranks: a text has one past; run it on one")
        rule = chosen_rule(args, artifact)
        dataset = matching_dataset(args.data, artifact)
        return scored(args, path, artifact, dataset, rule, device)


def chosen_rule(args: argparse.Namespace, artifact: Artifact) -> Rule:
    """The flags', else what the run's config says; a context that the model was not made for is refused."""
    context = checked_context(artifact, args.context)
    stride = own_stride(artifact) if args.stride is None else args.stride
    if args.adapt and args.docs:
        raise BadInput("--adapt learns from one document for the next, --docs scores each as if alone; choose one")
    if args.limit is not None and args.limit < 1:
        raise BadInput(f"--limit {args.limit}: there is nothing to score; use at least 1")
    return Rule(context, checked_stride(stride, context), args.docs)


def scored(
    args: argparse.Namespace, path: Path, artifact: Artifact, dataset: Dataset, rule: Rule, device: Device
) -> Answer:
    tokens = dataset.val.read(0, len(dataset.val))
    begins = document_begins(tokens, dataset)
    targets = len(tokens) - 1 if args.limit is None else min(args.limit, len(tokens) - 1)
    plan = plan_documents(begins if rule.docs else begins[:1], targets, rule.context, rule.stride)
    share = Windows(*(column[device.rank :: device.ranks] for column in plan))
    found = Losses(len(tokens) - 1) if args.dump or args.plot else None
    model = artifact.model.to(device.torch)

    def timed(pieces: Iterable[tuple[int, Floats]], found: Losses | None) -> tuple[Score, float]:
        started = time.perf_counter()
        tally = counted(pieces, share, tokens, dataset, device, found)
        score = total(tally, device, partial=targets < len(tokens) - 1)
        if score.tokens != targets:
            raise CheckFailed(f"{score.tokens} targets were scored, and {targets} were to be")
        return score, time.perf_counter() - started

    pieces = planned_losses(model, tokens, share, args.batch_tokens, args.compile)
    score, seconds = timed(pieces, None if args.adapt else found)
    plain = dict[str, Any]()
    if args.adapt:
        plain = {"adapt": args.adapt, "plain_bpb": score.bpb, "plain_seconds": seconds}
        shape = rule.context, rule.stride, args.batch_tokens
        learner = Adapted(ADAPTATIONS[args.adapt], model, artifact.tokenizer, *shape)
        score, seconds = timed(learner.losses(tokens[: targets + 1]), found)
        plain["gain"] = 1 - score.bpb / plain["plain_bpb"]
    answer = {
        **score._asdict(),
        **plain,
        "nats_per_bpb": nats_per_bpb(score.tokens, score.bytes),
        "stride": rule.stride,
        "context": rule.context,
        "docs": rule.docs,
        "documents": int(np.searchsorted(begins, targets)),
        "artifact": str(path.resolve()),
        "artifact_sha256": artifact.sha256,
        "data": str(dataset.path.resolve()),
        "data_sha256": dataset.manifest.data_sha256("val"),
        "seconds": seconds,
        "tokens_per_second": score.tokens / seconds,
        "device": device.describe(),
        "versions": {"torch": torch.__version__, "python": platform.python_version(), "platform": platform.platform()},
    }
    everybodys = gather(found, device)
    if device.main:
        target = Path(args.output) if args.output else path.with_name(SCORE)
        atomic_file(target, (json.dumps(answer, indent=1) + "\n").encode())
        if found is not None:
            for theirs in filter(None, everybodys):
                found.merge(theirs)
            write_losses(args, answer, tokens, begins, dataset, found)
    return answer


def document_begins(tokens: npt.NDArray[np.integer], dataset: Dataset) -> Ints:
    """Where each document begins: at its BOS, or at the EOS before it in a layout that has no BOS."""
    begins = np.flatnonzero(tokens == dataset.mark)
    return begins if begins[:1].tolist() == [0] else np.insert(begins, 0, 0)


def counted(
    pieces: Iterable[tuple[int, Floats]],
    share: Windows,
    tokens: npt.NDArray[np.integer],
    dataset: Dataset,
    device: Device,
    found: Losses | None = None,
) -> Tally:
    """The losses of these windows, with a bar on the main rank."""
    tally = Tally(dataset.table, tokens)
    starts = dict(zip(share.score_from.tolist(), share.start.tolist(), strict=True))
    total, done, nats, size_bytes = int((share.end - share.score_from).sum()), 0, 0.0, 0
    with counted_progress("scoring", total, "targets") as tell:
        for first, row in pieces:
            tally.add(first, row)
            if found is not None:
                found.add(first, row, starts[first])
            done, nats = done + len(row), nats + float(row.sum())
            size_bytes += int(dataset.table.exact[tokens[first + 1 : first + 1 + len(row)]].sum())
            if device.main and size_bytes:
                tell(done, f"{bits_per_byte(nats, size_bytes):.4f} bits a byte so far")
    return tally


def write_losses(
    args: argparse.Namespace,
    answer: Answer,
    tokens: npt.NDArray[np.integer],
    begins: Ints,
    dataset: Dataset,
    found: Losses,
) -> None:
    target = np.flatnonzero(np.isfinite(found.nats))
    document = np.searchsorted(begins, target, side="right") - 1
    nats, position = found.nats[target], found.position[target]
    if args.dump:
        token = tokens[1:][target]
        np.savez_compressed(
            args.dump, target=target, token=token, nats=nats, bytes=dataset.table.exact[token], document=document,
            position_in_document=target - begins[document], position_in_window=position,
        )  # fmt: skip
    if args.plot:
        title = f"{answer['bpb']:.4f} bits a byte, context {answer['context']}, stride {answer['stride']}"
        title += ", documents one by one" * answer["docs"] + ", a part of the text" * answer["partial"]
        plot_positions(Path(args.plot), title, nats, target - begins[document], position)


def parser() -> OneLineParser:
    flags = command("eval.bpb", __doc__ or "")
    flags.add_argument("artifact", nargs="?", metavar="ARTIFACT or RUN", help="default: the newest run's")
    flags.add_argument("--stride", type=int, help="targets that a window adds (default: the run's eval.stride)")
    flags.add_argument("--context", type=int, help="tokens a window feeds (default: eval.context or train.seq_len)")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: the one that the artifact names)")
    flags.add_argument("--docs", action="store_true", help="score every document as if it were alone")
    flags.add_argument("--limit", type=int, metavar="TOKENS", help="score the first so many targets only")
    flags.add_argument("--batch-tokens", type=int, default=EvalConfig().batch_tokens, help="at a time (%(default)s)")
    flags.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: where it saves time")
    flags.add_argument("--adapt", choices=ADAPTATIONS, help="learn from what has been scored")
    flags.add_argument("--dump", metavar="FILE.npz", help="every target's loss, document and positions")
    flags.add_argument("--plot", metavar="FILE.png", help="mean loss against position")
    flags.add_argument("-o", "--output", metavar="FILE", help=f"default: {SCORE} beside the artifact")
    return flags


if __name__ == "__main__":
    as_rank(lambda: run(parser(), act, show_pairs))
