"""A sweep as one picture: bits a byte of every variant with its seeds, and loss curves a group."""

import statistics
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from tools.sweep.table import Row, Trial

COLUMNS = 3
FIRST_SHARE = 0.1  # of a curve is left out: all runs fall alike there, and hide what differs later


def picture(study: str, rows: Sequence[Row], trials: Sequence[Trial], groups: Mapping[str, Sequence[str]]) -> bytes:
    """The PNG; variants that never trained to the end are named on the axis and have no dot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second to import, once, at the end
    from matplotlib.figure import Figure

    lines = -(-len(groups) // COLUMNS)
    left, right = max(3.0, 0.32 * len(rows) + 1.2), 2.9 * lines
    figure = Figure(figsize=(15, max(left, right)), layout="constrained")
    FigureCanvasAgg(figure)
    dots, curves = list(figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.7)).flat)
    _dots(dots.add_subplot(), rows, trials)
    grid = curves.subplots(lines, COLUMNS, squeeze=False)
    for axes, (group, names) in zip(grid.flat, groups.items(), strict=False):
        _curves(axes, group.replace("$", r"\$"), names, trials)  # or it would begin a formula
    for axes in grid.flat[len(groups) :]:
        axes.set_visible(False)
    figure.suptitle(study)
    data = BytesIO()
    figure.savefig(data, format="png", dpi=100)
    return data.getvalue()


def _dots(axes: Any, rows: Sequence[Row], trials: Sequence[Trial]) -> None:
    first = rows[0].mean
    if first is not None:
        axes.axvline(first, color="0.6", linewidth=0.8, linestyle="--")
    for height, row in enumerate(rows):
        seeds = [trial.bpb for trial in trials if trial.variant == row.variant and trial.bpb is not None]
        axes.plot(seeds, [height] * len(seeds), "o", color="tab:blue", markersize=4, alpha=0.35)
        if row.mean is not None:
            axes.errorbar(row.mean, height, xerr=row.std, fmt="D", color="tab:blue", markersize=5, capsize=3)
    ends = ["" if row.mean is not None else " (diverged)" if row.diverged else " (no result)" for row in rows]
    axes.set_yticks(range(len(rows)), [row.variant + end for row, end in zip(rows, ends, strict=True)])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("bits a byte\nseeds, mean, standard deviation; dashed: the first variant")
    _plain(axes)


def _curves(axes: Any, group: str, names: Sequence[str], trials: Sequence[Trial]) -> None:
    for name in names:
        curves = [trial.curve for trial in trials if trial.variant == name and trial.curve]
        if not curves:
            continue
        steps = [step for step, _ in curves[0]]
        mean = [
            statistics.fmean(losses) for losses in zip(*([loss for _, loss in curve] for curve in curves), strict=False)
        ]
        skip = int(FIRST_SHARE * len(mean))
        share = [step / steps[-1] for step in steps]
        axes.plot(share[skip : len(mean)], mean[skip:], linewidth=1.1, label=name)
    axes.set_title(group, fontsize=10)
    axes.set_xlabel("share of the run", fontsize=8)
    axes.set_ylabel("training loss, nats a token", fontsize=8)
    axes.tick_params(labelsize=8)
    if axes.lines:
        axes.legend(frameon=False, fontsize=7)
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
