"""Evidence -> the claim: every number of submission.json, derived once, for the writer and for the verifier.

    submission = claim(evidence, track)       pure
    record = open_record(Folder(path))        BadInput where the evidence cannot be read

What it derives must not change within one schema version: the records of that version would no longer be what they
claim. It depends on the evidence and the track's rules alone, never on today's presets or on this machine.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from base.config import Layer, build
from base.errors import BadInput
from data.bytes import bits_per_byte
from eval.config import read_adapt
from eval.stats import ENFORCED_P, Rule, lead, nats_per_bpb, seeds
from quant.config import QuantConfig
from tools.record.evidence import Evidence, SeedEvidence, read_evidence
from tools.record.schema import Adaptation, Code, Evaluation, SeedResult, Submission, Track, load_tracks
from tools.verify.folder import Folder

MEASURED = ("stride", "context", "precision", "val_tokens", "val_bytes", "contest_bytes")  # how, and what of


@dataclass(frozen=True)
class Record:
    """A folder whose evidence could be read, and the claim that follows from it."""

    folder: Folder
    evidence: Evidence
    claim: Submission
    track: Track


def open_record(folder: Folder) -> Record:
    evidence = read_evidence(folder)
    track = load_tracks().named(evidence.file.statement.track)
    return Record(folder, evidence, claim(evidence, track), track)


def claim(evidence: Evidence, track: Track) -> Submission:
    stated = asdict(evidence.file.statement)
    rivals = stated.pop("against")
    results = {str(seed.seed): seed_result(seed, evidence) for seed in evidence.seeds}
    median = median_seed(evidence.seeds)
    run = median.result
    adapt = read_adapt(median.head.header.config)
    evaluation = Evaluation(
        **{name: getattr(run, name) for name in MEASURED},
        adapt=None if adapt.kind == "off" else Adaptation(kind=adapt.kind, streams=adapt.streams, trees=adapt.trees),
    )
    bpbs = [result.val_bpb for result in results.values()]
    losses = [result.val_loss for result in results.values()]
    bytes_model = max(seed.artifact_bytes for seed in evidence.seeds)
    bytes_total = evidence.code_bytes + bytes_model
    return Submission(
        **stated,
        val_bpb=statistics.fmean(bpbs),
        val_bpb_std=statistics.stdev(bpbs) if len(bpbs) > 1 else None,
        val_loss=statistics.fmean(losses),
        val_loss_std=statistics.stdev(losses) if len(losses) > 1 else None,
        seeds=tuple(seed.seed for seed in evidence.seeds),
        seed_results=results,
        median_seed=median.seed,
        bytes_total=bytes_total,
        bytes_code=evidence.code_bytes,
        bytes_model=bytes_model,
        bytes_tokenizer=evidence.tokenizer_bytes,
        cap_bytes=track.cap_bytes,
        params=run.params,
        evaluation=evaluation,
        data=evidence.file.data,
        code=Code(
            sha256=evidence.code_sha256,
            sources_sha256=run.sources_sha256,
            trained=all(seed.result.bundle_sha256 == evidence.code_sha256 for seed in evidence.seeds),
        ),
        hardware=run.device,
        pytorch_version=run.torch,
        python_version=run.python,
        compliance=compliance(evidence, track, results, bytes_total),
        against=leads_over(rivals, bpbs, evaluation, track),
        config=neutral(median.head.header.config),
    )


def seed_result(seed: SeedEvidence, evidence: Evidence) -> SeedResult:
    run = seed.result
    scoring_seconds = evidence.file.scoring.seconds
    if str(seed.seed) not in scoring_seconds:
        raise BadInput(f"evidence.json: scoring.seconds lacks seed {seed.seed}")
    return SeedResult(
        val_bpb=bits_per_byte(seed.nats, run.val_bytes),
        val_loss=seed.nats / run.val_tokens,
        pre_quant_val_bpb=run.float_bpb,
        steps=run.steps,
        train_seconds=run.train_seconds,
        calibration_seconds=run.calibration_seconds,
        eval_seconds=scoring_seconds[str(seed.seed)],
        bytes_model=seed.artifact_bytes,
        artifact=seed.artifact,
        artifact_sha256=seed.artifact_sha256,
    )


def median_seed(found: Sequence[SeedEvidence]) -> SeedEvidence:
    """By score; of two in the middle the lower."""
    ordered = sorted(found, key=lambda seed: (seed.nats, seed.seed))
    return ordered[(len(ordered) - 1) // 2]


def compliance(evidence: Evidence, track: Track, results: dict[str, SeedResult], bytes_total: int) -> dict[str, bool]:
    """What the evidence shows of the track's rules; causality and normalization are for the verifier's probes."""
    data = evidence.file.data
    slowest = max(result.eval_seconds for result in results.values())
    tokenizers = {seed.result.tokenizer_sha256 for seed in evidence.seeds} | {evidence.tokenizer_sha256}
    return {
        "bytes_within_cap": bytes_total <= track.cap_bytes,
        "training_within_limit": all(is_within_clock(seed, track) for seed in evidence.seeds),
        "evaluation_within_limit": not track.eval_seconds or slowest <= track.eval_seconds,
        "enough_seeds": len(results) >= track.seeds,
        "scored_without_network": evidence.file.scoring.network_cut,
        "tokenizer_in_artifact": tokenizers == {data.tokenizer_sha256},
        "no_document_on_both_sides": data.shared_documents == 0,
    }


def is_within_clock(seed: SeedEvidence, track: Track) -> bool:
    """With the grace of one step: the clock is looked at between steps."""
    over = budgeted_seconds(seed, track) - track.train_seconds
    return not track.train_seconds or over - last_step_seconds(seed) <= 0


def budgeted_seconds(seed: SeedEvidence, track: Track) -> float:
    """What counts against the track's `train_seconds`: training, and packing where that learns from training text."""
    run = seed.result
    if track.calibration == "apart" or not reads_training_text(seed.head.header.config):
        return run.train_seconds
    return run.train_seconds + run.calibration_seconds


def reads_training_text(config: dict[str, Any]) -> bool:
    """Whether packing under a run's config does; one that does not show it counts as if it did."""
    section = config.get("quant")
    if not isinstance(section, dict):
        return True
    try:
        quant: QuantConfig = build(QuantConfig, [Layer("the artifact's header", section)])
    except BadInput:
        return True
    return quant.reads_training_text


def last_step_seconds(seed: SeedEvidence) -> float:
    average = seed.result.train_seconds / max(seed.result.steps, 1)
    return max([average, *(row["step_s"] for row in seed.steps[-1:])])


def leads_over(rivals: Sequence[float], bpbs: Sequence[float], evaluation: Evaluation, track: Track) -> dict[str, Any]:
    """The lead over the row to beat, under the track's written rule and under the one that the contest enforces."""
    if not rivals:
        return {}
    ours = seeds(bpbs)
    theirs = seeds(rivals)
    margin = track.margin_nats / nats_per_bpb(evaluation.val_tokens, evaluation.val_bytes)
    rules = (Rule("written", margin, track.p), Rule("enforced", 0.0, ENFORCED_P))
    return {
        "bpb": list(rivals),
        "lead_bpb": theirs.mean - ours.mean,
        "verdicts": [asdict(lead(ours, theirs, rule)) for rule in rules],
    }


def neutral(config: dict[str, Any]) -> dict[str, Any]:
    """The config without a path of one machine."""
    data = config.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("path"), str):
        return config
    return {**config, "data": {**data, "path": neutral_path(data["path"])}}


def neutral_path(path: str) -> str:
    return f"data/datasets/{PurePosixPath(path).name}" if path.startswith("/") else path
