"""The fresh-text probe: is a scorer better on the validation documents than on documents that it cannot have seen?

Texts differ in difficulty, so both kinds are also scored by a reference that has seen neither: pairs of tokens counted
over the training side. A document's lead is the scorer's bits per byte less the reference's; validation and fresh
documents must have the same mean lead. The test is Welch's, over documents; four standard errors happen by chance about
once in 30,000 (a few times as often with a dozen documents).
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from data.bytes import ByteTable, bits_per_byte
from eval.probes.basic import Finding
from eval.scorer import Floats, Scored, Scorer, Tokens

LIMIT_Z = 4.0
FEWEST = 12  # documents of a kind


class Bigram:
    """The reference: p(x | y) = (c(yx) + d(y) p(x)) / (c(y) + d(y)), Witten and Bell's formula.

    c counts, d(y) is the number of different tokens that follow y.
    """

    def __init__(self, tokens: Tokens, table: ByteTable) -> None:
        self.vocab_size = table.vocab_size
        self._table = table
        ids = np.asarray(tokens, np.int64)
        shape = (table.vocab_size, table.vocab_size)
        self._counts = csr_array((np.ones(len(ids) - 1), (ids[:-1], ids[1:])), shape)  # duplicates add up
        self._seen = self._counts.sum(1)  # c(y)
        self._kinds = np.diff(self._counts.indptr)  # d(y)
        alone = np.bincount(ids, minlength=self.vocab_size) + 0.5
        self._alone = alone / alone.sum()  # p(x)

    def probabilities(self, before: npt.NDArray[np.int64]) -> Floats:
        """(n,) -> (n, V)."""
        kinds = np.maximum(self._kinds[before], 1)[:, None]  # of a y that was never seen: p(x) alone
        p: Floats = (self._counts[before].toarray() + kinds * self._alone) / (self._seen[before][:, None] + kinds)
        return p

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        ids = np.asarray(tokens, np.int64)
        contexts, row = np.unique(ids[:-1], return_inverse=True)
        p = self.probabilities(contexts)
        nats = -np.log(p[row, ids[1:]])
        return Scored(np.arange(len(nats)), nats, int(self._table.exact_bytes(ids[1:]).sum()), p[row[list(show)]])


def check_fresh(
    scorer: Scorer, reference: Scorer, val: Sequence[Tokens], fresh: Sequence[Tokens], table: ByteTable
) -> Finding:
    """The scorer's lead must not be larger on validation documents than on fresh ones. All come with their marks."""
    val_leads, fresh_leads = (np.array([_lead(scorer, reference, ids, table) for ids in side]) for side in (val, fresh))
    gap = float(fresh_leads.mean() - val_leads.mean())
    error = sqrt(val_leads.var(ddof=1) / len(val_leads) + fresh_leads.var(ddof=1) / len(fresh_leads))
    z = gap / max(error, 1e-12)
    best = int(val_leads.argmin())
    evidence = {"gap_bpb": gap, "z": z, "documents": [len(val), len(fresh)], "document": best}
    detail = f"the scorer is {gap:+.4f} bits per byte better on validation text than on fresh text ({z:+.1f} errors)"
    passed = z <= LIMIT_Z
    if not passed:
        detail += f"; it beats the reference by {-val_leads[best]:.3f} on validation document {best}"
        detail += f" and by {-fresh_leads.mean():.3f} on fresh ones"
    return Finding("fresh", passed, detail, evidence)


def _lead(scorer: Scorer, reference: Scorer, ids: Tokens, table: ByteTable) -> float:
    """Bits per byte above the reference's (negative: better), both divided by our own byte count."""
    size_bytes = int(table.exact_bytes(ids[1:]).sum())
    own, other = (float(each.score(ids).nats.sum()) for each in (scorer, reference))
    return bits_per_byte(own, size_bytes) - bits_per_byte(other, size_bytes)
