"""The second tier: a record's artifacts opened, scored, probed and made to compress; with --rerun, trained again.

    for finding in measured_findings(record, options): …

Minutes, and nothing of the record is executed unless `options.rerun` asks for it: our own scorer reads its artifacts.
Order: artifacts, data, score, probes, codec, rerun; what cannot be measured is `unverified` with what is missing, and
the rest goes on. Numbers are in the evidence of notes whose rule ends in `.measured`.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from base.errors import BadInput, CheckFailed
from data.dataset import Dataset
from engine.device import Device, joined
from eval.adapt import ADAPTATIONS
from quant.unpack import Artifact
from tools.record.schema import Submission
from tools.verify.corpora import data_findings, find_dataset
from tools.verify.measured_artifact import Opened, open_artifacts, too_dear
from tools.verify.measured_probes import codec_sample, probed
from tools.verify.measured_rerun import rerun_findings
from tools.verify.measured_score import (
    OTHER_KIND,
    SAME_KIND,
    Estimate,
    Ground,
    Rule,
    compared,
    rough_ground,
    sampled_score,
    whole_score,
)
from tools.verify.record import ARTIFACT, MANIFEST, SUBMISSION, TOKENIZER, Options, Record
from tools.verify.verdict import Finding


def measured_findings(record: Record, options: Options) -> Iterator[Finding]:
    submission = record.submission
    if submission is None or record.track is None:
        yield Finding("score.begun", "unverified", "no submission.json that can be read: nothing says what to measure")
        return
    with joined() as device, tempfile.TemporaryDirectory(prefix="verify-") as made:
        _tell("opening artifacts")
        opened, findings = open_artifacts(record)
        yield from findings
        found = _dataset(record, submission, Path(made), options)
        if isinstance(found, Finding):
            yield found
            return
        yield from data_findings(submission, found)
        evaluation = submission.evaluation
        rule = Rule(evaluation.context, evaluation.stride, evaluation.adapt)
        bench = _Bench(record, submission, found, rule, options.sample and not rule.adapt, device)
        bench.coded = (int(bench.draws(2).choice(list(opened))),) if bench.sample and opened else tuple(opened)
        for seed, (data, artifact) in opened.items():
            path = Path(made) / f"{seed}.golf"
            path.write_bytes(data)
            yield from bench.measured(seed, artifact, path)
        if options.rerun:
            yield from bench.rerun(opened)


def _dataset(record: Record, submission: Submission, folder: Path, options: Options) -> Dataset | Finding:
    tokenizer = folder / TOKENIZER
    try:
        tokenizer.write_bytes(record.folder.read(TOKENIZER))
    except BadInput as bad:
        return Finding("data.tokenizer", "unverified", f"its tokens cannot be made: {bad}")
    _tell("looking for the dataset")
    return find_dataset(submission.data, tokenizer, options.data)


@dataclass
class _Bench:
    """Everything that one artifact after another is measured with."""

    record: Record
    submission: Submission
    dataset: Dataset
    rule: Rule
    sample: bool
    device: Device
    scored: dict[int, Estimate] = field(default_factory=dict)  # by seed
    ground: Ground | None = None  # of a sample: the first artifact's
    coded: tuple[int, ...] = ()  # seeds whose artifacts compress text: of a sample, the one that chance names

    def measured(self, seed: int, artifact: Artifact, path: Path) -> Iterator[Finding]:
        """One artifact, and a copy of its file: score, probes, codec."""
        try:
            self._require(artifact)
        except BadInput as bad:
            yield Finding("score.begun", "unverified", f"seed {seed}: {bad}", {"seed": seed})
            return
        try:
            _tell(f"seed {seed}: scoring {'a sample' if self.sample else 'all'}")
            self.scored[seed] = estimate = self._estimate(artifact)
            yield compared(seed, self.submission.seed_results[str(seed)].val_bpb, estimate, self._tolerance())
            artifact.model.to("cpu")
            _tell(f"seed {seed}: probes")
            yield from probed(seed, path, self.dataset, self.rule.adapt)
            if seed in self.coded:
                _tell(f"seed {seed}: codec")
                yield from codec_sample(seed, path, artifact, self.dataset, self.draws(1))
        except CheckFailed as failure:  # losses that are no numbers
            yield Finding("score.losses", "invalid", f"seed {seed}: {failure}", {"seed": seed})
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
            yield Finding("score.memory", "unverified", f"seed {seed}: too little memory here: {error!s:.120}")

    def rerun(self, opened: dict[int, Opened]) -> Iterator[Finding]:
        """The seed whose artifact is model.golf."""
        results = self.submission.seed_results
        seed = next((seed for seed in self.scored if results[str(seed)].artifact == ARTIFACT), None)
        if seed is None:
            yield Finding("rerun.begun", "unverified", f"no {ARTIFACT} was scored, so nothing is run again")
            return
        ours = self.scored[seed].bpb
        if self.sample:  # no answer to a single file that scores all
            _tell(f"seed {seed}: scoring all, for its single file")
            ours = self._whole(opened[seed].artifact).bpb
        _tell(f"seed {seed}: running its single file")
        yield from rerun_findings(self.record, self.dataset, seed, ours, self._trained)

    def _trained(self, artifact: Artifact) -> float:
        _tell("scoring what was trained again")
        self._require(artifact)
        return self._whole(artifact).bpb

    def _estimate(self, artifact: Artifact) -> Estimate:
        if self.sample:
            if self.ground is None:
                self.ground = rough_ground(artifact, self.dataset, self.rule, self.device, self.draws(0))
            return sampled_score(artifact, self.ground, self.rule, self.device)
        return self._whole(artifact)

    def _whole(self, artifact: Artifact) -> Estimate:
        score, seconds = whole_score(artifact, self.dataset, self.rule, self.device)
        return Estimate(score.bpb, 0.0, score.tokens, seconds)

    def _require(self, artifact: Artifact) -> None:
        """Refuse what cannot be scored by this rule on this dataset."""
        rule = self.rule
        self.dataset.require(artifact.tokenizer.vocab_size, artifact.tokenizer.bos_id)
        if rule.stride > rule.context:
            raise BadInput(f"a stride of {rule.stride} with a context of {rule.context} would leave targets out")
        if rule.adapt not in ("", *ADAPTATIONS):
            raise BadInput(f"it adapts by {rule.adapt!r:.40}, which this scorer does not know")
        if dear := too_dear(artifact, rule.context, rule.stride, len(self.dataset.val) - 1):
            raise BadInput(dear)

    def _tolerance(self) -> float:
        """What rounding may move: little where the claim was measured on a device of our kind."""
        manifest = self.record.manifest
        theirs = str(manifest.environment.get("device", "")) if manifest else ""
        return SAME_KIND if self.device.torch.type in theirs else OTHER_KIND

    def draws(self, stream: int) -> np.random.Generator:
        """Chance that nobody could know before the record was finished: its manifest's hash."""
        name = MANIFEST if MANIFEST in self.record.folder else SUBMISSION
        return np.random.default_rng([int(self.record.folder.sha256(name), 16), stream])


def _tell(what: str) -> None:
    print(f"verify: {what}", file=sys.stderr, flush=True)
