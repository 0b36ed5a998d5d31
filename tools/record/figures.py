"""The pictures of a record: losses of all seeds, the artifact's bytes, the loss by position."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from base.run_folder import METRICS, read_metrics
from data.dataset import Dataset
from engine.device import Device
from engine.plot import smooth
from eval.plot import plot_positions, target_losses
from eval.protocol import artifact_protocol
from eval.score import score
from quant.format import read_artifact
from quant.plot import plot_bytes
from quant.unpack import open_artifact
from tools.record.runs import Run

POSITION_TARGETS = 131_072  # enough for the curve


def draw_bytes(path: Path, artifact: bytes) -> None:
    contents = read_artifact(artifact)
    plot_bytes(contents.tensors, contents.stream_bytes, path)


def draw_positions(path: Path, artifact: Path, dataset: Dataset) -> None:
    """The mean loss against the position in the document and in the window."""
    opened = open_artifact(artifact)
    protocol = artifact_protocol(opened)
    nats = np.full(len(dataset.val) - 1, np.nan)
    limit = min(POSITION_TARGETS, len(nats))
    score(opened.model, dataset, protocol, Device(torch.device("cpu")), limit, nats=nats)
    title = f"context {protocol.context}, stride {protocol.stride}, the first {limit:,} targets"
    plot_positions(path, title, target_losses(nats, dataset, protocol))


def draw_losses(path: Path, title: str, runs: Sequence[Run]) -> None:
    """Training's losses on the left; on the right the validations during the run and the artifact's score."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    seen: list[float] = []
    for number, run in enumerate(sorted(runs, key=lambda run: run.seed)):
        color, seed, score = f"C{number}", f"seed {run.seed}", run.result.val_bpb
        rows = read_metrics((run.folder / METRICS).read_text(encoding="utf-8"), METRICS)
        steps = [(int(row["step"]), row["loss"]) for row in rows if "loss" in row]
        last = steps[-1][0]
        left.plot(*zip(*steps, strict=True), linewidth=0.5, alpha=0.25, color=color)
        left.plot(*zip(*smooth(steps), strict=True), linewidth=1.2, color=color, label=seed)
        seen += sorted(loss for _, loss in steps)[: max(1, int(0.98 * len(steps)))]
        during = [(row["step"], row["float_bpb"]) for row in rows if "float_bpb" in row]
        right.plot(*zip(*during, (last, score), strict=True), "o-", markersize=4, linewidth=0.8, color=color)
        right.plot(last, score, "*", markersize=11, color=color, label=f"{seed}: {score:.5f}")
    left.set(xlabel="step", ylabel="nats per token", ylim=(min(seen) * 0.97, max(seen) * 1.03))
    left.set_title("training", fontsize=9)
    right.set(xlabel="step", ylabel="bits per byte")
    right.set_title("validation, float weights, no overlap (dots); the artifact's score (stars)", fontsize=9)
    for axes in (left, right):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
