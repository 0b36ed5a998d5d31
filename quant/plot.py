"""Where the bytes of an artifact are, as a picture: a bar per kind, divided into its tensors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from quant.format import PackedTensor
from quant.report import entropy_bits, kind_rows

SHADES = ("C0", "C9")  # of neighbouring tensors


def plot_bytes(tensors: Sequence[PackedTensor], stream_bytes: Mapping[str, int], path: Path) -> None:
    """A kind's bytes are shared out over its tensors by their entropies."""
    rows = sorted(kind_rows(tensors, stream_bytes), key=lambda row: row.bytes)
    total = sum(stream_bytes.values())
    figure = Figure(figsize=(9, 1.2 + 0.4 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for at, row in enumerate(rows):
        on_grid = [tensor for tensor in tensors if tensor.kind == row.kind and tensor.grid is not None]
        entropies = [entropy_bits(tensor.values) + 1.0 for tensor in on_grid] or [1.0]
        left = 0.0
        for number, entropy in enumerate(entropies):
            size = row.bytes * entropy / sum(entropies)
            axes.barh(at, size, left=left, color=SHADES[number % 2], edgecolor="white", linewidth=0.5)
            left += size
        axes.annotate(f" {row.bytes:,} ({row.bytes / total:.1%})", (row.bytes, at), va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [row.kind for row in rows])
    axes.set_xlim(0, 1.25 * max(row.bytes for row in rows))
    axes.set_xlabel("bytes; a segment is a tensor")
    axes.set_title(f"{total:,} bytes of weights and tokenizer, by kind")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
