"""The three pictures of a record: the losses of all seeds, the bytes of the artifact, the loss by position."""

from collections.abc import Mapping
from pathlib import Path

from engine.plot import smoothed
from eval.bpb import act, parser
from quant.format import read_artifact
from quant.plot import plot_bytes
from tools.record.runs import metric_rows

POSITION_TARGETS = 131_072  # enough for the curve; the score is of all
LOSS, BYTES, POSITION = "loss.png", "bytes.png", "position.png"


def draw_bytes(path: Path, artifact: Path) -> None:
    contents = read_artifact(artifact.read_bytes())
    plot_bytes(contents.tensors, contents.stream_bytes, path)


def draw_positions(path: Path, artifact: Path, data: Path, scratch: Path) -> None:
    words = [artifact, "--data", data, "--limit", POSITION_TARGETS, "--plot", path, "-o", scratch]
    act(parser().parse_args([str(word) for word in words]))


def draw_losses(path: Path, title: str, metrics: Mapping[int, Path], scores: Mapping[int, float]) -> None:
    """Training's losses on the left; on the right what validation said on the way, and the packed artifact's score."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second to import, once, at the end
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    seen = list[float]()
    for number, (seed, file) in enumerate(sorted(metrics.items())):
        color = f"C{number}"
        rows = metric_rows(file)
        steps = [(row["step"], row["loss"]) for row in rows if "loss" in row]
        left.plot(*zip(*steps, strict=True), linewidth=0.5, alpha=0.25, color=color)
        left.plot(*zip(*smoothed(steps), strict=True), linewidth=1.2, color=color, label=f"seed {seed}")
        seen += sorted(loss for _, loss in steps)[: max(1, int(0.98 * len(steps)))]
        last = steps[-1][0]
        during = [(row["step"], row["val_bpb"]) for row in rows if "val_bpb" in row]
        right.plot(*zip(*during, (last, scores[seed]), strict=True), "-", linewidth=0.8, alpha=0.5, color=color)
        if during:
            right.plot(*zip(*during, strict=True), "o", markersize=4, color=color)
        right.plot(last, scores[seed], "*", markersize=11, color=color, label=f"seed {seed}: {scores[seed]:.5f}")
    left.set(xlabel="step", ylabel="nats a token", ylim=(min(seen) * 0.97, max(seen) * 1.03))
    left.set_title("training", fontsize=9)
    right.set(xlabel="step", ylabel="bits a byte")
    right.set_title("validation, no overlap (dots); the packed artifact's score (stars)", fontsize=9)
    for axes in (left, right):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
