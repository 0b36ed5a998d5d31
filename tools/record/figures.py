"""The pictures of a record, of its median seed: losses, the artifact's bytes, the loss by position."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.dataset import Dataset
from engine.device import joined
from eval.plot import plot_positions, target_losses
from eval.protocol import artifact_protocol
from eval.score import score
from quant.format import read_artifact
from quant.plot import plot_bytes
from quant.unpack import open_artifact
from tools.record.schema import FIGURES

POSITION_TARGETS = 131_072  # enough for the curve


def draw_figures(folder: Path, loss_plot: Path, artifact: Path, dataset: Dataset) -> None:
    """`loss_plot`: the one that the run of the artifact has drawn."""
    losses, sizes, positions = (folder / name for name in FIGURES)
    losses.parent.mkdir()
    shutil.copyfile(loss_plot, losses)
    contents = read_artifact(artifact.read_bytes())
    plot_bytes(contents.tensors, contents.stream_bytes, sizes)
    opened = open_artifact(artifact)
    protocol = artifact_protocol(opened)
    nats = np.full(len(dataset.val) - 1, np.nan)
    limit = min(POSITION_TARGETS, len(nats) // protocol.adapt.streams)  # within the first stream:
    protocol = replace(protocol, adapt=replace(protocol.adapt, streams=1))  # a text of its own
    with joined() as device:
        score(opened.model.to(device.torch), dataset, protocol, device, limit, nats=nats)
    title = f"context {protocol.context}, stride {protocol.stride}, the first {limit:,} targets"
    if protocol.adapt.kind != "off":
        title += f", adapting: {protocol.adapt.kind}"
    plot_positions(positions, title, target_losses(nats, dataset, protocol))
