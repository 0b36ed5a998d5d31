"""The coin canary: a text that contains secret coin flips, and a bound on what an honest scorer can know of them.

At k places of a text made of real phrases a fair coin chooses between two tokens, A and B, that the scorer itself finds
about equally likely there. A real continuation of the chosen token follows, then the token itself a few more times, and
the complete text comes twice: a scorer that looks ahead, scores twice, or fits the text before scoring it has every
opportunity to learn the coins; an honest scorer learns none of them in time. Only the first occurrences count.

Let p be the probability that the scorer charges for the chosen token, s the one that it shows for it, s' the one for
the other token, Z the sum of all that it shows, and v = s / (s + s'). At each coin we bet that the scorer knows it:

    factor_i = max(1, Z) p / s * 2 v^t / (v^t + (1 - v)^t)          G = log2 of the mean over t of Π factor_i

For every causal, normalised scorer that charges what it shows, however it works inside, P(G ≥ b) ≤ 2^-b. Proof: p = s
and Z = 1 leave the second term. Its v is fixed before the coin is flipped, and the other side of the coin turns it into
1 - v, so its mean over a fair coin is 1. Each product, and the mean of the products over t, is therefore a non-negative
martingale that starts at 1. By Markov's inequality (Ville's, for any stopping time) it reaches 2^b with a probability
of at most 2^-b.

At t = 1 a factor is at least 2 p, so G is at least k - Σ bits(chosen) less log2 of the number of t's. That simpler
statistic is weaker: the probability of all other tokens, and the difference between A and B, hide a leak. Smaller t's
bet less, for a scorer that knows a little; t = 0 bets nothing on the coins and compares only p with s.
"""

from math import log
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eval.probes.basic import SMALLEST, Finding, nats_by_target
from eval.scorer import Floats, Scorer, Tokens

BEFORE = 3  # real tokens before a coin
AFTER = 2  # tokens of the chosen token's real continuation
ECHO = 3  # repetitions of the chosen token after that
GAP = BEFORE + 1 + AFTER + ECHO
CANDIDATES = 32  # likely tokens among which a pair is sought
FAIR = 0.7  # B is at least this times as likely as A
BETS = np.array([0.0, 0.125, 0.25, 0.5, 1.0])  # the t's
LIMIT_BITS = 30.0  # one honest scorer in 10^9 gains as much

Pairs = npt.NDArray[np.int64]


class Canary(NamedTuple):
    """Everything but the coins."""

    body: Tokens  # a mark, then k times: BEFORE tokens, the place of a coin, AFTER + ECHO tokens
    pairs: Pairs  # (k, 2)
    follow: Pairs  # (k, 2, AFTER) what comes after either token

    @property
    def targets(self) -> Pairs:
        return np.arange(len(self.pairs)) * GAP + BEFORE

    def text(self, coins: Pairs) -> Tokens:
        """(k,) of 0 and 1 -> the text, twice."""
        body = self.body.copy()
        every = np.arange(len(coins))
        places = self.targets + 1
        body[places] = self.pairs[every, coins]
        for step in range(AFTER):
            body[places + 1 + step] = self.follow[every, coins, step]
        for step in range(ECHO):
            body[places + 1 + AFTER + step] = body[places]
        return np.concatenate([body, body])


def build_canary(scorer: Scorer, source: Tokens, mark: int, coins: int, rng: np.random.Generator) -> Canary:
    """`source`: real text of the scorer's domain, from which all phrases are taken."""
    needed = coins * GAP
    start = int(rng.integers(0, max(1, len(source) - needed)))
    carrier = np.resize(source[start : start + needed], needed).astype(np.int64)
    body = np.concatenate([[mark], np.where(carrier == mark, source[source != mark][0], carrier)])
    shown = scorer.score(body, (np.arange(coins) * GAP + BEFORE).tolist()).shown
    known = np.unique(source[:-AFTER])
    pairs = _choose_pairs(shown, known[known != mark])
    order = np.argsort(source[:-AFTER], kind="stable")  # where each token occurs
    first, last = (np.searchsorted(source[order], pairs.ravel(), side=side) for side in ("left", "right"))
    at = order[rng.integers(first, last)]
    follow = np.stack([source[at + 1 + step] for step in range(AFTER)], -1).reshape(coins, 2, AFTER)
    return Canary(body, pairs, follow.astype(np.int64))


def _choose_pairs(shown: Floats, known: Pairs) -> Pairs:
    """For each place, two likely tokens of about the same probability; tokens are reused only when none are left."""
    pairs = []
    free = np.ones(shown.shape[1], bool)
    for p in shown[:, known]:
        if free[known].sum() < CANDIDATES:
            free[:] = True
        likely = [i for i in np.argsort(-p, kind="stable") if free[known[i]]][:CANDIDATES]
        ratio = p[likely[1:]] / np.maximum(p[likely[:-1]], SMALLEST)
        is_fair = ratio >= FAIR
        best = int(is_fair.argmax()) if is_fair.any() else int(ratio.argmax())
        pair = known[[likely[best], likely[best + 1]]]
        free[pair] = False
        pairs.append(pair)
    return np.stack(pairs)


def gain_bits(scorer: Scorer, canary: Canary, coins: Pairs) -> Floats:
    """(bets, k) log2 of every factor. A coin that is not scored gains nothing."""
    text = canary.text(coins)
    every = np.arange(len(coins))
    scored = scorer.score(text, canary.targets.tolist())
    log_p = -nats_by_target(scored, len(text) - 1)[canary.targets]
    log_shown = np.log(np.maximum(scored.shown[every[:, None], canary.pairs], SMALLEST))  # (k, 2)
    chosen = log_shown[every, coins]
    other = log_shown[every, 1 - coins]
    overcharge = log_p - chosen + np.log(np.maximum(scored.shown.sum(-1), 1.0))
    log_factors = overcharge - np.logaddexp(0, BETS[:, None] * (other - chosen))  # less the log(2) of each
    gains: Floats = 1 + np.nan_to_num(log_factors, nan=-log(2)) / log(2)
    return gains


def total_bits(gains: Floats) -> float:
    """G: log2 of the mean over the bets of the product of the factors."""
    return float(np.logaddexp2.reduce(gains.sum(-1)) - np.log2(len(gains)))


def check_coins(
    scorer: Scorer, source: Tokens, mark: int, rng: np.random.Generator, secret: np.random.Generator, coins: int = 512
) -> Finding:
    """The scorer must not gain LIMIT_BITS on the coins.

    `secret` flips them. It is seeded by the operating system; from a known seed a scorer could flip them as well.
    """
    canary = build_canary(scorer, source, mark, coins, rng)
    flipped = secret.integers(0, 2, coins)
    gains_by_bet = gain_bits(scorer, canary, flipped)
    total = total_bits(gains_by_bet)
    gains = gains_by_bet[gains_by_bet.sum(-1).argmax()]
    best = int(gains.argmax())
    target = int(canary.targets[best])
    pair = canary.pairs[best].tolist()
    detail = f"{total:+.1f} bits gained on {coins} secret coins; the limit is {LIMIT_BITS:g}"
    if total >= LIMIT_BITS:
        detail += (
            f", which is reached by chance once in 2^{LIMIT_BITS:g}; at target {target} of its text "
            f"{pair[flipped[best]]}, chosen from {pair[0]} and {pair[1]}, gained {gains[best]:.2f} bits"
        )
    evidence = {"bits": total, "coins": coins, "target": target, "pair": pair}
    return Finding("coins", total < LIMIT_BITS, detail, evidence)
