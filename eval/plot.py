"""Where the loss is: mean nats a token against how much of its document and of its window was known, as a picture."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

BINS_A_DOUBLING = 4
WINDOW_BINS = 64
FEWEST = 16  # losses in a bin, for its mean to be drawn


class Curve(NamedTuple):
    """One point a bin."""

    middle: Floats
    mean: Floats
    error: Floats  # standard, of the mean


def growing_bins(known: Ints) -> Ints:
    """The bin of each number of known tokens (from 1 on): four a doubling."""
    edges = np.unique(np.round(2 ** (np.arange(BINS_A_DOUBLING * 40) / BINS_A_DOUBLING)))
    return np.searchsorted(edges, known, side="right") - 1


def equal_bins(known: Ints) -> Ints:
    return (known - 1) // max(1, -(-int(known.max()) // WINDOW_BINS))


def curve(known: Ints, bins: Ints, nats: Floats) -> Curve:
    """Means by bin; none of a bin that is nearly empty."""
    count = np.bincount(bins)
    kept = np.flatnonzero(count >= min(FEWEST, count.max()))

    def mean(values: npt.NDArray[np.floating]) -> Floats:
        return np.bincount(bins, values)[kept] / count[kept]

    average = mean(nats)
    variance = np.maximum(mean(nats**2) - average**2, 0)
    return Curve(mean(known.astype(np.float64)), average, np.sqrt(variance / count[kept]))


def plot_positions(path: Path, title: str, nats: Floats, in_document: Ints, in_window: Ints) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second to import, once, at the end
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = figure.subplots(1, 2, sharey=True)
    parts = (
        (in_document + 1, growing_bins, "tab:blue", "document"),
        (in_window + 1, equal_bins, "tab:orange", "window"),
    )
    for axes, (known, bins, color, where) in zip(panels, parts, strict=True):
        middle, mean, error = curve(known, bins(known), nats)
        axes.fill_between(middle, mean - 2 * error, mean + 2 * error, color=color, alpha=0.2, linewidth=0)
        axes.plot(middle, mean, "o-", markersize=3, color=color, label="mean and two standard errors")
        axes.axhline(nats.mean(), color="0.4", linewidth=0.8, linestyle="--", label=f"all: {nats.mean():.3f}")
        axes.set_xlabel(f"tokens known of the {where}")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("nats a token")
    panels[0].set_xscale("log", base=2)
    panels[0].xaxis.set_major_formatter("{x:g}")
    panels[0].xaxis.set_minor_locator(NullLocator())
    figure.savefig(path, dpi=120)
