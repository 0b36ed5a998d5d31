"""The claim -> the record's README.md. Pure, and nothing on the page that is not in submission.json."""

from collections.abc import Iterable, Sequence

from tools.record.schema import SeedResult, Submission

# Condition, what keeps it, the probes of eval.probe that prove it: the field's own case law.
CONDITIONS = (
    ("C1: a prediction depends on the artifact and the tokens before it, on nothing else",
     "attention is causal, a window holds its own tokens only", "`flip`, `suffix`, `truncation`, `coins`"),
    ("C2: a normalized distribution over the complete vocabulary is fixed before the token is seen",
     "the loss is `cross_entropy` over the vocabulary", "`normalised`, `coins`, `codec`"),
    ("C3: a token is scored before anything is learned from it",
     "the scorer learns nothing: its weights are the artifact's", "`repeat`, `codec`"),
    ("C4: one pass from left to right, no token scored twice",
     "every target has a counter, and a score exists only where each is 1", "`coverage`, `truncation`"),
)  # fmt: skip


def page(claim: Submission) -> str:
    sections = [
        head(claim),
        results(claim),
        significance(claim),
        configuration(claim),
        evaluation(claim),
        compliance(claim),
        bytes_of(claim),
        reproduce(claim),
        environment(claim),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """The first `left` columns are text, the others numbers."""
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows))


def by_seed(claim: Submission) -> list[tuple[str, SeedResult]]:
    return [(str(seed), claim.seed_results[str(seed)]) for seed in claim.seeds]


def spread(std: float | None) -> str:
    return "one seed" if std is None else f"± {std:.5f}"


def mean_of_seeds(claim: Submission) -> str:
    return "one seed" if len(claim.seeds) == 1 else f"{len(claim.seeds)}-seed mean"


def head(claim: Submission) -> str:
    author = f" by {claim.author}" if claim.author else ""
    if claim.github_id:
        author += f" ([{claim.github_id}](https://github.com/{claim.github_id}))"
    lines = [
        f"# {claim.name}: {claim.val_bpb:.5f} bits per byte in {claim.bytes_total:,} bytes",
        f"`{claim.track}`, {claim.date}{author}. Data: {claim.data.name}. Score: {mean_of_seeds(claim)}, "
        f"{spread(claim.val_bpb_std)}, measured from the shipped artifacts with the shipped code.",
        claim.blurb,
        claim.technique_summary,
    ]
    return "\n\n".join(line for line in lines if line)


def results(claim: Submission) -> str:
    rows = [
        (
            seed,
            f"{result.steps:,}",
            f"{result.train_seconds:,.1f}",
            f"{result.calibration_seconds:,.1f}",
            f"{result.eval_seconds:,.1f}",
            f"{result.pre_quant_val_bpb:.5f}",
            f"{result.val_loss:.5f}",
            f"**{result.val_bpb:.5f}**",
            f"{result.bytes_model:,}",
        )
        for seed, result in by_seed(claim)
    ]
    if len(rows) > 1:
        blank = ("",) * 4
        rows.append(("mean", *blank, "", f"{claim.val_loss:.5f}", f"**{claim.val_bpb:.5f}**", ""))
        rows.append(("std", *blank, "", spread(claim.val_loss_std), spread(claim.val_bpb_std), ""))
    columns = ("seed", "steps", "training, s", "packing, s", "scoring, s", "bpb before packing", "nats per token",
               "bits per byte", "artifact, bytes")  # fmt: skip
    return (
        f"## Results\n\n{table(columns, rows)}\n\nTraining is the loop's own clock; scoring is the complete process of "
        f"the single file. `model.golf` is seed {claim.median_seed}'s, the median.\n\n"
        "![losses of training and validation](figures/loss.png)"
    )


def significance(claim: Submission) -> str:
    if not claim.against:
        return ""
    rivals = ", ".join(f"{bpb:.5f}" for bpb in claim.against["bpb"])
    rows = [
        (
            verdict["rule"],
            f"{verdict['margin']:.5f}",
            "" if verdict["p"] is None else f"{verdict['p']:.3g}",
            f"{verdict['p_needed']:g}",
            "yes" if verdict["holds"] else "no",
        )
        for verdict in claim.against["verdicts"]
    ]
    lead = f"Against {rivals}: a lead of {claim.against['lead_bpb']:.5f} bits per byte."
    return f"## Significance\n\n{lead}\n\n{table(('rule', 'margin, bpb', 'p', 'p needed', 'proved'), rows)}"


def configuration(claim: Submission) -> str:
    """Every value of the run's config, one row per section."""
    rows = [
        (f"`{section}`", ", ".join(f"{key} {_value(value)}" for key, value in values.items()))
        for section, values in claim.config.items()
        if isinstance(values, dict)
    ]
    return (
        f"## Configuration\n\n{claim.params:,} parameters.\n\n{table(('section', 'values'), rows, 2)}\n\n"
        "![the artifact's bytes](figures/bytes.png)"
    )


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return '""' if value == "" else str(value)


def evaluation(claim: Submission) -> str:
    rule = claim.evaluation
    return (
        f"## Evaluation\n\nSliding windows of {rule.context:,} tokens, {rule.stride:,} new targets each, over the "
        f"complete validation side: {rule.val_tokens:,} targets, {rule.val_bytes:,} bytes, "
        f"{claim.data.val_documents:,} documents. Bits per byte = nats / ln 2 / bytes, summed in float64; a document's "
        f"BOS is charged and has no bytes. The contest's convention counts {rule.contest_bytes:,} bytes.\n\n"
        "![loss by position in the document and in the window](figures/position.png)"
    )


def compliance(claim: Submission) -> str:
    return (
        f"## Compliance\n\n{checklist(claim)}\n\nThe four conditions; `python -m tools.verify` runs the probes and "
        "decodes a sample with the arithmetic coder.\n\n"
        f"{table(('condition', 'what keeps it', 'probes that prove it'), CONDITIONS, 3)}"
    )


def checklist(claim: Submission) -> str:
    return "\n".join(f"- [{'x' if kept else ' '}] {name.replace('_', ' ')}" for name, kept in claim.compliance.items())


def bytes_of(claim: Submission) -> str:
    rows = [
        ("code (`train_gpt.py`)", f"{claim.bytes_code:,}"),
        ("artifact, the largest seed's", f"{claim.bytes_model:,}"),
        ("**total**", f"**{claim.bytes_total:,}**"),
        (f"cap of `{claim.track}`", f"{claim.cap_bytes:,}"),
        ("tokenizer, contained in the artifact", f"{claim.bytes_tokenizer:,}"),
    ]
    return f"## Bytes\n\nOf the files on disk.\n\n{table(('', 'bytes'), rows)}"


def reproduce(claim: Submission) -> str:
    path = claim.config.get("data", {}).get("path", "data/datasets/NAME")
    version = f"  # Python {claim.data.python}: another version is another corpus" if claim.data.python else ""
    ran = "this `train_gpt.py`" if claim.code.trained else "the modules that this `train_gpt.py` is made of"
    lines = [
        "# in a checkout of the project: the data, and a check of everything here",
        f"{claim.data.prep}{version}",
        f"python -m tools.verify FOLDER --data {path}",
        "",
        "# in this folder, with nothing else of the project: score what is shipped, train again",
        f"pip install -r requirements.txt && DATA=../../../{path}",
        *(f'python -I train_gpt.py --score {result.artifact} --data "$DATA" --json' for _, result in by_seed(claim)),
        *(f'python -I train_gpt.py seed={seed} data.path="$DATA" --name seed{seed}' for seed in claim.seeds),
    ]
    return f"## Reproduce\n\nThe runs ran {ran}.\n\n```sh\n" + "\n".join(lines) + "\n```"


def environment(claim: Submission) -> str:
    rows = [
        ("Python, PyTorch", f"{claim.python_version}, {claim.pytorch_version}"),
        ("trained on", claim.hardware),
        ("data", f"`{claim.data.sha256}`"),
        ("validation side", f"`{claim.data.val_sha256}`"),
        ("tokenizer", f"`{claim.data.tokenizer_sha256}`"),
        ("code, its sources", f"`{claim.code.sha256}`, `{claim.code.sources_sha256}`"),
    ]
    return f"## Environment\n\n{table(('', ''), rows, 2)}"
