"""The one way to a score: a model's losses over a dataset's validation side, into a tally, all ranks together.

    found = score(model, dataset, Protocol(context, stride), device)          eval.metric.Score

Training, `train_gpt.py --score`, eval.bpb, records and their verifier all score here. The model is already on the
device. Ranks meet in sums alone; a score that is kept (eval.kept) is added up round by round, and a kill loses one.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from base.cli import Answer
from base.errors import BadInput, CheckFailed
from base.progress import counted_progress
from data.dataset import Dataset
from engine.device import Device, add_up, require_same
from eval.adapt import ADAPTATIONS
from eval.batches import Feed, Floats, Losses, Tokens, window_losses
from eval.document_ttt import lora_losses
from eval.metric import MOST_RANKS, Score, Tally
from eval.protocol import Protocol, artifact_protocol, matching_dataset
from eval.windows import Windows, find_begins, plan_documents
from model.gpt import GPT
from quant.unpack import Artifact, open_artifact

ROUNDS = 20  # of a score that is kept
ROUND_TARGETS = 1 << 16  # of a round, at least


class Begun(NamedTuple):
    """A score that goes on, and is kept on the way: eval.kept."""

    targets: int  # that are scored already, from the first on
    block_nats: Sequence[float]  # theirs
    keep: Callable[[int, Floats], None]


class Round(NamedTuple):
    targets: slice  # of all ranks
    own: int  # how many of them are this rank's
    losses: Losses


def score(
    model: GPT,
    dataset: Dataset,
    protocol: Protocol,
    device: Device,
    limit: int | None = None,
    label: str = "",
    nats: Floats | None = None,
    begun: Begun | None = None,
) -> Score:
    """Bits per byte of the validation side; ranks call it together and get the same answer.

    limit: score the first so many targets only, marked partial. label: of a progress bar; none without. nats: an array
    with an entry per target, filled in with its loss, NaN if it has none. begun: go on from there; a score that adapts
    cannot.
    """
    if limit is not None and limit < 1:
        raise BadInput(f"--limit {limit}: there is nothing to score; use at least 1")
    tokens = dataset.val.read(0, len(dataset.val))
    targets = len(tokens) - 1 if limit is None else min(limit, len(tokens) - 1)
    device.precision(protocol.precision)  # which refuses what it cannot run
    protocol.adapt.require_possible(targets, device.ranks, protocol.docs)
    own = slice(device.rank, None, device.ranks)  # of windows, or of documents
    plan = plan_score(tokens, targets, dataset, protocol)
    if protocol.adapt.kind == "off":
        parts = [plan] if begun is None else _cut(plan, targets)
        feed = protocol.feed._replace(rounds=len(parts))
        rounds = [make_round(model, tokens, part, part.select(own), feed) for part in parts]
    else:
        if protocol.adapt.kind == "lora":
            losses = lora_losses(model, dataset.tokenizer, tokens[: targets + 1], protocol, {}, own)
        else:
            losses = ADAPTATIONS[protocol.adapt.kind](model, dataset.tokenizer, tokens[: targets + 1], protocol, {})
        rounds = [Round(slice(0, targets), plan.select(own).targets, losses)]
    tally = tally_rounds(rounds, dataset, tokens, device, label, nats, begun)
    found = tally.score(partial=targets < len(tokens) - 1)
    if found.tokens != targets:
        raise CheckFailed(f"{found.tokens} targets were scored, of the {targets} that were to be")
    return found


def score_artifact(path: Path, data: str | None, limit: int | None, device: Device) -> tuple[Score, Answer]:
    """An artifact under its own protocol, on `data` or on the dataset that it names; the score and its JSON."""
    artifact = open_artifact(path)
    protocol = artifact_protocol(artifact)
    dataset = matching_dataset(data, artifact)
    require_same_files(artifact, dataset, device)
    started = time.perf_counter()
    found = score(artifact.model.to(device.torch), dataset, protocol, device, limit)
    return found, describe_score(found, protocol, artifact, dataset, time.perf_counter() - started)


def require_same_files(artifact: Artifact, dataset: Dataset, device: Device) -> None:
    """Each rank has opened its own node's."""
    hashes = f"artifact {artifact.sha256}\ntext {dataset.manifest.data_sha256('val')}"
    require_same(hashes, "files to score", "give all ranks the same", device)


def describe_score(found: Score, protocol: Protocol, artifact: Artifact, dataset: Dataset, seconds: float) -> Answer:
    """The keys of JSON that every score of an artifact has."""
    return {
        **found.plain(),
        "stride": protocol.stride,
        "context": protocol.context,
        "docs": protocol.by_document,
        **({} if protocol.adapt.kind != "mix" else {"streams": protocol.adapt.streams, "trees": protocol.adapt.trees}),
        "adapt": protocol.adapt.kind,
        "precision": protocol.precision,
        "artifact_sha256": artifact.sha256,
        "data_sha256": dataset.manifest.data_sha256("val"),
        "seconds": seconds,
        "tokens_per_second": found.tokens / seconds,
    }


def save_block_nats(path: Path, block_nats: Floats) -> None:
    """A .npy that `tools.record` ships: one number per block of targets."""
    np.save(path, block_nats.astype("<f8"), allow_pickle=False)


def plan_score(tokens: Tokens, targets: int, dataset: Dataset, protocol: Protocol) -> Windows:
    """The windows of the first so many targets."""
    begins = find_begins(tokens, dataset.mark) if protocol.by_document else np.zeros(1, np.int64)
    return plan_documents(begins, targets, protocol.context, protocol.stride)


def _cut(plan: Windows, targets: int) -> list[Windows]:
    """Rounds of about as many windows each, the same on any number of ranks."""
    rounds = max(1, min(ROUNDS, targets // ROUND_TARGETS))
    cuts = np.unique(np.linspace(0, len(plan.start), rounds + 1).astype(int)).tolist()
    return [plan.select(slice(first, end)) for first, end in pairwise(cuts)]


def make_round(model: GPT, tokens: Tokens, part: Windows, share: Windows, feed: Feed) -> Round:
    """Of some windows in the order of the text, and of this rank's share of them."""
    targets = slice(int(part.score_from[0]), int(part.end[-1]))
    return Round(targets, share.targets, window_losses(model, tokens, share, feed))


def tally_rounds(
    rounds: Sequence[Round],
    dataset: Dataset,
    tokens: Tokens,
    device: Device,
    label: str = "",
    nats: Floats | None = None,
    begun: Begun | None = None,
) -> Tally:
    """The tally of all ranks' losses, the same on each."""
    if device.ranks > MOST_RANKS:
        raise BadInput(f"{device.ranks} ranks cannot share a score; use up to {MOST_RANKS}")
    tally = Tally(dataset.table, tokens)
    if begun is not None:
        tally.restore(begun.targets, begun.block_nats)
        rounds = [each for each in rounds if each.targets.start >= begun.targets]
    done = 0
    if nats is not None:
        nats[:] = 0.0
    own = sum(each.own for each in rounds)
    with counted_progress(label, own, "targets") if label and device.main else nullcontext() as show:
        for each in rounds:
            if not device.main:
                tally.clear_sums()  # those of the rounds before are in the main rank's
            for some, costs in each.losses:
                tally.add(some, costs)
                done += len(some)
                if nats is not None:
                    nats[some] = costs
                if show is not None:
                    show(done, f"{tally.bpb_so_far():.4f} bits per byte so far")
            seen, block_nats, sizes = tally.counters(each.targets)
            for counter in (seen, block_nats, sizes):
                add_up(torch.from_numpy(counter), device)
            if begun is not None:
                begun.keep(each.targets.stop, block_nats)
    if nats is not None:
        add_up(torch.from_numpy(nats), device)
        nats[~tally.is_scored] = np.nan
    return tally
