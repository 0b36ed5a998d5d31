"""The integers of a trellis that come closest to what is wanted (Viterbi 1967); a reader needs none of it.

It has two forms: a compiled loop for the CPU, and for a GPU min-plus products of transition matrices, which take 6
rounds for 64 rows. Both add fp64 errors, and differ only where two paths are equally close.
"""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from quant.compiled import compiled
from quant.trellis import NEXT, SEGMENT, STAGGERED, Values

# The two ways into each state: where from, and with which parity.
CAME_FROM = np.array([[s for s in range(8) if t in NEXT[s]] for t in range(8)])  # (8, 2)
PARITY = np.array([[int(NEXT[s, 1] == t) for s in CAME_FROM[t]] for t in range(8)])
SUBSET = 2 * STAGGERED[CAME_FROM] + PARITY  # (8, 2) which of the four sets below the value of that way is from
OFFSET = np.array([0, 2, 3, 1])  # half steps: 0 4 8 …, 2 6 …, 0 3 7 …, 1 5 …
NO_WAY = 4
BETWEEN = np.full((8, 8), NO_WAY)  # (from, to) -> the set of that way
BETWEEN[CAME_FROM, np.arange(8)[:, None]] = SUBSET
RUNS = 1024  # that a GPU searches at once: 0.13 MB each


def to_integers(values: torch.Tensor) -> torch.Tensor:
    """int8 of values in half steps: they are even on the plain grid and odd on the other, so none needs its state."""
    return ((values.abs() + 1) / 2).floor_().copysign_(values).to(torch.int8)


def search(wanted: torch.Tensor, largest: int) -> torch.Tensor:
    """(columns, rows) half steps -> the closest values, in half steps, that integers within ±`largest` have."""
    columns, rows = wanted.shape
    if wanted.device.type == "cpu":
        found = torch.empty(columns, rows)
        _search(wanted.contiguous().numpy(), _bounds(largest), found.numpy())
        return found
    runs = F.pad(wanted, (0, -rows % SEGMENT)).view(-1, SEGMENT)
    parts = [search_by_products(part, largest) for part in torch.split(runs, RUNS)]
    return torch.cat(parts).view(columns, -1)[:, :rows]


def _bounds(largest: int) -> npt.NDArray[np.float64]:
    """(4,) the largest value of each set."""
    even, odd = largest - largest % 2, largest - (largest - 1) % 2
    return np.maximum([2 * even, 2 * odd, 2 * even - 1, 2 * odd - 1], 0).astype(np.float64)


@compiled
def _search(wanted: Values, bounds: npt.NDArray[np.float64], found: Values) -> None:
    total, new, errors = np.empty(8), np.empty(8), np.empty(4)
    closest = np.empty((SEGMENT, 4))
    way_taken = np.empty((SEGMENT, 8), np.int8)
    for column in range(len(wanted)):
        for first in range(0, wanted.shape[1], SEGMENT):
            run = wanted[column, first : first + SEGMENT]
            total[:] = np.inf
            total[0] = 0
            for at, value in enumerate(run):
                size = abs(np.float64(value))
                for n in range(4):
                    near = 4 * np.rint((size - OFFSET[n]) / 4) + OFFSET[n]
                    if n == 2 and size < 1.5:
                        near = 0.0
                    closest[at, n] = min(near, bounds[n])
                    errors[n] = (closest[at, n] - size) ** 2
                for state in range(8):
                    by_first = total[CAME_FROM[state, 0]] + errors[SUBSET[state, 0]]
                    by_second = total[CAME_FROM[state, 1]] + errors[SUBSET[state, 1]]
                    way_taken[at, state] = by_second < by_first
                    new[state] = min(by_first, by_second)
                total, new = new, total
            state = int(np.argmin(total))
            for at in range(len(run) - 1, -1, -1):
                way = way_taken[at, state]
                size = closest[at, SUBSET[state, way]]
                found[column, first + at] = -size if run[at] < 0 else size
                state = int(CAME_FROM[state, way])


def search_by_products(runs: torch.Tensor, largest: int) -> torch.Tensor:
    """(N, SEGMENT) half steps -> the closest values."""
    device = runs.device
    offset = torch.tensor(OFFSET, device=device)
    size = runs.double().abs()[..., None]
    closest = 4 * torch.round((size - offset) / 4) + offset  # (N, SEGMENT, 4)
    closest[..., 2].masked_fill_(size[..., 0] < 1.5, 0.0)
    closest = closest.minimum(torch.from_numpy(_bounds(largest)).to(device))
    between = torch.tensor(BETWEEN, device=device)
    costs = F.pad((closest - size).square(), (0, 1), value=torch.inf)[..., between]  # (N, SEGMENT, from, to)
    middles = []
    while costs.shape[1] > 1:
        costs, middle = (costs[:, 0::2, :, :, None] + costs[:, 1::2, None]).min(3)
        middles.append(middle.flatten(2))  # (N, pairs, from and to) the best state between the two of a pair
    states = torch.stack([torch.zeros_like(ends := costs[:, 0, 0].argmin(1)), ends], 1)
    for middle in reversed(middles):
        within = middle.gather(2, (8 * states[:, :-1] + states[:, 1:])[..., None])
        states = torch.cat([torch.cat([states[:, :-1, None], within], 2).flatten(1), states[:, -1:]], 1)
    taken = between[states[:, :-1], states[:, 1:]]  # (N, SEGMENT)
    return closest.gather(2, taken[..., None])[..., 0].float().copysign(runs)
