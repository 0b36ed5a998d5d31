"""P7, the coin canary: a text with secret coins in it, and what a scorer may at most have known of them.

At k places of a text made of real phrases a fair coin chooses between two tokens, A and B, that the scorer itself finds
about equally likely there. A real continuation of the one chosen follows, then itself a few times more, and the whole
text comes twice: whoever looks ahead, scores twice or fits the text before scoring it has every chance to learn the
coins, and an honest scorer learns nothing of them in time. Only those of the first time count.

Let p be what the scorer charges for the token thrown, s what it shows for it, s' for the other one, Z the sum of all
that it shows, and v = s / (s + s') the share of the one thrown. At each coin we bet that the scorer knows it:

    factor_i = max(1, Z) p / s * 2 v^t / (v^t + (1 - v)^t)          G = log2 of the mean over t of Π factor_i

For every causal, normalised scorer that charges what it shows, whatever it is made of, P(G ≥ b) ≤ 2^-b. Proof: p = s
and Z = 1 leave the second term, whose v is known before the coin falls and is turned into 1 - v by the other side: its
mean over a fair coin is 1, so each product, and their mean over t, is a non-negative martingale that starts at 1. By
Markov's inequality (for any stopping, Ville's) it reaches 2^b with a probability of at most 2^-b.

At t = 1 a factor is at least 2 p, so G is below k - Σ bits(thrown) by no more than log2 of the number of t's. That
plain statistic is weaker: what A and B leave to other tokens, and their own unlikeness, hides a leak. Smaller t's bet
less, on a scorer that knows a little; t = 0 bets nothing on the coins and leaves what is charged against what is shown.
"""

from math import log
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eval.probes.basic import Finding, costs
from eval.scorer import Floats, Scorer, Tokens

BEFORE, AFTER, ECHO = 3, 2, 3  # real tokens before a coin, the chosen token's real continuation, itself again
GAP = BEFORE + 1 + AFTER + ECHO
CANDIDATES = 32  # a pair is sought among so many likely tokens
FAIR = 0.7  # B is as likely as A, to this ratio
BETS = np.array([0.0, 0.125, 0.25, 0.5, 1.0])  # the t's
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
    """(bets, k) log2 of every factor. A coin that is not scored gains nothing."""
    text, every = canary.text(coins), np.arange(len(coins))
    scored = scorer.score(text, canary.targets.tolist())
    log_p = -costs(scored, len(text) - 1)[canary.targets]
    log_shown = np.log(np.maximum(scored.shown[every[:, None], canary.pairs], 1e-300))  # (k, 2)
    thrown, other = log_shown[every, coins], log_shown[every, 1 - coins]
    over = log_p - thrown + np.log(np.maximum(scored.shown.sum(-1), 1.0))
    gains: Floats = 1 + np.nan_to_num(over - np.logaddexp(0, BETS[:, None] * (other - thrown)), nan=-log(2)) / log(2)
    return gains


def total_bits(gains: Floats) -> float:
    """G."""
    return float(np.logaddexp2.reduce(gains.sum(-1)) - np.log2(len(gains)))


def coin_canary(
    scorer: Scorer, source: Tokens, mark: int, rng: np.random.Generator, secret: np.random.Generator, coins: int = 512
) -> Finding:
    """`secret` throws the coins: seeded from the operating system, or whoever is probed could throw them too."""
    canary = lay_out(scorer, source, mark, coins, rng)
    thrown = secret.integers(0, 2, coins)
    by_bet = gain_bits(scorer, canary, thrown)
    total, gains = total_bits(by_bet), by_bet[by_bet.sum(-1).argmax()]
    best = int(gains.argmax())
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
