"""The record's README.md: submission.json in words and tables. Pure, and nothing in it that is not in there.

text = readme(submission, files)                   `files`: name -> bytes, of the whole
                                                   folder; None where the page cannot know
"""

from collections.abc import Mapping
from typing import Any

from tools.record.describe import folder_name
from tools.record.markdown import bpb, seconds, size, spread, table, value
from tools.record.schema import SeedResult, Submission

KINDS = {
    "embed": "token table", "head": "head", "bigram": "bigram table", "attn": "attention", "mlp": "MLP",
    "control": "vectors and scalars", "fp16": "floats, 16 bits", "fp32": "floats, 32 bits", "scales": "scales of rows",
    "octaves": "exponents of rows and columns", "tokenizer": "tokenizer",
}  # fmt: skip
# Condition, what keeps it, what proves it (probes of eval/probe.py). The four are the field's own case law.
CONDITIONS = (
    ("C1: a forecast depends on the artifact and the tokens before it, on nothing else",
     "attention is causal, a window holds its own tokens only", "`flip`, `suffix`, `truncation`, `coins`"),
    ("C2: a whole normalised distribution stands before the token is seen",
     "the loss is `cross_entropy` over the whole vocabulary", "`normalised`, `coins`, `codec`"),
    ("C3: a token is scored before anything is learned from it",
     "the scorer learns nothing: its weights are the artifact's from the first token to the last", "`repeat`, `codec`"),
    ("C4: one pass from left to right, no token scored twice",
     "every target has a counter, and a score exists only where each is 1", "`coverage`, `truncation`"),
)  # fmt: skip
FILES = {
    "README.md": "this page", "submission.json": "every number of it, for programs",
    "manifest.json": "the hashes of all files, of the code's sources, of the data",
    "requirements.txt": "what the code needs installed", "train_gpt.py": "the whole program in one file",
    "figures/loss.png": "losses of training and validation", "figures/bytes.png": "the artifact's bytes by tensor",
    "figures/position.png": "loss by position in the document and in the window",
    "model.golf": "the artifact", "tokenizer.model": "the tokenizer, which the artifact contains, too",
}  # fmt: skip
TRAINED = {
    "this file": "The logged runs were made by this very `train_gpt.py`.",
    "its sources": "The logged runs were made by the modules that this `train_gpt.py` is generated from; "
    "`manifest.json` has their hashes.",
}


def readme(submission: Submission, files: Mapping[str, int | None]) -> str:
    sections = (
        _head(submission), _results(submission), _significance(submission), _changes(submission),
        _architecture(submission), _quantisation(submission), _evaluation(submission), _timing(submission),
        _compliance(submission), _bytes(submission), _reproduce(submission, files), _files(files),
        _environment(submission),
    )  # fmt: skip
    return "\n\n".join(filter(None, sections)) + "\n"


def _seeds(submission: Submission) -> list[tuple[str, SeedResult]]:
    return [(str(seed), submission.seed_results[str(seed)]) for seed in submission.seeds]


def _head(submission: Submission) -> str:
    one = len(submission.seeds) == 1
    by = f" by {submission.author}" * bool(submission.author)
    by += f" ([{submission.github_id}](https://github.com/{submission.github_id}))" * bool(submission.github_id)
    told = "the one seed" if one else f"mean of {len(submission.seeds)} seeds, {spread(submission.val_bpb_std)}"
    lines = [
        f"# {submission.name}: {bpb(submission.val_bpb)} bits a byte in {size(submission.bytes_total)} bytes",
        f"`{submission.track}`, {submission.date}{by}. Data: {submission.data.name}. Score: {told}, measured from the "
        "shipped artifact with the shipped code.",
    ]
    return "\n\n".join([*lines, *([submission.blurb] if submission.blurb else [])])


def _results(submission: Submission) -> str:
    rows = [
        (seed, size(r.steps), bpb(r.pre_quant_val_bpb), bpb(r.val_loss), f"**{bpb(r.val_bpb)}**", size(r.bytes_model))
        for seed, r in _seeds(submission)
    ]
    many = len(rows) > 1
    mean = ("mean", "", "", bpb(submission.val_loss), f"**{bpb(submission.val_bpb)}**", "")
    std = ("std", "", "", spread(submission.val_loss_std), spread(submission.val_bpb_std), "")
    head = ("seed", "steps", "bpb before packing", "nats a token", "bits a byte", "artifact, bytes")
    middle = submission.notes["median_seed"]
    said = f"\n\n`model.golf` is seed {middle}'s, the {'lower of the two' if len(rows) == 2 else 'median'}." * many
    return (
        f"## Results\n\n{table(head, [*rows, *([mean, std] if many else [])])}{said}\n\n{_picture('figures/loss.png')}"
    )


def _picture(name: str) -> str:
    return f"![{FILES[name]}]({name})"


def _significance(submission: Submission) -> str:
    against = submission.notes.get("against")
    if not against:
        return ""
    rivals = ", ".join(map(bpb, against["bpb"]))
    said = f"Against {rivals}: a lead of {bpb(against['lead_bpb'])} bits a byte."
    if not against["verdicts"]:
        return f"## Significance\n\n{said} One seed has no spread: nothing is proved by it."
    rows = [
        (v["rule"], bpb(v["margin"]), f"{v['t']:.3f}", f"{v['p']:.3g}", f"{v['p_needed']:g}", ("no", "yes")[v["holds"]])
        for v in against["verdicts"]
    ]
    return f"## Significance\n\n{said}\n\n{table(('rule', 'margin, bpb', 't', 'p', 'p needed', 'proved'), rows)}"


def _changes(submission: Submission) -> str:
    parent, changes = submission.notes["parent"], submission.notes["changes"]
    if not changes:
        return f"## What changed\n\nNothing against `{parent}`: this is that configuration as it stands."
    rows = [(f"`{key}`", value(there), value(here)) for key, (there, here) in changes.items()]
    return f"## What changed\n\n{table(('', parent if ' ' in parent else f'`{parent}`', 'here'), rows, 3)}"


def _architecture(submission: Submission) -> str:
    model, notes = submission.notes["config"]["model"], submission.notes
    width = model["head_dim"] or model["dim"] // model["heads"]
    hidden = model["hidden"] or round(model["dim"] * model["mlp_mult"])
    train, kinds = notes["config"]["train"], notes["params_by_kind"]
    rows = [
        ("layers", f"{model['layers']} of width {model['dim']}" + _loops(model)),
        ("attention", f"{model['heads']} heads of {width}, {model['kv_heads']} key/value" + _attention(model)),
        ("MLP", f"{model['mlp']}, hidden {hidden}"),
        ("embedding", f"{model['vocab_size']} tokens{_embedding(model)}"),
        ("head", "tied to the embedding" if model["tied"] else "of its own"),
        ("skips", model["skips"]),
        ("softcap", value(model["softcap"]) if model["softcap"] else "off"),
        ("parameters", f"{size(submission.params)}: " + ", ".join(f"{KINDS[k]} {size(n)}" for k, n in kinds.items())),
        ("FLOPs a token", f"{notes['flops_per_token']:,}"),
        ("training", f"{size(train['batch_tokens'])} tokens a step in windows of {train['seq_len']}, "
                     f"{notes['config']['optim']['matrix']}, average: {notes['config']['average']['kind']}"),
    ]  # fmt: skip
    return f"## Architecture\n\n{table(('part', 'here'), rows, 2)}"


def _loops(model: Mapping[str, Any]) -> str:
    if not model["loop_repeats"]:
        return ""
    return f", layers {model['loop_first']} to {model['loop_last']} run {model['loop_repeats']} more times"


def _attention(model: Mapping[str, Any]) -> str:
    parts = [
        "RoPE" if model["pos"] == "rope" else "no positions",
        *(["QK-norm"] if model["qk_norm"] else []),
        *([f"gain from {value(model['q_gain'])}"] if model["q_gain"] is not None else []),
        *([f"XSA in {model['xsa']} layers"] if model["xsa"] else []),
        *(["inside documents"] if model["doc_mask"] else []),
    ]
    return ", " + ", ".join(parts)


def _embedding(model: Mapping[str, Any]) -> str:
    smear = f", smear {model['smear']}" if model["smear"] != "off" else ""
    return smear + (f", bigrams {model['bigram_buckets']} x {model['bigram_dim']}" if model["bigram_buckets"] else "")


def _quantisation(submission: Submission) -> str:
    quant, rows = submission.notes["config"]["quant"], list[tuple[str, ...]]()
    for row in submission.notes["kinds"]:
        name = KINDS[row["kind"]]
        if "weights" not in row:
            rows.append((name, "", "", size(row["bytes"]), "", ""))
            continue
        bits = str(row["bits"]) if row["least_bits"] == row["bits"] else f"{row['least_bits']} to {row['bits']}"
        rates = f"{row['bits_per_weight']:.3f}", f"{row['entropy_bits_per_weight']:.3f}"
        rows.append((name, size(row["weights"]), bits, size(row["bytes"]), *rates))
    artifact = submission.seed_results[str(submission.notes["median_seed"])].bytes_model
    rest = artifact - sum(row["bytes"] for row in submission.notes["kinds"])
    rows += [
        ("header and checksum", "", "", size(rest), "", ""),
        ("**artifact**", "", "", f"**{size(artifact)}**", "", ""),
    ]
    head = ("kind", "weights", "bits, at most", "bytes", "bits a weight", "order-0 entropy")
    seed = submission.notes["median_seed"]
    return (
        f"## Quantisation\n\nMethod `{quant['method']}`, codec `{quant['codec']}`; the table is of seed {seed}'s "
        f"artifact. What calibration there is read training text alone.\n\n{table(head, rows)}\n\n"
        f"{_picture('figures/bytes.png')}"
    )


def _evaluation(submission: Submission) -> str:
    rule = submission.evaluation
    return (
        f"## Evaluation\n\nSliding windows of {size(rule.context)} tokens, {size(rule.stride)} new ones each"
        f"{', ' + rule.adapt if rule.adapt else ''}, over the whole validation side: {size(rule.val_tokens)} targets, "
        f"{size(rule.val_bytes)} bytes, {size(submission.notes['val_documents'])} documents. Bits a byte = nats / ln 2 "
        "/ bytes, sums in float64; a document's BOS is charged and has no bytes. The contest's way of counting finds "
        f"{size(rule.contest_bytes)} bytes.\n\n{_picture('figures/position.png')}"
    )


def _timing(submission: Submission) -> str:
    rows = [
        (seed, seconds(r.train_seconds), f"{1000 * r.train_seconds / r.steps:,.1f}", seconds(r.calibration_seconds),
         seconds(r.eval_seconds))
        for seed, r in _seeds(submission)
    ]  # fmt: skip
    head = ("seed", "training, s", "a step, ms", "quantizing and packing, s", "scoring, s")
    return (
        f"## Timing\n\nTrained on {submission.hardware}. Training is the loop's own clock; scoring is the single "
        f"file's whole process, from its start to its end, where this record was made.\n\n{table(head, rows)}"
    )


def _compliance(submission: Submission) -> str:
    checks = checklist(submission)
    return (
        f"## Compliance\n\nMeasured when this record was made:\n\n{checks}\n\nThe four conditions. The probes ask the "
        "artifact's scorer by experiment; `python -m tools.verify` runs them, and decodes a sample with the arithmetic "
        f"coder.\n\n{table(('condition', 'what keeps it', 'probes that prove it'), CONDITIONS, 3)}"
    )


def checklist(submission: Submission) -> str:
    """What was measured, each with its numbers where it has some."""
    results, limits = submission.seed_results.values(), submission.notes["limits"]
    trained = [r.train_seconds + r.calibration_seconds * limits["calibration_inside"] for r in results]
    numbers = {
        "bytes_within_cap": f"{size(submission.bytes_total)} of {size(submission.cap_bytes)}",
        "training_within_limit": _of_limit(max(trained), limits["train_seconds"]),
        "evaluation_within_limit": _of_limit(max(r.eval_seconds for r in results), limits["eval_seconds"]),
        "enough_seeds": f"{len(submission.seeds)} of {limits['seeds']}",
        "every_target_scored_once": size(submission.evaluation.val_tokens),
    }
    return "\n".join(
        f"- [{'x' if kept else ' '}] {name.replace('_', ' ')}{': ' + numbers[name] if name in numbers else ''}"
        for name, kept in submission.compliance.items()
    )


def _of_limit(used: float, limit: float) -> str:
    return f"{seconds(used)} s of {limit:g}" if limit else f"{seconds(used)} s, no limit"


def _bytes(submission: Submission) -> str:
    packed = "packed, extracts itself" if submission.notes["code"]["packed"] else "readable"
    rows = [
        (f"code (`train_gpt.py`, {packed})", size(submission.bytes_code)),
        ("artifact, the largest seed's", size(submission.bytes_model)),
        ("**total**", f"**{size(submission.bytes_total)}**"),
        (f"cap of `{submission.track}`", size(submission.cap_bytes)),
        ("left", size(submission.cap_bytes - submission.bytes_total)),
        ("tokenizer, inside the artifact, as a file of its own", size(submission.bytes_tokenizer)),
    ]
    return f"## Bytes\n\nFiles as they lie on disk.\n\n{table(('', 'bytes'), rows)}"


def _reproduce(submission: Submission, files: Mapping[str, int | None]) -> str:
    path, python = submission.notes["config"]["data"]["path"], submission.data.python
    folder = f"records/{submission.track}/{folder_name(submission.date, submission.name)}"
    artifacts = [r.artifact for _, r in _seeds(submission) if r.artifact in files]
    lines = [
        "# in a checkout of the project: the data, and a check of all that is here",
        submission.notes["prep"] + (f"  # Python {python}: another version is another corpus" if python else ""),
        f"python -m tools.verify {folder} --data {path}",
        "",
        "# in this folder, with nothing else of the project: score what is shipped",
        f"pip install -r requirements.txt && DATA=../../../{path}",
        *(f'python -I train_gpt.py --score {artifact} --data "$DATA" --json' for artifact in artifacts),
        "",
        "# train, about the same again",
        *(f'python -I train_gpt.py seed={seed} data.path="$DATA" --name seed{seed}' for seed in submission.seeds),
    ]
    ran = TRAINED[submission.notes["code"]["trained"]]
    return f"## Reproduce\n\n{ran}\n\n```sh\n" + "\n".join(lines) + "\n```"


def _files(files: Mapping[str, int | None]) -> str:
    def told(name: str) -> str:
        if name in FILES:
            return FILES[name]
        seed = name.partition("_seed")[2].partition(".")[0]
        kinds = {"train_": "log", "metrics_": "losses and validations, a line each", "model_": "artifact"}
        return f"seed {seed}: {next(words for start, words in kinds.items() if name.startswith(start))}"

    rows = [(f"`{name}`", told(name), "" if count is None else size(count)) for name, count in sorted(files.items())]
    return f"## Files\n\n{table(('file', 'what it is', 'bytes'), rows, 2)}"


def _environment(submission: Submission) -> str:
    rows = [
        ("Python", submission.python_version),
        ("PyTorch", submission.pytorch_version),
        ("trained on", submission.hardware),
        ("data", f"`{submission.data.sha256}`"),
        ("validation side", f"`{submission.data.val_sha256}`"),
        ("tokenizer", f"`{submission.data.tokenizer_sha256}`"),
        ("code", f"`{submission.notes['code']['sha256']}`"),
    ]
    return f"## Environment\n\n{table(('', ''), rows, 2)}"
