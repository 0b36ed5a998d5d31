"""The score's arithmetic: nats, bytes and coverage in, bits per byte out. Float64, and no model in sight.

    bpb = total nats / ln 2 / total bytes

Every target has a counter. A score exists only when each was counted once, or is marked partial: part of the
validation text is never reported as all of it. BOS is a target like any other: its nats are charged, its bytes are 0.
The tally looks bytes up in the byte table itself; no scorer hands it a number of bytes.

Nats are summed by blocks of consecutive targets and the total is the sum of the blocks: 121 kB of block sums vouch for
the 62 million targets of the contest, and any block can be measured again by itself (eval.blocks).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from base.errors import CheckFailed
from data.bytes import ByteTable, bits_per_byte

BLOCK_TOKENS = 4096  # consecutive targets of a block; the last block may be shorter
MOST_SEEN = 2  # enough to tell once from more, and so small that the counters of MOST_RANKS ranks add up in a byte
MOST_RANKS = 255 // MOST_SEEN

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    bpb: float
    nats_per_token: float
    tokens: int  # targets scored
    bytes: int  # exact convention
    contest_bytes: int
    coverage: float  # of all targets; 1.0 unless partial
    partial: bool
    block_nats: Floats = field(repr=False, compare=False)  # (blocks,) not part of the JSON

    def plain(self) -> dict[str, Any]:
        """What JSON holds: everything but the blocks."""
        return {name: value for name, value in vars(self).items() if name != "block_nats"}


class Tally:
    """Collects losses of targets, in any order and over any number of ranks, and proves that each came once."""

    def __init__(self, table: ByteTable, tokens: npt.NDArray[np.integer]) -> None:
        self._table = table
        self._tokens = tokens  # the evaluator's own: a scorer cannot bring its targets
        self._seen = np.zeros(len(tokens) - 1, np.uint8)  # how often each target was scored, up to MOST_SEEN
        self._block_nats = np.zeros(-(-len(self._seen) // BLOCK_TOKENS))
        self._sizes = np.zeros(2, np.int64)  # exact bytes, contest bytes

    def add(self, targets: npt.ArrayLike, nats: npt.ArrayLike) -> None:
        """(n,) targets, in any order, and their losses."""
        at = np.asarray(targets, np.int64)
        losses = np.asarray(nats, np.float64)
        if (refused := at[~((losses >= 0) & (losses < np.inf))]).size:
            raise CheckFailed(f"the loss of target {refused[0]} is negative or not a number; no code has such a length")
        if (outside := at[(at < 0) | (at >= len(self._seen))]).size:
            raise CheckFailed(f"target {outside[0]} lies outside the {len(self._seen)} there are")
        exact = self._table.exact_bytes(self._tokens[at + 1])  # may refuse the token, before anything is counted
        contest = self._table.contest_bytes(self._tokens[at], self._tokens[at + 1])
        once, times = np.unique(at, return_counts=True)
        self._seen[once] = np.minimum(self._seen[once] + times, MOST_SEEN)
        np.add.at(self._block_nats, at // BLOCK_TOKENS, losses)
        self._sizes += (exact.sum(), contest.sum())

    def restore(self, targets: int, block_nats: Sequence[float]) -> None:
        """Begin where the tally of the first so many targets ended."""
        after = self._tokens[1 : targets + 1]
        self._seen[:targets] = 1
        self._block_nats[: len(block_nats)] = block_nats
        self._sizes += (
            self._table.exact_bytes(after).sum(),
            self._table.contest_bytes(self._tokens[:targets], after).sum(),
        )

    def clear_sums(self) -> None:
        """Leave what has been added up to another rank's tally."""
        self._block_nats[:] = 0.0
        self._sizes[:] = 0

    def counters(self, targets: slice = slice(None)) -> tuple[npt.NDArray[Any], ...]:
        """What ranks that share these targets add up, in place, to have the tally of all."""
        return self._seen[targets], self._block_nats, self._sizes

    @property
    def is_scored(self) -> npt.NDArray[np.bool_]:
        return self._seen > 0

    def bpb_so_far(self) -> float:
        """Of the targets counted until now; NaN as long as they have no bytes."""
        return bits_per_byte(self._nats(), int(self._sizes[0])) if self._sizes[0] else np.nan

    def score(self, partial: bool = False) -> Score:
        """The result; without `partial` every target must have been scored, and never one twice."""
        targets = len(self._seen)
        twice = np.flatnonzero(self._seen > 1)
        if twice.size:
            raise CheckFailed(f"{twice.size} targets were scored more than once, the first is target {twice[0]}")
        scored = int(self._seen.sum())
        if not partial and scored < targets:
            missed = int(self._seen.argmin())
            raise CheckFailed(f"{targets - scored} of {targets} targets were not scored, from {missed} on")
        exact, contest = self._sizes.tolist()
        return Score(
            bpb=bits_per_byte(self._nats(), exact),
            nats_per_token=self._nats() / scored,
            tokens=scored,
            bytes=exact,
            contest_bytes=contest,
            coverage=scored / targets,
            partial=scored < targets,
            block_nats=self._block_nats.copy(),
        )

    def _nats(self) -> float:
        return float(self._block_nats.sum())
