"""P9, fresh text: is a scorer better on the validation documents than on ones that nobody has seen?

Texts differ, so both kinds are also scored by a reference that knows neither: pairs of tokens counted over the training
side. A document's value is the scorer's bits per byte less the reference's; validation and fresh documents must have
one mean. The test is Welch's, on documents; four standard errors are a chance of about one in 30,000 (a few times that
for a dozen documents).
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from data.bytes import ByteTable, bits_per_byte
from eval.probes.basic import Finding
from eval.scorer import Floats, Scored, Scorer, Tokens

LIMIT_Z = 4.0
FEWEST = 12  # documents of a kind


class Bigram:
    """The reference: p(x | y) = (c(yx) + d(y) p(x)) / (c(y) + d(y)), Witten and Bell's; d(y) different followers."""

    def __init__(self, tokens: Tokens, table: ByteTable) -> None:
        self.vocab_size, self._table = table.vocab_size, table
        ids = np.asarray(tokens, np.int64)
        self._keys, self._counts = np.unique(ids[:-1] * self.vocab_size + ids[1:], return_counts=True)
        before = self._keys // self.vocab_size
        self._seen = np.bincount(before, self._counts, self.vocab_size)  # c(y)
        self._kinds = np.bincount(before, minlength=self.vocab_size).astype(np.float64)  # d(y)
        alone = np.bincount(ids, minlength=self.vocab_size) + 0.5
        self._alone: Floats = alone / alone.sum()

    def probabilities(self, before: npt.NDArray[np.int64]) -> Floats:
        """(n,) -> (n, V)."""
        share = self._kinds[before] / np.maximum(self._seen[before] + self._kinds[before], 1)
        p = np.where(self._seen[before] > 0, share, 1.0)[:, None] * self._alone
        for row, token in enumerate(before.tolist()):
            begin, end = np.searchsorted(self._keys, (token * self.vocab_size, (token + 1) * self.vocab_size))
            followers = self._keys[begin:end] % self.vocab_size
            p[row, followers] += self._counts[begin:end] / (self._seen[token] + self._kinds[token])
        return p

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        ids = np.asarray(tokens, np.int64)
        before, after = ids[:-1], ids[1:]
        wanted = before * self.vocab_size + after
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        counts = np.where(self._keys[at] == wanted, self._counts[at], 0)
        seen, kinds = self._seen[before], self._kinds[before]
        p = np.where(seen > 0, (counts + kinds * self._alone[after]) / np.maximum(seen + kinds, 1), self._alone[after])
        shown = self.probabilities(before[list(show)])
        return Scored(np.arange(len(before)), -np.log(p), int(self._table.exact_bytes(after).sum()), shown)


def fresh_text(
    scorer: Scorer, reference: Scorer, val: Sequence[Tokens], fresh: Sequence[Tokens], table: ByteTable
) -> Finding:
    """P9. Documents with their marks."""
    held, new = (np.array([_lead(scorer, reference, ids, table) for ids in side]) for side in (val, fresh))
    gap = float(new.mean() - held.mean())  # bits per byte by which validation text suits the scorer better
    error = sqrt(held.var(ddof=1) / len(held) + new.var(ddof=1) / len(new))
    z = gap / max(error, 1e-12)
    best = int(held.argmin())
    evidence = {"gap_bpb": gap, "z": z, "val_documents": len(held), "fresh_documents": len(new)}
    said = f"validation text suits it {gap:+.4f} bits a byte better than fresh text, {z:+.1f} standard errors"
    if z <= LIMIT_Z:
        return Finding("fresh", True, said, evidence)
    detail = (
        f"{said}; validation document {best} beats the reference by {-held[best]:.3f}, fresh ones by {-new.mean():.3f}"
    )
    return Finding("fresh", False, detail, evidence | {"document": best})


def _lead(scorer: Scorer, reference: Scorer, ids: Tokens, table: ByteTable) -> float:
    size = int(table.exact_bytes(ids[1:]).sum())  # the evaluator's own count for both
    mine, other = (float(one.score(ids).nats.sum()) for one in (scorer, reference))
    return bits_per_byte(mine, size) - bits_per_byte(other, size)
