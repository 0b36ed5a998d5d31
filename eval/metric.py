"""The score's arithmetic: nats, bytes and coverage in, bits per byte out. Float64, and no model in sight.

    bpb = total nats / ln 2 / total bytes

Every target has a counter. A score exists only when each was counted once, or is marked partial: a part of the
validation text is never reported as the whole. BOS is a target like any other: its nats are charged, its bytes are 0.
The tally looks bytes up in the byte table itself; nobody hands it a number of bytes.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from base.errors import CheckFailed
from data.bytes import ByteTable, bits_per_byte


class Score(NamedTuple):
    bpb: float
    nats_per_token: float
    tokens: int  # targets scored
    bytes: int  # exact convention
    contest_bytes: int
    coverage: float  # of all targets, 1.0 unless partial
    partial: bool

    def named(self, side: str) -> dict[str, float]:
        """As a run's result calls it."""
        return {
            f"{side}_bpb": self.bpb,
            f"{side}_nats_per_token": self.nats_per_token,
            f"{side}_tokens": self.tokens,
            f"{side}_bytes": self.bytes,
            "contest_bytes": self.contest_bytes,
        }


class TallyState(NamedTuple):
    identity: str
    seen: npt.NDArray[np.uint8]
    nats: float
    bytes: int
    contest_bytes: int


class Tally:
    """Collects losses of targets, in any order and over any number of ranks, and proves that each came once."""

    def __init__(self, table: ByteTable, tokens: npt.NDArray[np.integer]) -> None:
        self._table, self._tokens = table, tokens  # the evaluator's own tokens: a scorer cannot bring its targets
        self._seen = np.zeros(len(tokens) - 1, np.uint8)
        self._nats = 0.0
        self._bytes = self._contest_bytes = 0

    def add(self, first: int, nats: npt.ArrayLike) -> None:
        """Losses of targets first, first+1, …"""
        given = np.asarray(nats)
        if given.ndim != 1 or given.dtype.kind not in "fiu" or np.ma.isMaskedArray(nats):
            raise ValueError(f"losses of shape {given.shape}, {given.dtype}: one real number a target, in a row")
        losses = given.astype(np.float64)
        if not np.isfinite(losses).all() or (losses < 0).any():
            raise CheckFailed(
                f"the loss of a target from {first} on is negative or not a number; no code has such a length"
            )
        if first < 0 or first + len(losses) > len(self._seen):
            raise CheckFailed(f"targets {first} to {first + len(losses)} lie outside the {len(self._seen)} there are")
        span = slice(first, first + len(losses))
        previous, target = self._tokens[span], self._tokens[first + 1 : first + 1 + len(losses)]
        exact, contest = self._table.exact_bytes(target), self._table.contest_bytes(previous, target)  # may refuse
        self._seen[span] = np.minimum(self._seen[span].astype(np.int64) + 1, 255)
        with np.errstate(over="ignore"):  # an infinite total is refused when the score is asked for
            self._nats += float(losses.sum())
        self._bytes += int(exact.sum())
        self._contest_bytes += int(contest.sum())

    def state(self) -> TallyState:
        """What another rank needs to merge this tally into its own."""
        return TallyState(self._identity(), self._seen, self._nats, self._bytes, self._contest_bytes)

    def merge(self, other: TallyState) -> None:
        """Take in another rank's tally of the same targets; never its own."""
        if other.identity != self._identity():
            raise CheckFailed("two tallies of different tokens cannot be one score")
        self._seen = np.minimum(self._seen.astype(np.int64) + other.seen, 255).astype(np.uint8)
        self._nats += other.nats
        self._bytes += other.bytes
        self._contest_bytes += other.contest_bytes

    def _identity(self) -> str:
        return hashlib.sha256(f"{self._table.vocab_size}".encode() + self._tokens.tobytes()).hexdigest()

    def score(self, partial: bool = False) -> Score:
        """The result; without `partial` every target must have been scored, and never one twice."""
        if (twice := np.flatnonzero(self._seen > 1)).size:
            raise CheckFailed(f"{twice.size} targets were scored more than once, the first is target {twice[0]}")
        scored = int(self._seen.sum())
        if not partial and scored < len(self._seen):
            missed = int(np.flatnonzero(self._seen == 0)[0])
            raise CheckFailed(
                f"{len(self._seen) - scored} of {len(self._seen)} targets were not scored, from {missed} on"
            )
        return Score(
            bpb=bits_per_byte(self._nats, self._bytes),
            nats_per_token=self._nats / scored,
            tokens=scored,
            bytes=self._bytes,
            contest_bytes=self._contest_bytes,
            coverage=scored / len(self._seen),
            partial=scored < len(self._seen),
        )
