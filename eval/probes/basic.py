"""The basic probes: each runs one experiment on a scorer and returns a Finding.

    baseline = measure_baseline(scorer, tokens, tolerance_nats)     the unchanged text, scored twice: the noise level
    finding = check_truncation(scorer, baseline, rng, mark)         whether a change moves losses by more than that

`mark` is the token that begins a document. A probe puts it where it is wanted: a sample may hold no document's end.

They call scorers and never read their source. A failed finding names its counter-example; target i is token i + 1 of
the scored text. The other probes: canary.py (coins), codec.py (codec), fresh.py (fresh).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data.bytes import ByteTable
from data.tokenizer import Tokenizer
from eval.scorer import Floats, Scored, Scorer, Tokens

SUM_TOLERANCE = 1e-4  # by which the sum of a distribution may differ from 1
CUTS = 4
MOST_NOISE_NATS = 0.05  # between two scorings of one text; more is not rounding but state
SMALLEST = 1e-300

# Partial characters, lone spaces, leading spaces: the places where byte counts have been wrong.
HOSTILE = " a  b\n\n\tnaïve 日本語 привет 🫠🫡 ꙮ e\u0301 \u00a0x\r\n  def f():\n        return '▁'\n 🙂 end "


@dataclass(frozen=True)
class Finding:
    name: str
    passed: bool | None  # None: not run
    detail: str
    evidence: dict[str, Any]  # the counter-example, or what was measured
    seconds: float = 0.0


class Baseline(NamedTuple):
    """The scores of the unchanged text, which every experiment is compared with."""

    tokens: Tokens
    nats: Floats  # (n,) NaN where the scorer returned none
    noise_nats: float  # the largest change of a loss when nothing changes
    floor_nats: float  # a larger change counts as one


def nats_by_target(scored: Scored, targets: int) -> Floats:
    """(targets,) NaN where the scorer returned no loss. Targets scored twice are left to check_coverage."""
    nats = np.full(targets, np.nan)
    inside = (scored.targets >= 0) & (scored.targets < targets)
    nats[scored.targets[inside]] = scored.nats[inside]
    return nats


def measure_baseline(scorer: Scorer, tokens: Tokens, tolerance_nats: float) -> Baseline:
    nats, again = (nats_by_target(scorer.score(tokens), len(tokens) - 1) for _ in range(2))
    noise = float(_changes(nats, again).max(initial=0.0))
    return Baseline(tokens, nats, noise, max(tolerance_nats, 2 * min(noise, MOST_NOISE_NATS)))


def check_repeat(baseline: Baseline) -> Finding:
    """The same text must cost the same again. A larger change than rounding means randomness or state."""
    passed = baseline.noise_nats <= MOST_NOISE_NATS
    detail = f"the same text scored again: losses change by at most {baseline.noise_nats:.2g} nats"
    if not passed:
        detail += f", more than {MOST_NOISE_NATS}: the scorer is random, or remembers what it scored before"
    return Finding("repeat", passed, detail, {"noise_nats": baseline.noise_nats, "floor_nats": baseline.floor_nats})


def check_coverage(scorer: Scorer, baseline: Baseline, rng: np.random.Generator, mark: int) -> Finding:
    """Every target must be scored exactly once, at several text lengths: errors occur in the first and last window.

    A document ends in the middle of each text, and one at its end: these targets are not free either.
    """
    longest = len(baseline.tokens)
    lengths = sorted({2, longest, *rng.integers(2, longest, 4).tolist()})
    for length in lengths:
        existing = range(length - 1)
        text = baseline.tokens[:length].copy()
        text[[length // 2, -1]] = mark
        times = Counter(scorer.score(text).targets.tolist())
        wrong = [target for target in sorted({*existing, *times}) if times[target] != 1 or target not in existing]
        if wrong:
            target = wrong[0]
            place = " (a document's end)" if target in existing and text[target + 1] == mark else ""
            detail = f"in a text of {length} tokens, target {target}{place} is scored {times[target]} times"
            detail += f", the first of {len(wrong)} wrong ones" if target in existing else " and does not exist"
            return Finding("coverage", False, detail, {"tokens": length, "target": target, "times": times[target]})
    words = ", ".join(f"{length:,}" for length in lengths)
    return Finding("coverage", True, f"every target is scored once, in texts of {words} tokens", {"lengths": lengths})


def check_bytes(scorer: Scorer, tokenizer: Tokenizer, documents: Sequence[Tokens], mark: int) -> Finding:
    """The byte count that the score divides by must be the text's. `documents`: their tokens without the marks.

    The exact count is right. The contest's count passes where it is smaller, because then it makes no score better.
    """
    table = ByteTable(tokenizer)

    def count(ids: Tokens) -> tuple[int, int, bool]:
        """The scorer's count, the exact one, and whether the scorer's is right."""
        claimed = scorer.score(np.concatenate([[mark], ids])).size_bytes
        exact, contest = table.totals(ids, mark)
        return claimed, exact, claimed in (exact, min(exact, contest))

    texts = [tokenizer.encode(HOSTILE), *documents]
    total = 0
    for number, ids in enumerate(texts):
        name = f"document {number - 1}" if number else "a text of unusual characters"
        data = table.join(ids.tolist())
        text = data.decode(errors="ignore").rstrip("\ufffd")  # a document may be cut within a character
        if tokenizer.decode(ids.tolist()).rstrip("\ufffd") != text:
            detail = f"{name}: its tokens do not decode to the {len(data)} bytes of the byte table"
            return Finding("bytes", False, detail, {"document": number - 1})
        if not count(ids)[2]:
            end = next(end for end in range(1, len(ids) + 1) if not count(ids[:end])[2])
            token = int(ids[end - 1])
            claimed, exact, _ = count(ids[:end])
            detail = (
                f"{name}: the scorer counts {claimed:,} bytes in its first {end} tokens, which have {exact:,}; "
                f"the first wrong count is with token {token} ({table.join([token])!r})"
            )
            evidence = {"position": end - 1, "token": token, "claimed": claimed, "bytes": exact}
            return Finding("bytes", False, detail, evidence)
        total += len(data)
    detail = f"{total:,} bytes in {len(texts)} texts, each counted as the decoded text has them"
    return Finding("bytes", True, detail, {"bytes": total})


def check_normalisation(
    scorer: Scorer, baseline: Baseline, rng: np.random.Generator, mark: int, positions: int = 32
) -> Finding:
    """Probabilities must not be negative, must add up to 1, and the loss must be -log of the target's.

    Every eighth of the targets is made a document's end.
    """
    targets = _choose(rng, len(baseline.nats), positions)
    text = baseline.tokens.copy()
    text[np.array(targets[::8]) + 1] = mark
    scored = scorer.score(text, targets)
    nats = nats_by_target(scored, len(baseline.nats))
    for target, p in zip(targets, scored.shown, strict=True):
        token = int(text[target + 1])
        shown_nats = -float(np.log(max(p[token], SMALLEST)))
        problem = ""
        if p.min() < 0:
            problem = f"has a probability of {p.min():.3g}"
        elif not abs(p.sum() - 1) < SUM_TOLERANCE:
            problem = f"has probabilities that add up to {p.sum():.6g}"
        elif abs(nats[target] - shown_nats) > baseline.floor_nats:
            problem = f"costs {nats[target]:.5f} nats, and {shown_nats:.5f} by its distribution"
        if problem:
            sums = {"sum": float(p.sum()), "nats": float(nats[target]), "shown_nats": shown_nats}
            evidence = {"target": target, "token": token, **sums}
            return Finding("normalised", False, f"target {target} (token {token}) {problem}", evidence)
    worst = float(np.abs(scored.shown.sum(-1) - 1).max())
    detail = f"{len(targets)} distributions, each that of its loss; their sums are within {worst:.1g} of 1"
    return Finding("normalised", True, detail, {"targets": targets, "worst": worst})


def check_flip(scorer: Scorer, baseline: Baseline, rng: np.random.Generator, mark: int, flips: int = 8) -> Finding:
    """Changing a target must not move its own distribution, nor the probability of the old or the new token in it.

    Every fourth of the targets is made a document's end.
    """
    targets = _choose(rng, len(baseline.nats), flips)
    before = scorer.score(baseline.tokens, targets).shown
    worst = 0.0
    for number, (target, p) in enumerate(zip(targets, before, strict=True)):
        old = int(baseline.tokens[target + 1])
        new = int(rng.choice(baseline.tokens[baseline.tokens != old])) if number % 4 else mark
        changed = baseline.tokens.copy()
        changed[target + 1] = new
        q = scorer.score(changed, [target]).shown[0]
        pair = [old, new]
        log_changes = np.abs(np.log(np.maximum(p[pair], SMALLEST) / np.maximum(q[pair], SMALLEST)))
        change = max(float(np.abs(p - q).sum() / 2), float(log_changes.max()))
        worst = max(worst, change)
        if change > baseline.floor_nats:
            moved = pair[int(log_changes.argmax())]
            detail = (
                f"target {target}: with token {new} for {old}, the probability of {moved} "
                f"changes from {p[moved]:.3g} to {q[moved]:.3g}"
            )
            evidence = {"target": target, "old": old, "new": new, "before": p[pair].tolist(), "after": q[pair].tolist()}
            return Finding("flip", False, detail, evidence)
    detail = f"{len(targets)} targets changed; none moved its own distribution"
    return Finding("flip", True, detail, {"largest_change": worst})


def check_suffix(scorer: Scorer, baseline: Baseline, rng: np.random.Generator) -> Finding:
    """Replacing the tokens after a cut must not move a loss before it."""

    def replace_after(cut: int) -> Tokens:
        after = rng.choice(baseline.tokens, len(baseline.tokens) - cut)
        return np.concatenate([baseline.tokens[:cut], after])

    return _check_losses_before_cuts("suffix", scorer, baseline, rng, {"other tokens": replace_after})


def check_truncation(scorer: Scorer, baseline: Baseline, rng: np.random.Generator, mark: int) -> Finding:
    """Ending the text, or only its document, at a cut must not move a loss before it."""
    changes: dict[str, Callable[[int], Tokens]] = {
        "nothing": lambda cut: baseline.tokens[:cut],
        "a new document": lambda cut: np.append(baseline.tokens[:cut], mark),
    }
    return _check_losses_before_cuts("truncation", scorer, baseline, rng, changes)


def _check_losses_before_cuts(
    name: str, scorer: Scorer, baseline: Baseline, rng: np.random.Generator, changes: dict[str, Callable[[int], Tokens]]
) -> Finding:
    worst = 0.0
    for cut in _choose(rng, len(baseline.tokens), CUTS, least=2):
        for what, change in changes.items():
            text = change(cut)
            before = baseline.nats[: cut - 1]
            after = nats_by_target(scorer.score(text), len(text) - 1)[: cut - 1]
            moved = _changes(before, after)
            at = int(moved.argmax())
            worst = max(worst, float(moved[at]))
            if moved[at] > baseline.floor_nats:
                token = int(baseline.tokens[at + 1])
                detail = (
                    f"target {at} (token {token}) costs {before[at]:.5f} nats, and {after[at]:.5f} "
                    f"with {what} from token {cut} on"
                )
                evidence = {"target": at, "token": token, "cut": cut, "before": before[at], "after": after[at]}
                return Finding(name, False, detail, evidence)
    detail = f"{' or '.join(changes)} after {CUTS} cuts: no loss before them changes by more than {worst:.2g} nats"
    return Finding(name, True, detail, {"changed_nats": worst})


def measure_boundary(scorer: Scorer, first: Tokens, second: Tokens, rng: np.random.Generator) -> Finding:
    """Measure what one document does to the next. It never fails: whether that is allowed is a matter of policy.

    Two documents with their marks are scored, once with the tokens of the first one shuffled.
    """
    shuffled = np.concatenate([first[:1], rng.permutation(first[1:])])
    before, after = (
        nats_by_target(scorer.score(np.concatenate([text, second])), len(first) + len(second) - 1)[len(first) :]
        for text in (first, shuffled)
    )
    moved = _changes(before, after)
    detail = (
        f"another document before it changes a document's losses by {moved.mean():.2g} nats on average, "
        f"its first loss by {moved[0]:.2g} (a matter of policy, not a fault)"
    )
    return Finding("boundary", True, detail, {"mean_nats": float(moved.mean()), "first_nats": float(moved[0])})


def _changes(before: Floats, after: Floats) -> Floats:
    """|difference|; 0 where either is missing (check_coverage finds that) or both are infinite."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.abs(before - after), nan=0.0, posinf=np.inf)


def _choose(rng: np.random.Generator, size: int, count: int, least: int = 0) -> list[int]:
    """`count` different numbers from least … size - 1, in order."""
    chosen: npt.NDArray[np.int64] = rng.choice(np.arange(least, size), min(count, size - least), replace=False)
    return sorted(chosen.tolist())
