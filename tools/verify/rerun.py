"""--rerun: the record's own single file scores its artifact and trains again, boxed (measured_box), by our clock.

The file is alone with its artifact when it scores, and alone when it trains, so it cannot hand in what was shipped; nor
learn the validation text, which lies elsewhere: it is given a dataset that has other text in its place.
Its own word counts only for the score that is compared with ours; what it trains is scored by our scorer.

A time budget means fewer steps on a slower machine, so a rerun that comes out worse is "not reproduced" with its
numbers, unverified, and never a proof of fraud; one that comes out better is a note.
"""

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from base.errors import BadInput, CheckFailed
from base.files import read_plain
from data.dataset import Dataset
from quant.unpack import Artifact, from_bytes
from tools.record.schema import Submission
from tools.record.tracks import Track
from tools.verify.agree import RESCORED
from tools.verify.corpora import withheld
from tools.verify.measured_box import Ran, open_doors, run_boxed
from tools.verify.record import ARTIFACT, CODE, Record
from tools.verify.verdict import Finding

SIGMA_BPB = 0.0013  # what seeds spread at least, where a record has one or two that happen to agree
SIGMAS = 4.0
SETUP_S = 900.0  # beyond its budgets: imports, compilation, validations on the way, plots
SLOWER = 4.0  # than the record says: a machine that is so much slower is given up on
LARGEST_ARTIFACT = 256 << 20
RUNS = 32  # folders in runs/ that are looked at

Scorer = Callable[[Artifact], float]  # bits a byte, by our own scorer


def rerun_findings(
    record: Record, dataset: Dataset, seed: int, measured_bpb: float, score: Scorer
) -> Iterator[Finding]:
    """`measured_bpb`: what our scorer found for this seed's artifact, which is scored by the single file here."""
    submission, track = record.submission, record.track
    assert submission is not None
    assert track is not None
    if doors := open_doors():
        why = f"on this machine the record's code could not be kept from {' and '.join(doors)}"
        yield Finding("rerun.box", "flag", why, {"open": doors})
    try:
        code = record.folder.read(CODE)
        shipped = record.folder.read(submission.seed_results[str(seed)].artifact)
    except BadInput as bad:
        yield Finding("rerun.files", "unverified", f"nothing to run again: {bad}")
        return
    yield from _scored_again(submission, track, seed, dataset, code, shipped, measured_bpb)
    yield from _trained_again(submission, track, seed, dataset, code, score)


def _scored_again(
    submission: Submission, track: Track, seed: int, dataset: Dataset, code: bytes, shipped: bytes, ours: float
) -> Iterator[Finding]:
    limit_s = SLOWER * submission.seed_results[str(seed)].eval_seconds + SETUP_S
    words = [CODE, "--score", ARTIFACT, "--data", str(dataset.path.resolve()), "--json"]
    with _box({CODE: code, ARTIFACT: shipped}) as folder:
        ran = run_boxed(words, folder, limit_s)
    if trouble := _trouble(ran, limit_s):
        yield Finding("rerun.score", "unverified", f"{CODE} --score {trouble}", {"seconds": ran.seconds})
        return
    try:
        said = json.loads(ran.out)
        theirs = said["bpb"]
        if type(theirs) is not float or not math.isfinite(theirs):
            raise ValueError(f"bpb is {theirs!r:.40}")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        yield Finding("rerun.score", "unverified", f"{CODE} --score answers no object with a bpb: {error!s:.120}")
        return
    evidence = {"seed": seed, "single_file_bpb": theirs, "measured_bpb": ours, "seconds": ran.seconds}
    words_ = f"seed {seed}: {CODE} scores its artifact {theirs:.8f}, our scorer {ours:.8f}"
    if abs(theirs - ours) > RESCORED * ours:
        yield Finding(
            "score.single_file", "invalid", f"{words_}; they agree to {RESCORED:g} of it or one is wrong", evidence
        )
    else:
        if track.eval_seconds and ran.seconds > track.eval_seconds:
            why = (
                f"seed {seed}: scoring took {ran.seconds:.0f} s by our clock; {track.name} gives {track.eval_seconds:g}"
            )
            yield Finding("rerun.eval_seconds", "unverified", why, evidence)
        yield Finding("rerun.score.measured", "note", f"{words_}, in {ran.seconds:.0f} s", {"rerun_score": evidence})


def _trained_again(
    submission: Submission, track: Track, seed: int, dataset: Dataset, code: bytes, score: Scorer
) -> Iterator[Finding]:
    claimed = submission.seed_results[str(seed)]
    budget_s = claimed.train_seconds + claimed.calibration_seconds + 2 * claimed.eval_seconds
    limit_s = SLOWER * budget_s + SETUP_S
    with _box({}) as data_folder, _box({CODE: code}) as folder:
        ran = run_boxed([CODE, f"seed={seed}", f"data.path={withheld(dataset, data_folder)}"], folder, limit_s)
        if trouble := _trouble(ran, limit_s):
            yield Finding("rerun.train", "unverified", f"{CODE} seed={seed} {trouble}", {"seconds": ran.seconds})
            return
        try:
            result, data = _run_folder(folder)
            artifact = from_bytes(data)
            bpb = score(artifact)
        except (BadInput, CheckFailed) as error:
            yield Finding("rerun.train", "unverified", f"{CODE} seed={seed} left no run that can be scored: {error}")
            return
    yield from _size(submission, track, len(code) + len(data))
    yield from _clock(track, seed, ran, result)
    yield _reproduced(submission, seed, bpb, ran.seconds, len(data))


def _reproduced(submission: Submission, seed: int, bpb: float, seconds: float, size_bytes: int) -> Finding:
    sigma = max(submission.val_bpb_std or 0.0, SIGMA_BPB)
    error = sigma * math.sqrt(1 + 1 / len(submission.seeds))  # of one more run against the mean of these
    z = (bpb - submission.val_bpb) / error
    said = (
        f"seed {seed} trained again in {seconds:.0f} s scores {bpb:.5f}; {submission.val_bpb:.5f} is claimed, with a "
        f"spread of {sigma:.5f}: {z:+.1f} standard errors"
    )
    evidence = {"seed": seed, "rerun_bpb": bpb, "z": z, "seconds": seconds, "bytes_model": size_bytes}
    if z > SIGMAS:
        return Finding("rerun.val_bpb", "unverified", f"{said}; it does not reproduce here", evidence)
    return Finding("rerun.measured", "note", said, {"rerun": evidence})


def _size(submission: Submission, track: Track, total: int) -> Iterator[Finding]:
    if total > track.cap_bytes:
        why = f"trained again, code and artifact are {total:,} bytes; {track.name} allows {track.cap_bytes:,}"
        yield Finding("rerun.size", "unverified", why, {"bytes": total, "claimed": submission.bytes_total})


def _clock(track: Track, seed: int, ran: Ran, result: dict[str, Any]) -> Iterator[Finding]:
    """Our clock has the whole process; its own loop's clock is its word, which ours bounds from above."""
    told = [result.get(name) for name in ("train_seconds", "calibration_seconds", "eval_seconds")]
    parts = [float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0 for value in told]
    evidence = {"seed": seed, "wall_seconds": ran.seconds, "told_seconds": sum(parts)}
    if sum(parts) > ran.seconds + 1:
        why = f"seed {seed}: it tells of {sum(parts):.0f} s of work in a process of {ran.seconds:.0f} s"
        yield Finding("rerun.clock", "flag", why, evidence)
    if track.train_seconds and track.eval_seconds:
        allowed_s = 2 * track.train_seconds + 2 * track.eval_seconds + SETUP_S
        if ran.seconds > allowed_s:
            why = f"seed {seed}: the whole run took {ran.seconds:.0f} s by our clock; {allowed_s:.0f} s are room enough"
            yield Finding("rerun.budget", "unverified", why, evidence)


@contextmanager
def _box(files: dict[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rerun-", ignore_cleanup_errors=True) as made:
        folder = Path(made).resolve()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        yield folder


def _trouble(ran: Ran, limit_s: float) -> str:
    if ran.code is None:
        return f"had not ended after {limit_s:.0f} s, {SLOWER:g} times what the record says"
    return f"ended with exit code {ran.code}: {ran.last_words}" if ran.code else ""


def _run_folder(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The result and the artifact of the one finished run, whoever wrote them: no link is followed."""
    found = [path for path in sorted((folder / "runs").glob("*"))[:RUNS] if (path / "result.json").is_file()]
    if len(found) != 1:
        raise BadInput(f"{len(found)} finished runs in runs/, not one")
    try:
        result = json.loads(read_plain(found[0] / "result.json", 1 << 20))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"result.json: {error!s:.100}") from None
    if not isinstance(result, dict):
        raise BadInput("result.json is no object")
    return result, read_plain(found[0] / ARTIFACT, LARGEST_ARTIFACT)
