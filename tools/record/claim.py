"""Runs and what was measured of them -> the Submission: every number of a record, derived once. Pure.

    submission = claim(seeds, Circumstances(...))

The README, the figures' titles, the contest's own keys and the answer of the command are all spelled from it.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from base.errors import BadInput, CheckFailed
from data.manifest import Manifest
from eval.stats import ENFORCED_P, Rule, lead, nats_per_bpb, seeds
from quant.format import Contents, read_artifact
from tools.record.describe import STDLIB, dataset_name, described, neutral, prep_command, public_source, technique
from tools.record.runs import Run
from tools.record.schema import Data, Evaluation, SeedResult, Submission
from tools.record.scoring import ARTIFACT, Scored
from tools.record.tracks import Track

AGREE = 1e-6  # relative: the single file's score and the run's own; they are the same arithmetic


@dataclass(frozen=True)
class Seed:
    """One run and the single file's own score of its artifact."""

    run: Run
    scored: Scored

    @property
    def number(self) -> int:
        return self.run.config.seed


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What no run knows: whose record it is, where it is entered, what it ran on and was scored with."""

    name: str
    author: str
    github_id: str
    date: str
    blurb: str
    track: Track
    track_version: int
    code_bytes: int
    code_sha256: str
    packed: bool
    manifest: Manifest
    network_cut: bool
    against: tuple[float, ...] = ()


def agreed(seed: Seed) -> Seed:
    """Refuses what the shipped code does not score as the run did."""
    ours, theirs = seed.scored.bpb, seed.run.result.packed_bpb
    if not math.isclose(ours, theirs, rel_tol=AGREE):
        raise CheckFailed(
            f"{seed.run.folder}: the single file scores its artifact at {ours:.8f} bits a byte, the run said "
            f"{theirs:.8f}: not within {AGREE:g} of each other; score on the device of the run, or train it again"
        )
    return seed


def median(found: Sequence[Seed]) -> Seed:
    """By score; of two in the middle the lower."""
    return sorted(found, key=lambda seed: (seed.scored.bpb, seed.number))[(len(found) - 1) // 2]


def artifact_names(found: Sequence[Seed]) -> dict[int, str]:
    """Seed -> its artifact's file in the record."""
    middle = median(found).number
    return {
        seed.number: ARTIFACT if seed.number == middle else f"model_seed{seed.number}.golf"
        for seed in sorted(found, key=lambda seed: seed.number)
    }


def require_budget(runs: Sequence[Run], code_bytes: int, track: Track) -> None:
    """The track's cap on bytes and its clock of training, before anything is scored."""
    for run in runs:
        total = code_bytes + run.artifact.stat().st_size
        if total > track.cap_bytes:
            raise BadInput(
                f"{run.folder}: code {code_bytes:,} + artifact {total - code_bytes:,} = {total:,} bytes, "
                f"{total - track.cap_bytes:,} over the {track.cap_bytes:,} of {track.name}; lower quant.cap_bytes by "
                "that, or drop --readable"
            )
        if not within_training(run, track):
            raise BadInput(
                f"{run.folder}: {_training_seconds(run, track):.1f} s of training are over the {track.train_seconds:g} "
                f"of {track.name} by more than a step; enter it on track_non_record_16mb"
            )


def within_training(run: Run, track: Track) -> bool:
    allowed = track.train_seconds + run.last_step_seconds
    return not track.train_seconds or _training_seconds(run, track) <= allowed


def _training_seconds(run: Run, track: Track) -> float:
    return run.result.train_seconds + run.result.calibration_seconds * (track.calibration == "inside")


def claim(found: Sequence[Seed], told: Circumstances) -> Submission:
    found = sorted((agreed(seed) for seed in found), key=lambda seed: seed.number)
    names, middle = artifact_names(found), median(found)
    bpb, loss = seeds([seed.scored.bpb for seed in found]), seeds([seed.scored.nats_per_token for seed in found])
    largest = max(seed.run.artifact.stat().st_size for seed in found)
    result, scored = middle.run.result, middle.scored
    return Submission(
        name=told.name,
        author=told.author,
        github_id=told.github_id,
        date=told.date,
        blurb=told.blurb,
        track=told.track.name,
        track_version=told.track_version,
        val_bpb=bpb.mean,
        val_bpb_std=bpb.std,
        val_loss=loss.mean,
        val_loss_std=loss.std,
        seeds=tuple(seed.number for seed in found),
        seed_results={str(seed.number): _seed_result(seed, names[seed.number]) for seed in found},
        bytes_total=told.code_bytes + largest,
        bytes_code=told.code_bytes,
        bytes_model=largest,
        bytes_tokenizer=len(_contents(middle).tokenizer),
        cap_bytes=told.track.cap_bytes,
        params=result.params,
        evaluation=Evaluation(
            stride=scored.stride,
            context=scored.context,
            val_tokens=scored.tokens,
            val_bytes=scored.bytes,
            contest_bytes=scored.contest_bytes,
        ),
        data=_data(middle.run, told.manifest),
        hardware=result.device,
        pytorch_version=result.torch,
        python_version=result.python,
        compliance=_compliance(found, told, told.code_bytes + largest),
        technique_summary=technique(middle.run.config),
        notes={
            "median_seed": middle.number,
            "code": {"packed": told.packed, "sha256": told.code_sha256, "trained": _trained(found, told)},
            "limits": {
                "train_seconds": told.track.train_seconds,
                "calibration_inside": told.track.calibration == "inside",
                "eval_seconds": told.track.eval_seconds,
                "seeds": told.track.seeds,
            },
            "val_documents": told.manifest.val.documents,
            "prep": prep_command(told.manifest, neutral(middle.run.config).data.path),
            **described(middle.run.config, _contents(middle)),
            **_against(found, told),
        },
    )


def _seed_result(seed: Seed, artifact: str) -> SeedResult:
    result, scored = seed.run.result, seed.scored
    return SeedResult(
        val_bpb=scored.bpb,
        val_loss=scored.nats_per_token,
        pre_quant_val_bpb=result.val_bpb,
        steps=result.steps,
        train_seconds=result.train_seconds,
        calibration_seconds=result.calibration_seconds,
        eval_seconds=scored.seconds,
        bytes_model=seed.run.artifact.stat().st_size,
        artifact=artifact,
        artifact_sha256=result.artifact_sha256,
        log=f"train_seed{seed.number}.log",
        metrics=f"metrics_seed{seed.number}.jsonl",
    )


def _data(run: Run, manifest: Manifest) -> Data:
    ours = manifest.source == STDLIB
    return Data(
        name=dataset_name(manifest, run.result.python),
        source=public_source(manifest),
        sha256=run.result.data_sha256,
        val_sha256=run.result.val_sha256,
        tokenizer_sha256=run.result.tokenizer_sha256,
        python=run.result.python if ours else "",
    )


def _compliance(found: Sequence[Seed], told: Circumstances, total: int) -> dict[str, bool]:
    """Only what was measured here; what probes and the codec prove is the verifier's to say."""
    track, manifest = told.track, told.manifest
    tokenizers = {hashlib.sha256(_contents(seed).tokenizer).hexdigest() for seed in found}
    return {
        "bytes_within_cap": total <= track.cap_bytes,
        "training_within_limit": all(within_training(seed.run, track) for seed in found),
        "evaluation_within_limit": all(
            not track.eval_seconds or seed.scored.seconds <= track.eval_seconds for seed in found
        ),
        "enough_seeds": len(found) >= track.seeds,
        "every_target_scored_once": all(seed.scored.tokens == manifest.val.tokens - 1 for seed in found),
        "scored_without_network": told.network_cut,
        "tokenizer_in_artifact": tokenizers == {manifest.tokenizer.sha256},
        "no_document_on_both_sides": manifest.shared_documents == 0,
    }


def _contents(seed: Seed) -> Contents:
    return read_artifact(seed.run.artifact.read_bytes())


def _trained(found: Sequence[Seed], told: Circumstances) -> str:
    """Who trained: this very file, or modules with the same hashes."""
    return "this file" if all(seed.run.result.bundle_sha256 == told.code_sha256 for seed in found) else "its sources"


def _against(found: Sequence[Seed], told: Circumstances) -> dict[str, Any]:
    """The track's own test of a lead and the contest's enforced one; one seed can lead, and prove nothing."""
    if not told.against:
        return {}
    scored, ours, rival = found[0].scored, seeds([seed.scored.bpb for seed in found]), seeds(told.against)
    margin = told.track.margin_nats / nats_per_bpb(scored.tokens, scored.bytes)
    rules = (Rule("written", margin, told.track.p), Rule("enforced", 0.0, ENFORCED_P)) if len(found) > 1 else ()
    tested = [asdict(lead(ours, rival, rule)) for rule in rules]
    return {"against": {"bpb": list(told.against), "lead_bpb": rival.mean - ours.mean, "margin_bpb": margin,
                        "verdicts": tested}}  # fmt: skip
