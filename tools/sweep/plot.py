"""A sweep as one picture: bits per byte of every variant with its seeds, and loss curves by group."""

import statistics
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from tools.sweep.table import Row, Trial, scores

COLUMNS = 3
FIRST_SHARE = 0.1  # of a curve is left out: all runs fall alike there, and hide what differs later

Curves = dict[str, list[list[tuple[int, float]]]]  # variant -> (step, loss) of each of its seeds


def picture(
    study: str, rows: Sequence[Row], trials: Sequence[Trial], curves: Curves, groups: Mapping[str, Sequence[str]]
) -> bytes:
    """The PNG; variants without a result are named on the axis and have no dot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second to import, once, at the end
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(groups))
    lines = -(-len(groups) // columns)
    figure = Figure(figsize=(15, max(3.0, 0.32 * len(rows) + 1.2, 2.9 * lines)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.7)).flat
    _plot_scores(left.add_subplot(), rows, trials)
    panels = right.subplots(lines, columns, squeeze=False).flat
    for axes, (group, names) in zip(panels, groups.items(), strict=False):
        _plot_curves(axes, group.replace("$", r"\$"), names, curves)  # a bare $ would begin a formula
    for axes in panels[len(groups) :]:
        axes.set_visible(False)
    figure.suptitle(study)
    data = BytesIO()
    figure.savefig(data, format="png", dpi=100)
    return data.getvalue()


def _plot_scores(axes: Any, rows: Sequence[Row], trials: Sequence[Trial]) -> None:
    if rows[0].mean is not None:
        axes.axvline(rows[0].mean, color="0.6", linewidth=0.8, linestyle="--")
    for height, row in enumerate(rows):
        found = scores(trials, row.variant)
        axes.plot(found, [height] * len(found), "o", color="tab:blue", markersize=4, alpha=0.35)
        if row.mean is not None:
            axes.errorbar(row.mean, height, xerr=row.std, fmt="D", color="tab:blue", markersize=5, capsize=3)
    axes.set_yticks(range(len(rows)), [row.variant if row.complete else f"{row.variant} (no result)" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("bits per byte: seeds, mean, standard deviation; dashed: the first variant")
    axes.grid(alpha=0.25)


def _plot_curves(axes: Any, group: str, names: Sequence[str], curves: Curves) -> None:
    for name in names:
        if curves.get(name):
            points = list(zip(*curves[name], strict=False))[int(FIRST_SHARE * len(curves[name][0])) :]
            share = [seeds[0][0] / curves[name][0][-1][0] for seeds in points]
            axes.plot(share, [statistics.fmean(loss for _, loss in seeds) for seeds in points], label=name)
    axes.set_title(group)
    axes.set_xlabel("share of the run")
    axes.set_ylabel("training loss, nats per token")
    axes.grid(alpha=0.25)
    if axes.lines:
        axes.legend(frameon=False, fontsize="small")
