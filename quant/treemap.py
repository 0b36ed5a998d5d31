"""Where the bytes are, as a picture: one rectangle a tensor, grouped and coloured by kind, its area its share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from quant.report import entropy_bits
from quant.stored import Stored

LETTER_WIDTH, KIND_HEIGHT = 0.0048, 0.03  # of the picture: a letter of a tensor's name, a line with a kind's
Box = tuple[float, float, float, float]  # left, bottom, width, height


def plot_bytes(tensors: Sequence[Stored], stream_bytes: Mapping[str, int], path: Path) -> None:
    """A kind's stream is shared out over its tensors by their entropies."""
    groups: dict[str, dict[str, float]] = {}
    for tensor in tensors:
        if tensor.grid is not None:
            groups.setdefault(tensor.kind, {})[tensor.name] = entropy_bits(tensor.values) + 1.0
    shares = {
        k: {n: v / sum(g.values()) * stream_bytes[f"integers.{k}"] for n, v in g.items()} for k, g in groups.items()
    }
    shares["other"] = {n: float(size) for n, size in stream_bytes.items() if not n.startswith("integers.") and size}
    colours = matplotlib.colormaps["tab10"]
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    outer = squarified({kind: sum(group.values()) for kind, group in shares.items()}, (0, 0, 1, 1))
    for number, (kind, box) in enumerate(outer.items()):
        for name, (x, y, width, height) in squarified(shares[kind], box).items():
            axes.add_patch(
                Rectangle((x, y), width, height, facecolor=colours(number), edgecolor="white", linewidth=0.8)
            )
            label, corner = name.removesuffix(".weight"), x - box[0] < 1e-9 and box[1] + box[3] - y - height < 1e-9
            free = height - KIND_HEIGHT * corner  # below the kind's own name
            if width > LETTER_WIDTH * max(len(label), 7) and free > 0.03:
                said = f"{label}\n{shares[kind][name]:,.0f}"
                axes.text(x + width / 2, y + free / 2, said, ha="center", va="center", fontsize=6, color="white")
        if box[2] > LETTER_WIDTH * 2 * len(kind) and box[3] > 0.02:
            said = f"{kind} {sum(shares[kind].values()):,.0f}" if box[2] > 0.12 else kind
            axes.text(box[0] + 0.004, box[1] + box[3] - 0.004, said, ha="left", va="top", fontsize=9, weight="bold")
    axes.set_title(f"{sum(stream_bytes.values()):,} bytes by tensor")
    figure.savefig(path, dpi=130)


def squarified(sizes: Mapping[str, float], box: Box) -> dict[str, Box]:
    """Rectangles of these areas that fill the box, near square (Bruls, Huizing and van Wijk 2000)."""
    left = sorted(((size, name) for name, size in sizes.items() if size > 0), reverse=True)
    total, placed = sum(size for size, _ in left), dict[str, Box]()
    x, y, width, height = box
    scale = width * height / total if total else 0.0
    while left:
        side, count = min(width, height), 1
        while count < len(left) and _worst(left[: count + 1], side, scale) <= _worst(left[:count], side, scale):
            count += 1
        row, left = left[:count], left[count:]
        depth = sum(size for size, _ in row) * scale / side if side else 0.0
        at = 0.0
        for size, name in row:
            length = size * scale / depth if depth else 0.0
            placed[name] = (x, y + at, depth, length) if width >= height else (x + at, y, length, depth)
            at += length
        if width >= height:
            x, width = x + depth, width - depth
        else:
            y, height = y + depth, height - depth
    return placed


def _worst(row: list[tuple[float, str]], side: float, scale: float) -> float:
    area = sum(size for size, _ in row) * scale
    return max(max(side**2 * s * scale / area**2, area**2 / (side**2 * s * scale)) for s, _ in row)
