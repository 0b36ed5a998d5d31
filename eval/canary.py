"""P7, the coin canary: a text with secret coins in it, and what a scorer may at most have known of them.

At k places of a text made of real phrases a fair coin chooses between two tokens, A and B, that the scorer itself finds
about equally likely there. A real continuation of the one chosen follows, then itself a few times more, and the whole
text comes twice: whoever looks ahead, scores twice or fits the text before scoring it has every chance to learn the
coins, and an honest scorer learns nothing of them in time. Only those of the first time count. A scorer for which
p(A) + p(B) = m can but claim m/2 for the one thrown, on the geometric average. Its gain at k coins is

    G = Σ log2( 2 p(chosen) / m )        m = min(1, (p(A) + p(B)) / max(1, Z)), from the Z-sum distribution it shows

and for every causal, normalised scorer that shows what it uses, whatever it is made of, P(G ≥ b) ≤ 2^-b. Proof: given
all that came before coin i, p(A), p(B) and m ≥ p(A) + p(B) are fixed and the coin is fair, so the mean of
2 p(chosen) / m is (p(A) + p(B)) / m ≤ 1, and 2^G is a non-negative supermartingale that starts at 1. By Markov's
inequality (for any stopping, Ville's) it reaches 2^b with a probability of at most 2^-b. Since m ≤ 1, G is never below
the plain statistic k - Σ bits(chosen); it is larger by what an honest scorer spends on other tokens than A and B,
which would hide a leak.

What the scorer shows serves only to lower m. One that shows more than it uses gains less here, and is caught where the
shown and the charged are compared (P2) and where the target is flipped (P3).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eval.probes import Finding, costs
from eval.scorer import Floats, Scorer, Tokens

BEFORE, AFTER, ECHO = 3, 2, 3  # real tokens before a coin, the chosen token's real continuation, itself again
GAP = BEFORE + 1 + AFTER + ECHO
CANDIDATES = 32  # a pair is sought among so many likely tokens
FAIR = 0.7  # B is as likely as A, to this ratio
LIMIT_BITS = 30.0  # one honest scorer in 10^9 gains as much

Pairs = npt.NDArray[np.int64]


class Canary(NamedTuple):
    """All but the coins."""

    body: Tokens  # a mark, then k times BEFORE tokens, a coin's place, AFTER + ECHO tokens
    pairs: Pairs  # (k, 2)
    follow: Pairs  # (k, 2, AFTER) what comes after either

    @property
    def targets(self) -> Pairs:
        return np.arange(len(self.pairs)) * GAP + BEFORE

    def text(self, coins: Pairs) -> Tokens:
        """(k,) of 0 and 1 -> the text, twice."""
        body, every, places = self.body.copy(), np.arange(len(coins)), self.targets + 1
        body[places] = self.pairs[every, coins]
        for step in range(AFTER):
            body[places + 1 + step] = self.follow[every, coins, step]
        for step in range(ECHO):
            body[places + 1 + AFTER + step] = body[places]
        return np.concatenate([body, body])


def lay_out(scorer: Scorer, source: Tokens, mark: int, coins: int, rng: np.random.Generator) -> Canary:
    """`source`: real text of the scorer's domain, from which all phrases are taken."""
    needed = coins * GAP
    start = int(rng.integers(0, max(1, len(source) - needed)))
    carrier = np.resize(source[start : start + needed], needed).astype(np.int64)
    body = np.concatenate([[mark], np.where(carrier == mark, source[source != mark][0], carrier)])
    shown = scorer.score(body, (np.arange(coins) * GAP + BEFORE).tolist()).shown
    known = np.unique(source[:-AFTER])
    pairs = _pairs(shown, known[known != mark])
    order = np.argsort(source[:-AFTER], kind="stable")  # where each token occurs
    first, last = (np.searchsorted(source[order], pairs.ravel(), side=side) for side in ("left", "right"))
    at = order[rng.integers(first, last)]
    follow = np.stack([source[at + 1 + step] for step in range(AFTER)], -1).reshape(coins, 2, AFTER)
    return Canary(body, pairs, follow.astype(np.int64))


def _pairs(shown: Floats, known: Pairs) -> Pairs:
    """For each place two likely tokens of nearly one probability, each used once until there are no more."""
    pairs, free = [], np.ones(shown.shape[1], bool)
    for p in shown[:, known]:
        if free[known].sum() < CANDIDATES:
            free[:] = True
        likely = [i for i in np.argsort(-p, kind="stable") if free[known[i]]][:CANDIDATES]
        ratio = p[likely[1:]] / np.maximum(p[likely[:-1]], 1e-300)
        best = int(np.argmax(ratio >= FAIR)) if (ratio >= FAIR).any() else int(ratio.argmax())
        pair = known[[likely[best], likely[best + 1]]]
        free[pair] = False
        pairs.append(pair)
    return np.stack(pairs)


def gain_bits(scorer: Scorer, canary: Canary, coins: Pairs) -> Floats:
    """(k,) log2(2 p(chosen) / m) of every coin; their sum is G. A coin that is not scored gains nothing."""
    text, every = canary.text(coins), np.arange(len(coins))
    scored = scorer.score(text, canary.targets.tolist())
    nats = costs(scored, len(text) - 1)[canary.targets]
    total = np.maximum(scored.shown.sum(-1), 1.0)
    mass = np.clip(scored.shown[every[:, None], canary.pairs].sum(-1) / total, 1e-300, 1.0)
    gains: Floats = np.nan_to_num(1 - nats / np.log(2) - np.log2(mass), nan=0.0)
    return gains


def coin_canary(
    scorer: Scorer, source: Tokens, mark: int, rng: np.random.Generator, secret: np.random.Generator, coins: int = 256
) -> Finding:
    """`secret` throws the coins: seeded from the operating system, or whoever is probed could throw them too."""
    canary = lay_out(scorer, source, mark, coins, rng)
    thrown = secret.integers(0, 2, coins)
    gains = gain_bits(scorer, canary, thrown)
    total, best = float(gains.sum()), int(gains.argmax())
    evidence = {"bits": total, "coins": coins, "target": int(canary.targets[best]), "pair": canary.pairs[best].tolist()}
    if total < LIMIT_BITS:
        return Finding(
            "coins", True, f"{total:+.1f} bits against {coins} secret coins; {LIMIT_BITS:g} would fail", evidence
        )
    a, b = canary.pairs[best]
    detail = (
        f"{total:+.1f} bits against {coins} secret coins, which chance gives once in 2^{total:.0f}; at target "
        f"{canary.targets[best]} of its text {canary.pairs[best, thrown[best]]}, thrown from {a} and {b}, "
        f"gained {gains[best]:.2f} bits"
    )
    return Finding("coins", False, detail, evidence)
