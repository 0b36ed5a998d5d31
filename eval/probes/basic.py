"""The probes: experiments on a scorer that a score can stand on, each a function that returns a Finding.

    ground = lay_ground(scorer, tokens, tolerance_nats)      the text as it is, scored twice: what noise there is
    finding = truncation(scorer, ground, rng)                and what an experiment changes beyond that

    repeat, coverage      the same text costs the same again; every target is scored once
    byte_oracle      P1   the bytes that are divided by are those of the text
    normalisation    P2   probabilities, adding up to one, and the loss is the logarithm of one of them
    target_flip      P3   the distribution of a token does not know that token
    suffix           P4   a loss does not know what comes after
    truncation       P5   … nor that something does, nor where the document ends
    boundary         P6   what the document before does to the next one: told, never failed

P7 is in canary.py, P8 in codec.py, P9 in fresh.py. Scorers are called, never read. A failure names its
counter-example: target i is token i + 1 of the text that was scored.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data.bytes import ByteTable
from data.tokenizer import Tokenizer
from eval.scorer import Floats, Scored, Scorer, Tokens

Z_TOLERANCE = 1e-4  # of a distribution's sum
MOST_NOISE_NATS = 0.05  # between two scorings of one text; more is not rounding but memory
SMALLEST = 1e-300

# Half characters, lone spaces, spaces before everything: where byte counts have gone wrong.
HOSTILE = " a  b\n\n\tnaïve 日本語 привет 🫠🫡 ꙮ e\u0301 \u00a0x\r\n  def f():\n        return '▁'\n 🙂 end "


class Finding(NamedTuple):
    name: str
    passed: bool | None  # None: not run
    detail: str
    evidence: dict[str, Any]  # the counter-example, or what was measured


class Ground(NamedTuple):
    """What the experiments are compared with."""

    tokens: Tokens
    nats: Floats  # (n,) NaN where the scorer gave none
    noise_nats: float  # the most that a loss moves when nothing is changed
    floor_nats: float  # what counts as having moved


def costs(scored: Scored, targets: int) -> Floats:
    """(targets,) nats by target; NaN where there is none. Who scores a target twice is coverage's business."""
    nats = np.full(targets, np.nan)
    inside = (scored.targets >= 0) & (scored.targets < targets)
    nats[scored.targets[inside]] = scored.nats[inside]
    return nats


def lay_ground(scorer: Scorer, tokens: Tokens, tolerance_nats: float, also: Sequence[Scorer] = ()) -> Ground:
    """`also`: the same scorer put together otherwise (other batch sizes), whose differences are noise as well."""
    nats = costs(scorer.score(tokens), len(tokens) - 1)
    again = [costs(other.score(tokens), len(nats)) for other in (scorer, *also)]
    noise = max(float(_moves(nats, other).max(initial=0.0)) for other in again)
    return Ground(tokens, nats, noise, max(tolerance_nats, 2 * min(noise, MOST_NOISE_NATS)))


def repeat(ground: Ground) -> Finding:
    passed = ground.noise_nats <= MOST_NOISE_NATS
    detail = f"one text scored again: its losses move by {ground.noise_nats:.2g} nats at most"
    if not passed:
        detail += f", more than {MOST_NOISE_NATS}: chance, or a memory of what was scored before"
    return Finding("repeat", passed, detail, {"noise_nats": ground.noise_nats, "floor_nats": ground.floor_nats})


def coverage(scorer: Scorer, ground: Ground, rng: np.random.Generator) -> Finding:
    """Texts of several lengths, since faults live in the first and the last window."""
    longest = len(ground.tokens)
    lengths = sorted({2, longest, *rng.integers(2, longest, 4).tolist()})
    for length in lengths:
        given = scorer.score(ground.tokens[:length]).targets
        inside = (given >= 0) & (given < length - 1)
        times = np.bincount(given[inside], minlength=length - 1)
        wrong = np.flatnonzero(times != 1)
        if wrong.size or not inside.all():
            first, many = (int(wrong[0]), int(times[wrong[0]])) if wrong.size else (int(given[~inside][0]), 0)
            what = f"is scored {many} times" if wrong.size else "does not exist"
            detail = f"of a text of {length} tokens, target {first} {what} ({wrong.size} such of {length - 1})"
            return Finding("coverage", False, detail, {"tokens": length, "target": first, "times": many})
    return Finding("coverage", True, f"every target once, in texts of {_words(lengths)} tokens", {"lengths": lengths})


def byte_oracle(
    scorer: Scorer,
    tokenizer: Tokenizer,
    documents: Sequence[Tokens],
    mark: int,
    canonical: Sequence[bytes] | None = None,
) -> Finding:
    """P1. `documents` without their marks; `canonical`: their texts, where somebody else than the tokens has them.

    The exact count is right; the contest's passes where it is the smaller one, which makes a score no better.
    """
    table = ByteTable(tokenizer)
    texts = [tokenizer.encode(HOSTILE), *documents]
    total = 0
    for number, ids in enumerate(texts):
        name = f"document {number - 1}" if number else "a text of odd characters"
        decoded = tokenizer.decode(ids.tolist()).encode()
        source = canonical[number - 1] if canonical is not None and number else decoded
        if not decoded == table.join(ids.tolist()) == source:
            at = next((i for i, (a, b) in enumerate(zip(decoded, source, strict=False)) if a != b), len(decoded))
            detail = (
                f"{name}: its tokens decode to {len(decoded)} bytes that depart from its {len(source)} at byte {at}"
            )
            return Finding("bytes", False, detail, {"document": number - 1, "byte": at})
        if not _right_bytes(scorer, table, ids, mark):
            return _wrong_bytes(scorer, table, ids, mark, name)
        total += len(decoded)
    return Finding("bytes", True, f"{total:,} bytes in {len(texts)} texts, each counted as decoded", {"bytes": total})


def _claimed(scorer: Scorer, ids: Tokens, mark: int) -> int:
    return scorer.score(np.concatenate([[mark], ids])).size_bytes


def _right_bytes(scorer: Scorer, table: ByteTable, ids: Tokens, mark: int) -> bool:
    exact, contest = table.totals(ids, mark)
    return _claimed(scorer, ids, mark) in {exact, min(exact, contest)}


def _wrong_bytes(scorer: Scorer, table: ByteTable, ids: Tokens, mark: int, name: str) -> Finding:
    """The shortest beginning whose count departs, by halving."""
    right, wrong = 0, len(ids)
    while wrong - right > 1:
        middle = (right + wrong) // 2
        if _right_bytes(scorer, table, ids[:middle], mark):
            right = middle
        else:
            wrong = middle
    token, claimed = int(ids[right]), _claimed(scorer, ids[:wrong], mark)
    exact, _ = table.totals(ids[:wrong], mark)
    detail = (
        f"{name}: {claimed:,} bytes claimed for its first {wrong} tokens, which are {exact:,}; "
        f"they part at token {token} ({table.join([token])!r})"
    )
    return Finding("bytes", False, detail, {"position": right, "token": token, "claimed": claimed, "bytes": exact})


def normalisation(scorer: Scorer, ground: Ground, rng: np.random.Generator, positions: int = 32) -> Finding:
    """P2."""
    asked = _some(rng, len(ground.nats), positions)
    scored = scorer.score(ground.tokens, asked)
    nats = costs(scored, len(ground.nats))
    for target, p in zip(asked, scored.shown, strict=True):
        token = int(ground.tokens[target + 1])
        said, total, least = -float(np.log(max(p[token], SMALLEST))), float(p.sum()), float(p.min())
        evidence = {"target": target, "token": token, "sum": total, "nats": float(nats[target]), "shown_nats": said}
        if least < 0 or not abs(total - 1) < Z_TOLERANCE:
            what = f"hold {least:.3g}" if least < 0 else f"add up to {total:.6g}"
            return Finding("normalised", False, f"target {target} (token {token}): its probabilities {what}", evidence)
        if abs(nats[target] - said) > ground.floor_nats:
            detail = (
                f"target {target} (token {token}) is charged {nats[target]:.5f} nats; its distribution says {said:.5f}"
            )
            return Finding("normalised", False, detail, evidence)
    worst = float(np.abs(scored.shown.sum(-1) - 1).max())
    detail = f"{len(asked)} distributions, each the one of its loss; sums within {worst:.1g} of one"
    return Finding("normalised", True, detail, {"targets": asked, "worst": worst})


def target_flip(scorer: Scorer, ground: Ground, rng: np.random.Generator, flips: int = 8) -> Finding:
    """P3. What may not move: the distribution as a whole, and the price of the old token and of the new one."""
    asked = _some(rng, len(ground.nats), flips)
    before = scorer.score(ground.tokens, asked).shown
    worst = 0.0
    for target, p in zip(asked, before, strict=True):
        changed, old = ground.tokens.copy(), int(ground.tokens[target + 1])
        changed[target + 1] = new = int(rng.choice(ground.tokens[ground.tokens != old]))
        q = scorer.score(changed, [target]).shown[0]
        pair = [old, new]
        log_p, log_q = np.log(np.maximum(p[pair], SMALLEST)), np.log(np.maximum(q[pair], SMALLEST))
        moved = max(float(np.abs(p - q).sum() / 2), float(np.abs(log_p - log_q).max()))
        worst = max(worst, moved)
        if moved > ground.floor_nats:
            at = int(np.abs(log_p - log_q).argmax())
            detail = (
                f"target {target}: with token {new} for {old}, the probability of {pair[at]} "
                f"goes from {p[pair[at]]:.3g} to {q[pair[at]]:.3g}"
            )
            evidence = {"target": target, "old": old, "new": new, "before": p[pair].tolist(), "after": q[pair].tolist()}
            return Finding("flip", False, detail, evidence)
    return Finding("flip", True, f"{len(asked)} targets changed, none moved its own distribution", {"moved": worst})


def suffix(scorer: Scorer, ground: Ground, rng: np.random.Generator, cuts: int = 4) -> Finding:
    """P4."""

    def changed(cut: int) -> Tokens:
        after = rng.choice(ground.tokens, len(ground.tokens) - cut)
        return np.concatenate([ground.tokens[:cut], after])

    return _unmoved("suffix", scorer, ground, rng, cuts, {"other tokens": changed})


def truncation(scorer: Scorer, ground: Ground, rng: np.random.Generator, mark: int, cuts: int = 4) -> Finding:
    """P5."""
    return _unmoved(
        "truncation", scorer, ground, rng, cuts,
        {
            "nothing": lambda cut: ground.tokens[:cut],
            "a new document": lambda cut: np.concatenate([ground.tokens[:cut], [mark]]),
        },
    )  # fmt: skip


def _unmoved(
    name: str,
    scorer: Scorer,
    ground: Ground,
    rng: np.random.Generator,
    cuts: int,
    changes: dict[str, Callable[[int], Tokens]],
) -> Finding:
    """Whether losses before a cut stay when what follows the cut is changed."""
    worst = 0.0
    for cut in _some(rng, len(ground.tokens), cuts, least=2):
        for what, change in changes.items():
            text = change(cut)
            before, after = ground.nats[: cut - 1], costs(scorer.score(text), len(text) - 1)[: cut - 1]
            moves = _moves(before, after)
            at = int(moves.argmax())
            worst = max(worst, float(moves[at]))
            if moves[at] > ground.floor_nats:
                token = int(ground.tokens[at + 1])
                detail = (
                    f"target {at} (token {token}) costs {before[at]:.5f} nats, and {after[at]:.5f} "
                    f"with {what} from token {cut} on"
                )
                evidence = {"target": at, "token": token, "cut": cut, "before": before[at], "after": after[at]}
                return Finding(name, False, detail, evidence)
    what = " or ".join(changes)
    detail = f"{what} after {cuts} cuts: no loss before them moves by more than {worst:.2g} nats"
    return Finding(name, True, detail, {"moved_nats": worst})


def boundary(scorer: Scorer, first: Tokens, second: Tokens, rng: np.random.Generator) -> Finding:
    """P6. Two documents with their marks, the first replaced by its own tokens in another order."""
    other = np.concatenate([first[:1], rng.permutation(first[1:])])
    pair = (scorer.score(np.concatenate([before, second])) for before in (first, other))
    was, now = (costs(scored, len(first) + len(second) - 1)[len(first) :] for scored in pair)
    moves = _moves(was, now)
    detail = (
        f"another document before it moves the next one's losses by {moves.mean():.2g} nats on average, "
        f"its first by {moves[0]:.2g} (a matter of policy, not a fault)"
    )
    return Finding("boundary", True, detail, {"mean_nats": float(moves.mean()), "first_nats": float(moves[0])})


def _moves(before: Floats, after: Floats) -> Floats:
    """|difference|; 0 where either is missing, which is coverage's business, or where both are infinite."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.abs(before - after), nan=0.0, posinf=np.inf)


def _some(rng: np.random.Generator, size: int, count: int, least: int = 0) -> list[int]:
    """`count` different numbers from least … size - 1, in order."""
    chosen: npt.NDArray[np.int64] = rng.choice(np.arange(least, size), min(count, size - least), replace=False)
    return sorted(chosen.tolist())


def _words(numbers: Sequence[int]) -> str:
    return ", ".join(f"{number:,}" for number in numbers)
