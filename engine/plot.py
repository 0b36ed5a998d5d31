"""The loss curve of a run, drawn from its metrics.jsonl."""

from pathlib import Path

from base.run_folder import LOSS_PLOT, METRICS, read_metrics


def plot_losses(folder: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second to import, once, at the end
    from matplotlib.figure import Figure

    rows = read_metrics((folder / METRICS).read_text(encoding="utf-8"), METRICS)
    steps = [(int(row["step"]), row["loss"]) for row in rows if "loss" in row]
    scores = [(row["step"], row["float_bpb"]) for row in rows if "float_bpb" in row]
    if not steps:
        return
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(*zip(*steps, strict=True), linewidth=0.6, alpha=0.4, color="tab:blue")
    axes.plot(*zip(*smooth(steps), strict=True), color="tab:blue", label="training loss")
    axes.set(xlabel="step", ylabel="nats per token", title=folder.name)
    top = sorted(loss for _, loss in steps)[int(0.98 * (len(steps) - 1))]
    axes.set_ylim(min(loss for _, loss in steps) * 0.97, top * 1.03)
    if scores:
        right = axes.twinx()
        right.plot(*zip(*scores, strict=True), "o-", color="tab:red", markersize=4, label="validation")
        right.set_ylabel("bits per byte")
        right.legend(loc="upper center")
    axes.legend(loc="upper right")
    figure.savefig(folder / LOSS_PLOT, dpi=120)


def smooth(steps: list[tuple[int, float]], share: float = 0.95) -> list[tuple[int, float]]:
    """A running mean without the bias of a zero start."""
    found = []
    total = 0.0
    weight = 0.0
    for step, loss in steps:
        total = share * total + (1 - share) * loss
        weight = share * weight + (1 - share)
        found.append((step, total / weight))
    return found
