"""--rerun: the record's own single file scores its artifact and trains again, sandboxed, by our clock.

The file is alone with its artifact when it scores, and alone when it trains, so it cannot hand in what was shipped; nor
learn the validation text, since its dataset has training text in that place. What it trains is scored by our scorer.

A budget in seconds means fewer steps on a slower machine: a rerun that scores worse is "not reproduced", unverified
with its numbers, and never a proof of fraud.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from base.errors import BadInput, CheckFailed
from base.files import read_json_object, read_plain
from base.run_folder import ARTIFACT, RESULT, RUNS, RunResult, result_from
from data.dataset import Dataset
from quant.unpack import Artifact, from_bytes
from tools.record.schema import CODE
from tools.verify.datasets import withhold_validation
from tools.verify.rules import RESCORED, Record
from tools.verify.sandbox import Ran, open_doors, run_boxed
from tools.verify.verdict import Finding, contradiction

SIGMA_BPB = 0.0013  # the least spread of seeds, where a record has one or two that happen to agree
SIGMAS = 4.0
SETUP_S = 900.0  # beyond its budgets: imports, compilation, validations during the run
SLOWER = 4.0  # than the record: a machine that is so much slower is given up on
LARGEST_ARTIFACT = 256 << 20
LARGEST_JSON = 1 << 20

Measure = Callable[[Artifact], float]  # bits per byte, by our scorer


def check_rerun(record: Record, dataset: Dataset, seed: int, measure: Measure) -> Iterator[Finding]:
    if doors := open_doors():
        why = f"on this machine the record's code could not be kept from {' and '.join(doors)}"
        yield Finding("rerun.box", "flag", why, {"open": doors})
    code = record.folder.read(CODE)
    artifact = record.folder.read(record.claim.seed_results[str(seed)].artifact)
    yield from _score_again(record, seed, dataset, code, artifact, measure)
    yield from _train_again(record, seed, dataset, code, measure)


def _score_again(
    record: Record, seed: int, dataset: Dataset, code: bytes, artifact: bytes, measure: Measure
) -> Iterator[Finding]:
    limit_s = SLOWER * record.claim.seed_results[str(seed)].eval_seconds + SETUP_S
    words = [CODE, "--score", ARTIFACT, "--data", str(dataset.path.resolve()), "--json"]
    with _box({CODE: code, ARTIFACT: artifact}) as folder:
        ran = run_boxed(words, folder, limit_s)
    if trouble := _trouble(ran, limit_s):
        yield Finding("rerun.score", "unverified", f"{CODE} --score {trouble}", {"seconds": ran.seconds})
        return
    try:
        theirs = read_json_object(ran.out.decode("utf-8", errors="replace"), f"the answer of {CODE} --score").get("bpb")
        if not isinstance(theirs, float):
            raise BadInput(f"the answer of {CODE} --score has no bpb")
    except BadInput as bad:
        yield Finding("rerun.score", "unverified", str(bad))
        return
    ours = measure(from_bytes(artifact))
    if not math.isclose(theirs, ours, rel_tol=RESCORED):
        yield contradiction("score.single_file", f"seed {seed}: {CODE}'s own score", theirs, "our scorer gives", ours)
        return
    if record.track.eval_seconds and ran.seconds > record.track.eval_seconds:
        why = f"seed {seed}: scoring took {ran.seconds:.0f} s here; {record.track.name} allows "
        yield Finding("rerun.eval_seconds", "unverified", f"{why}{record.track.eval_seconds:g}")
    evidence = {"single_file_bpb": theirs, "measured_bpb": ours, "seconds": ran.seconds}
    message = f"seed {seed}: {CODE} scores its artifact {theirs:.8f} as our scorer does, in {ran.seconds:.0f} s"
    yield Finding("rerun.score.measured", "note", message, {"rerun_score": evidence})


def _train_again(record: Record, seed: int, dataset: Dataset, code: bytes, measure: Measure) -> Iterator[Finding]:
    claimed, track = record.claim.seed_results[str(seed)], record.track
    limit_s = SLOWER * (claimed.train_seconds + claimed.calibration_seconds + 2 * claimed.eval_seconds) + SETUP_S
    with _box({}) as data_folder, _box({CODE: code}) as folder:
        data = withhold_validation(dataset, data_folder)
        ran = run_boxed([CODE, f"seed={seed}", f"data.path={data}"], folder, limit_s)
        if trouble := _trouble(ran, limit_s):
            yield Finding("rerun.train", "unverified", f"{CODE} seed={seed} {trouble}", {"seconds": ran.seconds})
            return
        try:
            result, artifact = _read_run(folder)
            bpb = measure(from_bytes(artifact))
        except (BadInput, CheckFailed) as error:
            yield Finding("rerun.train", "unverified", f"{CODE} seed={seed} left no run that can be scored: {error}")
            return
    total = len(code) + len(artifact)
    if total > track.cap_bytes:
        why = f"trained again, code and artifact are {total:,} bytes; {track.name} allows {track.cap_bytes:,}"
        yield Finding("rerun.size", "unverified", why, {"bytes": total})
    reported_s = result.train_seconds + result.calibration_seconds + result.eval_seconds
    if reported_s > ran.seconds + 1:
        why = f"seed {seed}: it reports {reported_s:.0f} s of work in a process of {ran.seconds:.0f} s"
        yield Finding("rerun.clock", "flag", why)
    allowed_s = 2 * (track.train_seconds + track.eval_seconds) + SETUP_S
    if track.train_seconds and track.eval_seconds and ran.seconds > allowed_s:
        why = f"seed {seed}: the complete run took {ran.seconds:.0f} s here; {allowed_s:.0f} s are room enough"
        yield Finding("rerun.budget", "unverified", why)
    yield compare_rerun(record, seed, bpb, ran.seconds)


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


@contextmanager
def _box(files: dict[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rerun-", ignore_cleanup_errors=True) as made:
        folder = Path(made).resolve()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        yield folder


def _trouble(ran: Ran, limit_s: float) -> str:
    if ran.code is None:
        return f"had not ended after {limit_s:.0f} s, {SLOWER:g} times the record's own seconds"
    return f"ended with exit code {ran.code}: {ran.last_line}" if ran.code else ""


def _read_run(folder: Path) -> tuple[RunResult, bytes]:
    """The result and the artifact of the one finished run; no link is followed."""
    found: Sequence[Path] = [path.parent for path in sorted(folder.glob(f"{RUNS}/*/{RESULT}"))]
    if len(found) != 1:
        raise BadInput(f"{len(found)} finished runs in {RUNS}/, not one")
    text = read_plain(found[0] / RESULT, LARGEST_JSON).decode("utf-8", errors="replace")
    return result_from(read_json_object(text, RESULT), RESULT), read_plain(found[0] / ARTIFACT, LARGEST_ARTIFACT)
