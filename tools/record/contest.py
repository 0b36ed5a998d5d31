"""The contest's own layout: its keys, its pull request, and what its rules still miss for a record. Pure.

openai/parameter-golf takes one new folder with README.md, submission.json, a log of each seed and train_gpt.py. The
artifact is not among its habits; it is shipped nevertheless, so that a reviewer can score it again.
"""

from collections.abc import Sequence
from typing import Any

from base.errors import BadInput
from tools.record.markdown import bpb, seconds, size, spread, table
from tools.record.page import checklist
from tools.record.schema import Submission
from tools.record.tracks import Track

TRACKS = ("track_10min_16mb", "track_non_record_16mb")


def require_contest_track(name: str) -> None:
    if name not in TRACKS:
        raise BadInput(f"--layout contest: the contest has no {name}; it has {' and '.join(TRACKS)}")


def contest_submission(submission: Submission) -> dict[str, Any]:
    """submission.json with the keys that its folders have in common, in the contest's spelling."""
    results, numbers = submission.seed_results, [str(seed) for seed in submission.seeds]
    return {
        "author": submission.author,
        "github_id": submission.github_id,
        "name": submission.name,
        "blurb": submission.blurb,
        "date": submission.date,
        "track": submission.track.removeprefix("track_"),
        "val_loss": submission.val_loss,
        "val_bpb": submission.val_bpb,
        "val_loss_std": submission.val_loss_std,
        "val_bpb_std": submission.val_bpb_std,
        "seeds": list(submission.seeds),
        "seed_results": {
            number: {
                "val_loss": results[number].val_loss,
                "val_bpb": results[number].val_bpb,
                "pre_quant_val_bpb": results[number].pre_quant_val_bpb,
                "artifact_bytes": results[number].bytes_model,
                "artifact_sha256": results[number].artifact_sha256,
                "steps": results[number].steps,
                "train_time_seconds": results[number].train_seconds,
                "calibration_time_seconds": results[number].calibration_seconds,
                "eval_time_seconds": results[number].eval_seconds,
            }
            for number in numbers
        },
        "bytes_total": submission.bytes_total,
        "bytes_code": submission.bytes_code,
        "hardware": submission.hardware,
        "pytorch_version": submission.pytorch_version,
        "technique_summary": submission.technique_summary,
        "compliance": submission.compliance,
    }


def misses(submission: Submission, track: Track) -> list[str]:
    """What the contest's written rules ask for and this record does not show."""
    results, ranked, found = submission.seed_results.values(), track.ranked, list[str]()
    if submission.bytes_total > track.cap_bytes:
        found.append(f"size: {size(submission.bytes_total)} bytes are over the {size(track.cap_bytes)}")
    if not submission.author or not submission.github_id or not submission.blurb:
        found.append("who and what: give --author, --github-id and --blurb")
    if not submission.compliance["scored_without_network"]:
        found.append("network: this kernel did not let it be cut; score again where `unshare` may")
    if not ranked:
        return found
    name = submission.hardware
    if not (name.startswith(f"{track.devices} x cuda") and "H100" in name):
        found.append(f"hardware: trained on {name}; the rule is {track.hardware}")
    used = max(r.train_seconds + r.calibration_seconds * (track.calibration == "inside") for r in results)
    if used > track.train_seconds:
        found.append(f"training time: {seconds(used)} s with calibration; the budget is {track.train_seconds:g} s")
    slowest = max(r.eval_seconds for r in results)
    if slowest > track.eval_seconds:
        found.append(f"evaluation time: {seconds(slowest)} s; the budget is {track.eval_seconds:g} s")
    if not submission.data.name.startswith(track.data):
        found.append(f"data: scored on {submission.data.name}; the contest's is {track.data} (python -m data.contest)")
    if len(results) < track.seeds:
        found.append(f"seeds: {len(results)}; the lead is to be shown on {track.seeds}")
    return found + _unproved(submission, track)


def _unproved(submission: Submission, track: Track) -> list[str]:
    rule = f"{track.margin_nats:g} nats at p < {track.p:g}"
    against = submission.notes.get("against")
    if not against:
        return [f"significance: give the best row's score as --against BPB...; the lead must be {rule}"]
    for tested in against["verdicts"]:
        if tested["rule"] == "written" and tested["holds"]:
            return []
        if tested["rule"] == "written":
            more = tested["seeds_needed"]
            hope = f"; more seeds like these that it takes: {more}" if more else ""
            return [f"significance: a lead of {bpb(against['lead_bpb'])} has p = {tested['p']:.3g}, not {rule}{hope}"]
    return [f"significance: one seed has no spread; the lead must be {rule}"]


def pull_request(submission: Submission, folder: str, missing: Sequence[str], ranked: bool) -> str:
    """Title in the first line, text after it, as the contest's pull requests are written."""
    kind = "Record" if ranked and not missing else "Non-record" if not ranked else "Draft"
    mean = f"{submission.val_bpb:.4f}"
    told = "1 seed" if len(submission.seeds) == 1 else f"{len(submission.seeds)}-seed mean"
    results = [(str(seed), submission.seed_results[str(seed)]) for seed in submission.seeds]
    rows = [
        (seed, size(r.steps), bpb(r.pre_quant_val_bpb), f"**{bpb(r.val_bpb)}**", bpb(r.val_loss), size(r.bytes_model))
        for seed, r in results
    ]
    rows.append(("mean", "", "", f"**{bpb(submission.val_bpb)}** ({spread(submission.val_bpb_std)})",
                 bpb(submission.val_loss), ""))  # fmt: skip
    head = ("seed", "steps", "pre-quant bpb", "val_bpb", "val_loss", "artifact, bytes")
    parts = [
        f"{kind}: {submission.name} (val_bpb: {mean}, {told})",
        "## Summary",
        *([submission.blurb] if submission.blurb else []),
        f"- val_bpb **{mean}** ({told}), {size(submission.bytes_total)} bytes: code {size(submission.bytes_code)}, "
        f"largest artifact {size(submission.bytes_model)}\n- {submission.technique_summary}\n- {submission.hardware}, "
        f"PyTorch {submission.pytorch_version}, {submission.data.name}",
        "## Results",
        table(head, rows),
        "## Compliance",
        checklist(submission),
        "- C1 causal, C2 a normalised distribution, C3 score before update (nothing is updated), C4 one pass: "
        "what keeps and what proves each is in the README",
        "## Check it",
        f"`model.golf` is in `{folder}`, so that the score can be measured again without training:\n\n"
        "```sh\npip install -r requirements.txt\npython -I train_gpt.py --score model.golf --data DIR --json\n```",
        *(["## Still missing\n\n" + "\n".join(f"- {miss}" for miss in missing)] if missing else []),
    ]
    return "\n\n".join(parts) + "\n"
