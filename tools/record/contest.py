"""The contest's own layout: its keys, its pull request, and what its rules still miss for a claim. Pure.

openai/parameter-golf takes one new folder with README.md, submission.json, a log per seed and train_gpt.py. An artifact
is not customary there; it is shipped nevertheless, so that a reviewer can score it.
"""

from collections.abc import Sequence
from typing import Any

from base.errors import BadInput
from tools.record.page import by_seed, checklist, mean_of_seeds, spread, table
from tools.record.schema import Submission, Track

TRACKS = ("track_10min_16mb", "track_non_record_16mb")


def require_contest_track(name: str) -> None:
    if name not in TRACKS:
        raise BadInput(f"--layout contest: the contest has no {name}; it has {' and '.join(TRACKS)}")


def contest_submission(claim: Submission) -> dict[str, Any]:
    """submission.json in the contest's spelling."""
    return {
        "author": claim.author,
        "github_id": claim.github_id,
        "name": claim.name,
        "blurb": claim.blurb,
        "date": claim.date,
        "track": claim.track.removeprefix("track_"),
        "val_loss": claim.val_loss,
        "val_bpb": claim.val_bpb,
        "val_loss_std": claim.val_loss_std,
        "val_bpb_std": claim.val_bpb_std,
        "seeds": list(claim.seeds),
        "seed_results": {
            seed: {
                "val_loss": result.val_loss,
                "val_bpb": result.val_bpb,
                "pre_quant_val_bpb": result.pre_quant_val_bpb,
                "artifact_bytes": result.bytes_model,
                "artifact_sha256": result.artifact_sha256,
                "steps": result.steps,
                "train_time_seconds": result.train_seconds,
                "calibration_time_seconds": result.calibration_seconds,
                "eval_time_seconds": result.eval_seconds,
            }
            for seed, result in by_seed(claim)
        },
        "bytes_total": claim.bytes_total,
        "bytes_code": claim.bytes_code,
        "hardware": claim.hardware,
        "pytorch_version": claim.pytorch_version,
        "technique_summary": claim.technique_summary,
        "compliance": claim.compliance,
    }


def missing_for_contest(claim: Submission, track: Track) -> list[str]:
    """What the contest's written rules require and this record does not show."""
    results, found = claim.seed_results.values(), []
    if claim.bytes_total > track.cap_bytes:
        found.append(f"size: {claim.bytes_total:,} bytes are over the {track.cap_bytes:,}")
    if not (claim.author and claim.github_id and claim.blurb):
        found.append("who and what: give --author, --github-id and --blurb")
    if not claim.compliance["scored_without_network"]:
        found.append("network: this kernel did not let it be cut; score again where `unshare` may")
    if not track.ranked:
        return found
    if not (claim.hardware.startswith(f"{track.devices} x cuda") and "H100" in claim.hardware):
        found.append(f"hardware: trained on {claim.hardware}; the rule is {track.hardware}")
    used = max(track.budgeted_seconds(result.train_seconds, result.calibration_seconds) for result in results)
    if used > track.train_seconds:
        found.append(f"training time: {used:,.1f} s with calibration; the budget is {track.train_seconds:g} s")
    slowest = max(result.eval_seconds for result in results)
    if slowest > track.eval_seconds:
        found.append(f"evaluation time: {slowest:,.1f} s; the budget is {track.eval_seconds:g} s")
    if not claim.data.name.startswith(track.data):
        found.append(f"data: scored on {claim.data.name}; the contest's is {track.data} (python -m data.contest)")
    if len(claim.seeds) < track.seeds:
        found.append(f"seeds: {len(claim.seeds)}; the lead is to be shown on {track.seeds}")
    return found + _unproved(claim, track)


def _unproved(claim: Submission, track: Track) -> list[str]:
    rule = f"{track.margin_nats:g} nats at p < {track.p:g}"
    if not claim.against:
        return [f"significance: give the best row's score as --against BPB...; the lead must be {rule}"]
    written = claim.against["verdicts"][0]
    if written["holds"]:
        return []
    if written["p"] is None:
        return [f"significance: one seed has no spread; the lead must be {rule}"]
    more = f"; seeds like these that it still takes: {written['seeds_needed']}" if written["seeds_needed"] else ""
    return [f"significance: a lead of {claim.against['lead_bpb']:.5f} has p = {written['p']:.3g}, not {rule}{more}"]


def pull_request(claim: Submission, folder: str, missing: Sequence[str], ranked: bool) -> str:
    """Title in the first line, text after it, as the contest's pull requests are written."""
    kind = "Non-record"
    if ranked:
        kind = "Draft" if missing else "Record"
    score = f"{claim.val_bpb:.4f}"
    rows = [
        (
            seed,
            f"{result.steps:,}",
            f"{result.pre_quant_val_bpb:.5f}",
            f"**{result.val_bpb:.5f}**",
            f"{result.val_loss:.5f}",
            f"{result.bytes_model:,}",
        )
        for seed, result in by_seed(claim)
    ]
    rows.append(("mean", "", "", f"**{claim.val_bpb:.5f}** ({spread(claim.val_bpb_std)})", f"{claim.val_loss:.5f}", ""))
    head = ("seed", "steps", "pre-quant bpb", "val_bpb", "val_loss", "artifact, bytes")
    summary = [
        f"- val_bpb **{score}** ({mean_of_seeds(claim)}), {claim.bytes_total:,} bytes: code {claim.bytes_code:,}, "
        f"largest artifact {claim.bytes_model:,}",
        f"- {claim.technique_summary}",
        f"- {claim.hardware}, PyTorch {claim.pytorch_version}, {claim.data.name}",
    ]
    parts = [
        f"{kind}: {claim.name} (val_bpb: {score}, {mean_of_seeds(claim)})",
        "## Summary",
        claim.blurb,
        "\n".join(summary),
        "## Results",
        table(head, rows),
        "## Compliance",
        checklist(claim),
        "- C1 causal, C2 a normalized distribution, C3 score before update (nothing is updated), C4 one pass: what "
        "keeps and what proves each is in the README",
        "## Check it",
        f"`model.golf` is in `{folder}`, so that the score can be measured again without training:\n\n"
        "```sh\npip install -r requirements.txt\npython -I train_gpt.py --score model.golf --data DIR --json\n```",
    ]
    if missing:
        parts.append("## Still missing\n\n" + "\n".join(f"- {miss}" for miss in missing))
    return "\n\n".join(part for part in parts if part) + "\n"
