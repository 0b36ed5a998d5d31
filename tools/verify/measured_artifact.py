"""The artifacts of a record, opened: are they what the record says of them? Bytes are read, nothing is executed.

    opened, findings = open_artifacts(record)      by seed; one that does not open is left out and has its finding

What the head alone can tell (config, data, sizes) the first tier has asked. What a hostile file can do at most is to be
refused: quant.unpack checks every size before it allocates, and what would take days or more memory than there is to
score is left unscored, with the numbers.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from base.errors import BadInput
from eval.protocol import own_context, own_stride
from model.cost import parameters, scoring_flops
from quant.unpack import Artifact, from_bytes
from tools.record.schema import Submission
from tools.verify.agree import disagreement
from tools.verify.record import Record
from tools.verify.verdict import Finding

LONGEST_CONTEXT = 1 << 16  # tokens of a window; attention and logits of more take memory that few machines have
MOST_FLOPS = 1e17  # of a whole scoring: half a day of a machine's cores


class Opened(NamedTuple):
    data: bytes
    artifact: Artifact


def open_artifacts(record: Record) -> tuple[dict[int, Opened], list[Finding]]:
    submission, findings, opened = record.submission, list[Finding](), dict[int, Opened]()
    assert submission is not None
    for seed in (seed for seed in dict.fromkeys(submission.seeds) if str(seed) in submission.seed_results):
        name = submission.seed_results[str(seed)].artifact
        try:
            data = record.folder.read(name)
        except BadInput as bad:
            findings.append(Finding("artifact.file", "unverified", f"seed {seed}: {bad}"))
            continue
        try:
            opened[seed] = Opened(data, from_bytes(data))
        except BadInput as bad:
            findings.append(Finding("artifact.open", "invalid", f"{name} does not open: {bad}"))
            continue
        findings += _claims(seed, submission, opened[seed].artifact)
    return opened, findings


def too_dear(artifact: Artifact, context: int, stride: int, targets: int) -> str:
    """Why scoring it is not begun; "": it is."""
    if context > LONGEST_CONTEXT:
        return f"a context of {context:,} tokens; up to {LONGEST_CONTEXT:,} are scored here"
    flops = scoring_flops(artifact.model.config, context, stride) * -(-targets // stride)
    return f"its score takes {flops:.1e} FLOP; up to {MOST_FLOPS:.0e} are spent here" if flops > MOST_FLOPS else ""


def _claims(seed: int, submission: Submission, artifact: Artifact) -> Iterator[Finding]:
    """Hash, tokenizer, parameters, rule: the submission's word against the artifact's."""
    result, evaluation = submission.seed_results[str(seed)], submission.evaluation
    tokenizer = hashlib.sha256(artifact.tokenizer.model).hexdigest()
    pairs = [
        ("artifact.sha256", "artifact_sha256", result.artifact_sha256, artifact.sha256),
        ("artifact.tokenizer", "data.tokenizer_sha256", submission.data.tokenizer_sha256, tokenizer),
        ("artifact.params", "params", submission.params, sum(parameters(artifact.model.config).values())),
    ]
    try:
        pairs += [
            ("artifact.rule", "evaluation.stride", evaluation.stride, own_stride(artifact)),
            ("artifact.rule", "evaluation.context", evaluation.context, own_context(artifact)),
        ]
    except BadInput as bad:
        yield Finding("artifact.rule", "invalid", f"{result.artifact}: {bad}")
    for rule, what, said, found in pairs:
        if said != found:
            yield disagreement(rule, f"seed {seed}: {what}", said, f"{result.artifact} has", found)
