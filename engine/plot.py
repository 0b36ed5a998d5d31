"""The loss curve of a run, drawn from its metrics.jsonl."""

from pathlib import Path

from base.run_folder import LOSS_PLOT, METRICS, read_metrics


def plot_losses(folder: Path) -> None:
    from matplotlib.figure import Figure  # half a second to import, once, at the end

    rows = read_metrics((folder / METRICS).read_text(encoding="utf-8"), METRICS)
    steps = [row for row in rows if "loss" in row]
    scores = [(row["step"], row["float_bpb"]) for row in rows if "float_bpb" in row]
    if not steps:
        return
    numbers, losses, smooth = ([row[name] for row in steps] for name in ("step", "loss", "smooth_loss"))
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(numbers, losses, linewidth=0.6, alpha=0.4, color="tab:blue")
    axes.plot(numbers, smooth, color="tab:blue", label="training loss")
    axes.set(xlabel="step", ylabel="nats per token", title=folder.name)
    top = sorted(losses)[int(0.98 * (len(losses) - 1))]
    axes.set_ylim(min(losses) * 0.97, top * 1.03)
    if scores:
        right = axes.twinx()
        right.plot(*zip(*scores, strict=True), "o-", color="tab:red", markersize=4, label="validation")
        right.set_ylabel("bits per byte")
        right.legend(loc="upper center")
    axes.legend(loc="upper right")
    figure.savefig(folder / LOSS_PLOT, dpi=120)
