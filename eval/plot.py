"""Where the loss is: every target's loss with its positions, and mean nats per token against position as a picture.

losses = target_losses(nats, dataset, protocol)          nats as eval.score.score fills them in
plot_positions(Path("loss.png"), title, losses)
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.dataset import Dataset
from eval.kinds import Labels, label_position, label_repetition, label_vocabulary
from eval.protocol import Protocol
from eval.score import plan_score
from eval.windows import find_begins

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

EDGES = np.unique(np.round(2 ** (np.arange(160) / 4)))  # of the bins of a document: four per doubling
WINDOW_BINS = 64
FEWEST = 16  # losses in a bin, for its mean to be drawn


class TargetLosses(NamedTuple):
    """One entry per target that was scored."""

    target: Ints
    token: Ints
    nats: Floats
    bytes: Ints
    document: Ints
    position_in_document: Ints
    position_in_window: Ints  # how many tokens it was predicted from, less one
    repetition: Labels  # this and the next two: indices into eval.kinds.NAMES
    position_range: Labels
    token_kind: Labels


def target_losses(nats: Floats, dataset: Dataset, protocol: Protocol) -> TargetLosses:
    """From the losses of all targets; NaN where there is none."""
    tokens = dataset.val.read(0, len(dataset.val))
    begins = find_begins(tokens, dataset.mark)
    starts = plan_score(tokens, len(tokens) - 1, dataset, protocol)
    target = np.flatnonzero(np.isfinite(nats))
    token = tokens[target + 1]
    document = np.searchsorted(begins, target, side="right") - 1
    window = np.searchsorted(starts.score_from, target, side="right") - 1
    first_seen = np.maximum(target + 1 - protocol.context, begins[document] if protocol.by_document else 0)
    return TargetLosses(
        target=target,
        token=token,
        nats=nats[target],
        bytes=dataset.table.exact_bytes(token),
        document=document,
        position_in_document=target - begins[document],
        position_in_window=target - starts.start[window],
        repetition=label_repetition(tokens, target, first_seen),
        position_range=label_position(target - begins[document] + 1),
        token_kind=label_vocabulary(dataset.tokenizer)[token],
    )


def plot_positions(path: Path, title: str, losses: TargetLosses) -> None:
    """The means of bins of positions; nearly empty bins are left out."""
    from matplotlib.figure import Figure  # half a second to import, once, at the end

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, 2, sharey=True)
    in_document, in_window = losses.position_in_document + 1, losses.position_in_window + 1
    in_bins = (in_window - 1) // max(1, -(-int(in_window.max()) // WINDOW_BINS))
    parts = (
        ("document", in_document, np.searchsorted(EDGES, in_document, side="right") - 1),
        ("window", in_window, in_bins),
    )
    for axes, (where, known, bins) in zip(panels, parts, strict=True):
        count = np.bincount(bins)
        kept = np.flatnonzero(count >= min(FEWEST, count.max()))
        middle, mean = (np.bincount(bins, values)[kept] / count[kept] for values in (known, losses.nats))
        axes.plot(middle, mean, "o-", markersize=3)
        axes.axhline(losses.nats.mean(), color="0.4", linewidth=0.8, linestyle="--")
        axes.set_xlabel(f"tokens known of the {where}")
        axes.grid(alpha=0.25, linewidth=0.6)
    panels[0].set_ylabel("nats per token")
    panels[0].set_xscale("log", base=2)
    figure.savefig(path, dpi=120)
