"""The artifacts of a record, opened: are they what the record says of them? Bytes are read, nothing is executed.

    opened, findings = open_artifacts(record)      by seed; one that does not open is left out and has its finding

What a hostile file can do at most is to be refused: quant.unpack checks every size before it allocates, and a model
that would take days or more memory than there is to score is left unscored, with the numbers.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from base.errors import BadInput
from eval.rule import own_context, own_stride
from model.cost import parameters, scoring_flops
from quant.unpack import Artifact, from_bytes
from tools.claims.submission import SeedResult, Submission
from tools.claims.verdict import Finding
from tools.verifying.folder import Folder
from tools.verifying.record import TOKENIZER, Record

FREE = {"data.path"}  # of the config: where a dataset lay does not matter
LONGEST_CONTEXT = 1 << 16  # tokens of a window; attention and logits of more take memory that few machines have
MOST_FLOPS = 1e17  # of a whole scoring: half a day of a machine's cores


class Opened(NamedTuple):
    data: bytes
    artifact: Artifact


def open_artifacts(record: Record) -> tuple[dict[int, Opened], list[Finding]]:
    submission, findings, opened = record.submission, list[Finding](), dict[int, Opened]()
    assert submission is not None
    for seed in record_seeds(submission):
        result = submission.seed_results[str(seed)]
        try:
            data = record.folder.read(result.artifact)
        except BadInput as bad:
            findings.append(Finding("artifact.file", "unverified", f"seed {seed}: {bad}"))
            continue
        try:
            opened[seed] = Opened(data, from_bytes(data))
        except BadInput as bad:
            findings.append(Finding("artifact.open", "invalid", f"{result.artifact} does not open: {bad}"))
            continue
        findings += _claims(seed, result, submission, opened[seed])
        findings += _config(seed, result, record, opened[seed].artifact)
    tokenizer = _tokenizer_file(record.folder)
    findings += [
        finding for seed in opened for finding in _tokenizer(seed, opened[seed].artifact, submission, tokenizer)
    ]
    return opened, findings


def record_seeds(submission: Submission) -> list[int]:
    """The seeds that have results under a plain number; schema rules say what is wrong with the others."""
    return [seed for seed in dict.fromkeys(submission.seeds) if str(seed) in submission.seed_results]


def too_dear(artifact: Artifact, context: int, stride: int, targets: int) -> str:
    """Why scoring it is not begun; "": it is."""
    if context > LONGEST_CONTEXT:
        return f"a context of {context:,} tokens; up to {LONGEST_CONTEXT:,} are scored here"
    flops = scoring_flops(artifact.model.config, context, stride) * -(-targets // stride)
    return f"its score takes {flops:.1e} FLOP; up to {MOST_FLOPS:.0e} are spent here" if flops > MOST_FLOPS else ""


def _claims(seed: int, result: SeedResult, submission: Submission, opened: Opened) -> Iterator[Finding]:
    """Hash, bytes, parameters, data, rule: the submission's word against the artifact's."""
    artifact, evaluation = opened.artifact, submission.evaluation
    pairs = [
        ("artifact.sha256", "sha256", result.artifact_sha256, artifact.sha256),
        ("artifact.bytes", "bytes", result.bytes_model, artifact.size_bytes),
        ("artifact.params", "weights", submission.params, sum(parameters(artifact.model.config).values())),
    ]
    try:
        pairs += [
            ("artifact.rule", "eval.stride", evaluation.stride, own_stride(artifact)),
            ("artifact.rule", "context", evaluation.context, own_context(artifact)),
        ]
    except BadInput as bad:
        yield Finding("artifact.rule", "invalid", f"{result.artifact}: {bad}")
    header = artifact.header
    if "data_sha256" in header:
        pairs.append(("artifact.data", "data_sha256", submission.data.sha256, str(header["data_sha256"])))
    for rule, what, said, found in pairs:
        if said != found:
            why = f"{result.artifact} (seed {seed}): its {what} is {found!s:.64}, and submission.json says {said!s:.64}"
            yield Finding(rule, "invalid", why, {"seed": seed, "claimed": said, "measured": found})


def _config(seed: int, result: SeedResult, record: Record, artifact: Artifact) -> Iterator[Finding]:
    """The run's config: in the artifact's header and at the head of its log."""
    mine = artifact.header.get("config")
    own = flat(mine) if isinstance(mine, dict) else {}
    if own.get("seed") != seed:
        why = f"{result.artifact} is given for seed {seed}; its header says seed {own.get('seed')!s:.20}"
        yield Finding("artifact.seed", "invalid", why, {"seed": seed, "measured": str(own.get("seed"))[:20]})
    log = record.logs.get(seed)
    if log is None or not log.config:
        yield Finding("artifact.config", "unverified", f"seed {seed}: no log whose head is the run's config")
        return
    logged = flat(log.config)
    if wrong := sorted(
        key for key in (own.keys() | logged.keys()) - FREE if key != "seed" and own.get(key) != logged.get(key)
    ):
        key = wrong[0]
        why = (
            f"seed {seed}: {key} is {own.get(key)!s:.40} in {result.artifact} and {logged.get(key)!s:.40} in "
            f"{result.log} ({len(wrong)} such)"
        )
        yield Finding("artifact.config", "invalid", why, {"seed": seed, "keys": wrong[:20]})


def _tokenizer_file(folder: Folder) -> str | None:
    try:
        return hashlib.sha256(folder.read(TOKENIZER)).hexdigest()
    except BadInput:  # rules of files say so
        return None


def _tokenizer(seed: int, artifact: Artifact, submission: Submission, file: str | None) -> Iterator[Finding]:
    inside = hashlib.sha256(artifact.tokenizer.model).hexdigest()
    for what, theirs in ((TOKENIZER, file), ("data.tokenizer_sha256", submission.data.tokenizer_sha256)):
        if theirs is not None and theirs != inside:
            why = f"seed {seed}: the tokenizer in the artifact is {inside[:12]}…, {what} is {theirs[:12]}…"
            yield Finding("artifact.tokenizer", "invalid", why, {"seed": seed, "inside": inside, "outside": theirs})


def flat(values: dict[str, Any], at: str = "") -> dict[str, Any]:
    """{"model": {"dim": 8}} -> {"model.dim": 8}."""
    found = dict[str, Any]()
    for key, value in values.items():
        found |= flat(value, f"{at}{key}.") if isinstance(value, dict) else {f"{at}{key}": value}
    return found
