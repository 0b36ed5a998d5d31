"""The score's arithmetic: nats, bytes and coverage in, bits per byte out. Float64, and no model in sight.

    bpb = total nats / ln 2 / total bytes

Every target has a counter. A score exists only when each was counted once, or is marked partial: part of the
validation text is never reported as all of it. BOS is a target like any other: its nats are charged, its bytes are 0.
The tally looks bytes up in the byte table itself; no scorer hands it a number of bytes.

Nats are summed by blocks of consecutive targets and the total is the sum of the blocks: 121 kB of block sums vouch for
the 62 million targets of the contest, and any block can be measured again by itself (eval.score.score_blocks).
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from base.errors import CheckFailed
from data.bytes import ByteTable, bits_per_byte

BLOCK_TOKENS = 4096  # consecutive targets of a block; the last block may be shorter

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


class TallyState(NamedTuple):
    """What another rank needs to merge a tally into its own."""

    seen: npt.NDArray[np.uint8]  # (targets,) how often each was scored
    block_nats: Floats
    sizes: npt.NDArray[np.int64]  # exact bytes, contest bytes


class Tally:
    """Collects losses of targets, in any order and over any number of ranks, and proves that each came once."""

    def __init__(self, table: ByteTable, tokens: npt.NDArray[np.integer]) -> None:
        self._table = table
        self._tokens = tokens  # the evaluator's own: a scorer cannot bring its targets
        self._seen = np.zeros(len(tokens) - 1, np.uint8)
        self._block_nats = np.zeros(-(-len(self._seen) // BLOCK_TOKENS))
        self._sizes = np.zeros(2, np.int64)

    def add(self, first: int, nats: npt.ArrayLike) -> None:
        """Losses of targets first, first+1, …"""
        losses = np.asarray(nats, np.float64)
        end = first + len(losses)
        if not np.isfinite(losses).all() or (losses < 0).any():
            raise CheckFailed(
                f"the loss of a target from {first} on is negative or not a number; no code has such a length"
            )
        if first < 0 or end > len(self._seen):
            raise CheckFailed(f"targets {first} to {end} lie outside the {len(self._seen)} there are")
        previous, target = self._tokens[first:end], self._tokens[first + 1 : end + 1]
        exact = self._table.exact_bytes(target)  # may refuse the target, before anything is counted
        contest = self._table.contest_bytes(previous, target)
        seen = self._seen[first:end]
        seen[seen < 255] += 1
        for block in range(first // BLOCK_TOKENS, -(-end // BLOCK_TOKENS)):
            begin = block * BLOCK_TOKENS - first
            self._block_nats[block] += losses[max(0, begin) : begin + BLOCK_TOKENS].sum()
        self._sizes += (exact.sum(), contest.sum())

    def state(self) -> TallyState:
        return TallyState(self._seen, self._block_nats, self._sizes)

    def merge(self, other: TallyState) -> None:
        """Take in a rank's tally of the same targets."""
        self._seen = np.minimum(self._seen.astype(np.int64) + other.seen, 255).astype(np.uint8)
        self._block_nats = self._block_nats + other.block_nats
        self._sizes = self._sizes + other.sizes

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
