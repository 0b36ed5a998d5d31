"""--rerun: the record's own single file scores its artifact and trains again, sandboxed, by our clock.

The file is alone with its artifact when it scores, and alone when it trains, so it cannot hand in what was shipped; nor
learn the validation text, since its dataset has training text in that place. What it trains is scored by our scorer.

A budget in seconds means fewer steps on a slower machine: a rerun that scores worse is "not reproduced", unverified
with its numbers, and never a proof of fraud.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from base.errors import BadInput, CheckFailed
from base.files import read_plain
from base.run_folder import ARTIFACT, RESULT, RUNS
from data.dataset import Dataset
from tools.record.claim import Record
from tools.record.evidence import SeedEvidence
from tools.record.schema import CODE
from tools.verify.datasets import withhold_validation
from tools.verify.evidence_rules import RESCORED
from tools.verify.sandbox import open_doors, run_code, score_boxed, scoring_ranks
from tools.verify.verdict import Finding, contradiction

SIGMA_BPB = 0.0013  # the least spread of seeds, where a record has one or two that happen to agree
SIGMAS = 4.0
LARGEST_ARTIFACT = 256 << 20

Measure = Callable[[bytes], float]  # an artifact's bits per byte, by our scorer


def check_rerun(record: Record, dataset: Dataset, seed: SeedEvidence, measure: Measure) -> Iterator[Finding]:
    if doors := open_doors():
        message = f"on this machine the record's code could not be kept from {' and '.join(doors)}"
        yield Finding("rerun.box", "flag", message, {"open": doors})
    for rule, run_again in (("rerun.score", _score_again), ("rerun.train", _train_again)):
        try:
            yield from run_again(record, dataset, seed, measure)
        except (BadInput, CheckFailed) as trouble:
            yield Finding(rule, "unverified", f"seed {seed.seed}: {trouble}")


def _score_again(record: Record, dataset: Dataset, seed: SeedEvidence, measure: Measure) -> Iterator[Finding]:
    artifact = record.folder.read(seed.artifact)
    track = record.track
    eval_s = track.eval_seconds or record.claim.seed_results[str(seed.seed)].eval_seconds
    ranks = scoring_ranks(seed.result.adapt)
    answer, seconds = score_boxed(record.folder.read(CODE), artifact, dataset.path, eval_s, ranks)
    theirs = answer["bpb"]
    ours = measure(artifact)
    if not math.isclose(theirs, ours, rel_tol=RESCORED[seed.result.precision]):
        yield contradiction("score.single_file", f"the score by {CODE}", theirs, "our scorer gives", ours)
        return
    if 0 < track.eval_seconds < seconds:
        message = f"scoring took {seconds:.0f} s here; {track.name} allows {track.eval_seconds:g}"
        yield Finding("rerun.eval_seconds", "unverified", message)
    message = f"{CODE} scores its artifact {theirs:.8f} as our scorer does, in {seconds:.0f} s"
    evidence = {"single_file_bpb": theirs, "measured_bpb": ours, "seconds": seconds}
    yield Finding("rerun.score.measured", "note", message, {"rerun_score": evidence})


def _train_again(record: Record, dataset: Dataset, seed: SeedEvidence, measure: Measure) -> Iterator[Finding]:
    claimed = record.claim.seed_results[str(seed.seed)]
    track = record.track
    work_s = track.train_seconds + track.eval_seconds
    if not track.train_seconds or not track.eval_seconds:
        work_s = claimed.train_seconds + claimed.calibration_seconds + claimed.eval_seconds
    with (
        tempfile.TemporaryDirectory(prefix="rerun-") as data,
        tempfile.TemporaryDirectory(prefix="rerun-", ignore_cleanup_errors=True) as made,
    ):
        folder = Path(made).resolve()
        words = [f"seed={seed.seed}", f"data.path={withhold_validation(dataset, Path(data).resolve())}"]
        ran = run_code(record.folder.read(CODE), words, folder, work_s)
        artifact = _read_trained(folder)
    bpb = measure(artifact)
    total = record.claim.bytes_code + len(artifact)
    if total > track.cap_bytes:
        message = f"trained again, code and artifact are {total:,} bytes; {track.name} allows {track.cap_bytes:,}"
        yield Finding("rerun.size", "unverified", message, {"bytes": total})
    yield compare_rerun(record, seed.seed, bpb, ran.seconds)


def compare_rerun(record: Record, seed: int, bpb: float, seconds: float) -> Finding:
    claim = record.claim
    sigma = max(claim.val_bpb_std or 0.0, SIGMA_BPB)
    error = sigma * math.sqrt(1 + 1 / len(claim.seeds))  # of one more run against the mean of these
    z = (bpb - claim.val_bpb) / error
    message = (
        f"seed {seed} trained again in {seconds:.0f} s scores {bpb:.5f}; {claim.val_bpb:.5f} is claimed, with a spread "
        f"of {sigma:.5f}: {z:+.1f} standard errors"
    )
    evidence = {"rerun_bpb": bpb, "z": z, "seconds": seconds}
    if z > SIGMAS:
        return Finding("rerun.val_bpb", "unverified", f"{message}; it does not reproduce here", evidence)
    return Finding("rerun.measured", "note", message, {"rerun": evidence})


def _read_trained(folder: Path) -> bytes:
    """The artifact of the one finished run; no link is followed."""
    found = [path.parent for path in sorted(folder.glob(f"{RUNS}/*/{RESULT}"))]
    if len(found) != 1:
        raise BadInput(f"{len(found)} finished runs in {RUNS}/, not one")
    return read_plain(found[0] / ARTIFACT, LARGEST_ARTIFACT)
