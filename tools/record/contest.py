"""The contest's own layout: its keys, its pull request, and what its rules still miss for a claim. Pure.

openai/parameter-golf takes one new folder with README.md, submission.json, a log per seed and train_gpt.py. An artifact
is not customary there; it is shipped nevertheless, so that a reviewer can score it.
"""

from collections.abc import Sequence
from typing import Any

from base.config import to_dict
from data.contest import VAL_BYTES
from tools.record.page import checklist, learning, mean_of_seeds, paragraphs, results
from tools.record.schema import Submission, Track

CONTEST_TRACKS = ("track_10min_16mb", "track_non_record_16mb")


def contest_submission(claim: Submission) -> dict[str, Any]:
    """submission.json where the contest spells a key differently; it has no schema of its own."""
    values = to_dict(claim)
    del values["schema"]
    values["track"] = claim.track.removeprefix("track_")
    for result in values["seed_results"].values():
        result["artifact_bytes"] = result.pop("bytes_model")
    return values


def missing_for_contest(claim: Submission, track: Track) -> list[str]:
    """What the contest's written rules require and this record does not show."""
    found = [f"{name.replace('_', ' ')}: no" for name, kept in claim.compliance.items() if not kept]
    if not (claim.author and claim.github_id and claim.blurb):
        found.append("who and what: give --author, --github-id and --blurb")
    if not track.ranked:
        return found
    if not (claim.hardware.startswith(f"{track.devices} x cuda") and "H100" in claim.hardware):
        found.append(f"hardware: trained on {claim.hardware}; the rule is {track.hardware}")
    if not claim.data.name.startswith(track.data):
        found.append(f"data: scored on {claim.data.name}; the contest's is {track.data} (python -m data.contest)")
    elif claim.evaluation.contest_bytes != VAL_BYTES:
        found.append(f"data: scored on {claim.evaluation.contest_bytes:,} bytes; the contest's are {VAL_BYTES:,}")
    rule = f"{track.margin_nats:g} nats at p < {track.p:g}"
    if not claim.against:
        found.append(f"significance: give the best row's score as --against BPB...; the lead must be {rule}")
    elif not claim.against["verdicts"][0]["holds"]:
        p = claim.against["verdicts"][0]["p"]
        shown = "one seed has no spread" if p is None else f"p = {p:.3g}"
        found.append(f"significance: a lead of {claim.against['lead_bpb']:.5f}, {shown}; it must be {rule}")
    return found


def pull_request(claim: Submission, folder: str, missing: Sequence[str], is_ranked: bool) -> str:
    """Title in the first line, text after it, as the contest's pull requests are written."""
    kind = "Non-record"
    if is_ranked:
        kind = "Draft" if missing else "Record"
    still_missing = "\n".join(["## Still missing\n", *(f"- {miss}" for miss in missing)]) if missing else ""
    data = claim.config["data"]["path"]
    return f"""\
{kind}: {claim.name} (val_bpb: {claim.val_bpb:.4f}, {mean_of_seeds(claim)})

## Summary

{paragraphs(claim.blurb)}\
- val_bpb **{claim.val_bpb:.4f}** ({mean_of_seeds(claim)}), {claim.bytes_total:,} bytes: code {claim.bytes_code:,}, \
largest artifact {claim.bytes_model:,}
- {claim.technique_summary}
- {claim.hardware}, PyTorch {claim.pytorch_version}, {claim.data.name}

## Results

{results(claim)}

## Compliance

{checklist(claim)}

- C1 causal, C2 a normalized distribution, C3 score before update ({learning(claim)}), C4 one pass: what keeps and \
what proves each is in the README

{paragraphs(still_missing)}\
## Run it

`train_gpt.py` runs alone where `./{data}` has the published shards and `./data/tokenizers` their tokenizer, as they
were downloaded. It trains, packs and scores:

```sh
pip install -r requirements.txt
torchrun --standalone --nproc_per_node={claim.hardware.partition(" ")[0]} train_gpt.py
```

`model.golf` is in `{folder}`, so that the score can be measured again without training:

```sh
python -I train_gpt.py --score model.golf --data {data} --json
```
"""
