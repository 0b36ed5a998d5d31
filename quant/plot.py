"""Where the bytes of an artifact are, as a picture: a bar per stream, divided into its tensors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from quant.coder import entropy_bits
from quant.format import PackedTensor

SHADES = ("C0", "C9")  # of neighbouring tensors


def plot_bytes(tensors: Sequence[PackedTensor], stream_bytes: Mapping[str, int], path: Path) -> None:
    """A kind's bytes are divided among its tensors in proportion to their entropies."""
    total = sum(stream_bytes.values())
    figure = Figure(figsize=(9, 1.2 + 0.4 * len(stream_bytes)), layout="constrained")
    axes = figure.add_subplot()
    names = sorted(stream_bytes, key=lambda name: stream_bytes[name])
    for at, name in enumerate(names):
        size = stream_bytes[name]
        on_grid = [t for t in tensors if t.grid is not None and f"integers.{t.kind}" == name]
        entropies = np.array([entropy_bits(tensor.values) + 1.0 for tensor in on_grid] or [1.0])
        sizes = size * entropies / entropies.sum()
        colors = [SHADES[number % 2] for number in range(len(sizes))]
        axes.barh(at, sizes, left=np.cumsum(sizes) - sizes, color=colors, edgecolor="white", linewidth=0.5)
        axes.annotate(f" {size:,} ({size / total:.1%})", (size, at), va="center", fontsize=9)
    axes.set(xlim=(0, 1.25 * max(stream_bytes.values())), xlabel="bytes; a segment is a tensor")
    axes.set_yticks(range(len(names)), [name.removeprefix("integers.") for name in names])
    axes.set_title(f"{total:,} bytes of weights and tokenizer, by kind")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
