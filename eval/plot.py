"""Where the loss is: every target's loss with its positions, and mean nats per token against position as a picture.

losses = target_losses(nats, dataset, protocol)          nats as eval.score.score fills them in
plot_positions(Path("loss.png"), title, losses)
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.dataset import Dataset
from eval.protocol import Protocol
from eval.score import document_begins, plan_score

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

BINS_PER_DOUBLING = 4
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


def target_losses(nats: Floats, dataset: Dataset, protocol: Protocol) -> TargetLosses:
    """From the losses of all targets; NaN where there is none."""
    tokens = dataset.val.read(0, len(dataset.val))
    begins = document_begins(tokens, dataset)
    plan = plan_score(tokens, len(tokens) - 1, dataset, protocol)
    target = np.flatnonzero(np.isfinite(nats))
    token = tokens[1:][target]
    document = np.searchsorted(begins, target, side="right") - 1
    window = np.searchsorted(plan.score_from, target, side="right") - 1
    return TargetLosses(
        target, token, nats[target], dataset.table.exact_bytes(token), document,
        position_in_document=target - begins[document], position_in_window=target - plan.start[window],
    )  # fmt: skip


class Curve(NamedTuple):
    """One point per bin."""

    middle: Floats
    mean: Floats
    error: Floats  # standard, of the mean


def growing_bins(known: Ints) -> Ints:
    """The bin of each number of known tokens (from 1 on): four per doubling."""
    edges = np.unique(np.round(2 ** (np.arange(BINS_PER_DOUBLING * 40) / BINS_PER_DOUBLING)))
    return np.searchsorted(edges, known, side="right") - 1


def equal_bins(known: Ints) -> Ints:
    return (known - 1) // max(1, -(-int(known.max()) // WINDOW_BINS))


def curve(known: Ints, bins: Ints, nats: Floats) -> Curve:
    """Means by bin; nearly empty bins are left out."""
    count = np.bincount(bins)
    kept = np.flatnonzero(count >= min(FEWEST, count.max()))

    def mean(values: npt.NDArray[np.floating]) -> Floats:
        return np.bincount(bins, values)[kept] / count[kept]

    average = mean(nats)
    variance = np.maximum(mean(nats**2) - average**2, 0)
    return Curve(mean(known.astype(np.float64)), average, np.sqrt(variance / count[kept]))


def plot_positions(path: Path, title: str, losses: TargetLosses) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second to import, once, at the end
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = figure.subplots(1, 2, sharey=True)
    parts = (
        (losses.position_in_document + 1, growing_bins, "tab:blue", "document"),
        (losses.position_in_window + 1, equal_bins, "tab:orange", "window"),
    )
    average = losses.nats.mean()
    for axes, (known, bins, color, where) in zip(panels, parts, strict=True):
        middle, mean, error = curve(known, bins(known), losses.nats)
        axes.fill_between(middle, mean - 2 * error, mean + 2 * error, color=color, alpha=0.2, linewidth=0)
        axes.plot(middle, mean, "o-", markersize=3, color=color, label="mean and two standard errors")
        axes.axhline(average, color="0.4", linewidth=0.8, linestyle="--", label=f"all: {average:.3f}")
        axes.set_xlabel(f"tokens known of the {where}")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("nats per token")
    panels[0].set_xscale("log", base=2)
    panels[0].xaxis.set_major_formatter("{x:g}")
    panels[0].xaxis.set_minor_locator(NullLocator())
    figure.savefig(path, dpi=120)
