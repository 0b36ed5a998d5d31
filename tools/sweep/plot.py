"""A sweep as one picture: bits per byte of every variant, its seeds, their mean and standard deviation."""

from io import BytesIO

from tools.sweep.table import Report


def picture(report: Report) -> bytes:
    """The PNG; variants without a result are named on the axis and have no dot."""
    from matplotlib.figure import Figure  # half a second to import, once, at the end

    rows = report.table
    figure = Figure(figsize=(8, max(3.0, 0.32 * len(rows) + 1.2)), layout="constrained")
    axes = figure.add_subplot(title=report.study, xlabel="bits per byte: seeds, mean, deviation; dashed: the first")
    if rows[0].mean is not None:
        axes.axvline(rows[0].mean, color="0.6", linewidth=0.8, linestyle="--")
    for height, row in enumerate(rows):
        axes.plot(row.bpb, [height] * len(row.bpb), "o", color="tab:blue", markersize=4, alpha=0.35)
        if row.mean is not None:
            axes.errorbar(row.mean, height, xerr=row.std, fmt="D", color="tab:blue", markersize=5, capsize=3)
    axes.set_yticks(range(len(rows)), [row.variant if row.bpb else f"{row.variant} (no result)" for row in rows])
    axes.invert_yaxis()
    axes.grid(alpha=0.25)
    data = BytesIO()
    figure.savefig(data, format="png", dpi=100)
    return data.getvalue()
