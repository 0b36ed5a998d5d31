"""The claim -> the record's README.md. Pure, and nothing on the page that is not in submission.json."""

from tools.record.schema import Submission


def page(claim: Submission) -> str:
    rule = claim.evaluation
    data_path = claim.config.get("data", {}).get("path", "data/datasets/NAME")
    version = f"  # Python {claim.data.python}: another version is another corpus" if claim.data.python else ""
    ran = "this `train_gpt.py`" if claim.code.trained else "the modules that this `train_gpt.py` is made of"
    return f"""\
# {claim.name}: {claim.val_bpb:.5f} bits per byte in {claim.bytes_total:,} bytes

`{claim.track}`, {claim.date}{author(claim)}. Data: {claim.data.name}. Score: {mean_of_seeds(claim)}, \
{spread(claim.val_bpb_std)}, measured from the shipped artifacts with the shipped code.

{paragraphs(claim.blurb, claim.technique_summary)}\
## Results

{results(claim)}

Training is the loop's own clock; scoring is the complete process of the single file. `model.golf` is seed \
{claim.median_seed}'s, the median.

![losses of training and validation](figures/loss.png)

{paragraphs(significance(claim))}\
## Evaluation

Sliding windows of {rule.context:,} tokens, {rule.stride:,} new targets each, over the complete validation side: \
{rule.val_tokens:,} targets, {rule.val_bytes:,} bytes, {claim.data.val_documents:,} documents. Bits per byte = nats / \
ln 2 / bytes, summed in float64; a document's BOS is charged and has no bytes. The contest's convention counts \
{rule.contest_bytes:,} bytes.

{paragraphs(adaptation(claim), precision(claim))}\
![loss by position in the document and in the window](figures/position.png)

## Compliance

{checklist(claim)}

The four conditions; `python -m tools.verify` runs the probes and decodes a sample with the arithmetic coder.

| condition | what keeps it | probes that prove it |
| --- | --- | --- |
| C1: a prediction depends on the artifact and the tokens before it, on nothing else | attention is causal, a window \
holds its own tokens only | `flip`, `suffix`, `truncation`, `coins` |
| C2: a normalized distribution over the complete vocabulary is fixed before the token is seen | \
{normalization(claim)} | `normalised`, `coins`, `codec` |
| C3: a token is scored before anything is learned from it | {learning(claim)} | `repeat`, `codec` |
| C4: one pass from left to right, no token scored twice | every target has a counter, and a score exists only where \
each is 1 | `coverage`, `truncation` |

## Bytes

Of the files on disk; {claim.params:,} parameters.

|  | bytes |
| --- | ---: |
| code (`train_gpt.py`) | {claim.bytes_code:,} |
| artifact, the largest seed's | {claim.bytes_model:,} |
| **total** | **{claim.bytes_total:,}** |
| cap of `{claim.track}` | {claim.cap_bytes:,} |
| tokenizer, contained in the artifact | {claim.bytes_tokenizer:,} |

![the artifact's bytes](figures/bytes.png)

## Reproduce

The runs ran {ran} on {claim.hardware}, with Python {claim.python_version} and PyTorch {claim.pytorch_version}. \
`submission.json` has their configuration and the hashes of data, tokenizer and code.

```sh
# in a checkout of the project: the data, and a check of everything here
{claim.data.prep}{version}
python -m tools.verify FOLDER --data {data_path}

# in this folder, with nothing else of the project: score what is shipped, train again
pip install -r requirements.txt && DATA=../../../{data_path}
for artifact in model*.golf; do python -I train_gpt.py --score $artifact --data "$DATA" --json; done
for seed in {" ".join(claim.seed_results)}; do
  python -I train_gpt.py seed=$seed data.path="$DATA" --name seed$seed
done
```
"""


def adaptation(claim: Submission) -> str:
    adapt = claim.evaluation.adapt
    return "" if adapt is None else f"The score adapts ({adapt}): {learning(claim)}."


def precision(claim: Submission) -> str:
    if claim.evaluation.precision == "fp32":
        return ""
    return "Matrix products are computed in bf16 (autocast); softmax, losses and sums in fp32 or wider."


def learning(claim: Submission) -> str:
    if claim.evaluation.adapt is None:
        return "the scorer learns nothing: its weights are the artifact's"
    return "each target is scored first, then learned from"


def normalization(claim: Submission) -> str:
    adapt = claim.evaluation.adapt
    if adapt is not None and adapt.kind == "mix":
        return "a token's probability is the product of answers along its path in a binary tree, averaged over trees"
    return "the loss is `cross_entropy` over the vocabulary"


def paragraphs(*texts: str) -> str:
    return "".join(f"{text}\n\n" for text in texts if text)


def spread(std: float | None) -> str:
    return "one seed" if std is None else f"± {std:.5f}"


def mean_of_seeds(claim: Submission) -> str:
    return "one seed" if len(claim.seeds) == 1 else f"{len(claim.seeds)}-seed mean"


def author(claim: Submission) -> str:
    name = f" by {claim.author}" if claim.author else ""
    return f"{name} ([{claim.github_id}](https://github.com/{claim.github_id}))" if claim.github_id else name


def results(claim: Submission) -> str:
    before = "bpb before packing" if claim.evaluation.adapt is None else "plain bpb before packing"
    lines = [
        f"| seed | steps | training, s | packing, s | scoring, s | {before} | nats per token | bits per byte "
        "| artifact, bytes |",
        "| --- |" + " ---: |" * 8,
    ]
    for seed, each in claim.seed_results.items():
        lines.append(
            f"| {seed} | {each.steps:,} | {each.train_seconds:,.1f} | {each.calibration_seconds:,.1f} "
            f"| {each.eval_seconds:,.1f} | {each.pre_quant_val_bpb:.5f} | {each.val_loss:.5f} | **{each.val_bpb:.5f}** "
            f"| {each.bytes_model:,} |"
        )
    if len(claim.seeds) > 1:
        blank = "|  |  |  |  |  |"
        lines.append(f"| mean {blank} {claim.val_loss:.5f} | **{claim.val_bpb:.5f}** |  |")
        lines.append(f"| std {blank} {spread(claim.val_loss_std)} | {spread(claim.val_bpb_std)} |  |")
    return "\n".join(lines)


def significance(claim: Submission) -> str:
    if not claim.against:
        return ""
    rivals = ", ".join(f"{bpb:.5f}" for bpb in claim.against["bpb"])
    lines = [
        f"## Significance\n\nAgainst {rivals}: a lead of {claim.against['lead_bpb']:.5f} bits per byte.\n",
        "| rule | margin, bpb | p | p needed | proved |",
        "| --- |" + " ---: |" * 4,
    ]
    for found in claim.against["verdicts"]:
        p = "" if found["p"] is None else f"{found['p']:.3g}"
        is_proved = "yes" if found["holds"] else "no"
        lines.append(f"| {found['rule']} | {found['margin']:.5f} | {p} | {found['p_needed']:g} | {is_proved} |")
    return "\n".join(lines)


def checklist(claim: Submission) -> str:
    return "\n".join(f"- [{'x' if kept else ' '}] {name.replace('_', ' ')}" for name, kept in claim.compliance.items())
