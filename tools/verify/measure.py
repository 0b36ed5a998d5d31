"""The second tier: a record's artifacts opened, scored, probed and made to compress text; with --rerun, trained again.

    for finding in second_tier(record, options): ...

Minutes, and nothing of the record is executed unless `options.rerun` requires it: our own scorer reads its artifacts.
What cannot be measured is `unverified` with what is missing. With --sample, blocks of 4,096 targets are drawn by the
manifest's hash, which nobody could choose before the record was finished, and each is compared with the shipped sum.
"""

import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from base.errors import BadInput, CheckFailed
from base.run_folder import ARTIFACT
from data.dataset import Dataset
from data.manifest import TOKENIZER
from engine.device import Device, joined
from eval.codec import compress
from eval.metric import BLOCK_TOKENS
from eval.probe import NAMES, probe_artifact
from eval.protocol import Protocol
from eval.score import score, score_blocks
from model.cost import parameters, scoring_flops
from quant.unpack import Artifact, from_bytes
from tools.record.evidence import SeedEvidence
from tools.record.schema import MANIFEST
from tools.verify.datasets import check_data, find_dataset
from tools.verify.rerun import check_rerun
from tools.verify.rules import Options, Record
from tools.verify.verdict import Finding, contradiction

SAMPLED_BLOCKS = 32  # per seed
# Relative: what rounding may move the sum of a block by; batches and threads on one kind of device move it by 1e-7.
SAME_KIND, OTHER_KIND = 1e-5, 1e-3
LONGEST_CONTEXT = 1 << 16  # tokens of a window; attention over more takes memory that few machines have
MOST_FLOPS = 1e17  # of one score: half a day of a machine's cores
PROBES = [name for name in NAMES if name not in ("codec", "fresh")]  # the codec has a rule of its own, below
PROBE_TOKENS, PROBE_COINS = 1024, 128
CODEC_BYTES, DOCUMENT_BYTES = 8_000, 2_000
CODEC_LIMIT_S = 600.0
SLACK, SLACK_BYTES = 1.001, 64  # what the codec promises over the model's own bits
ROOT = Path(__file__).parents[2]


def second_tier(record: Record, options: Options) -> Iterator[Finding]:
    with joined() as device, tempfile.TemporaryDirectory(prefix="verify-") as made:
        tokenizer = Path(made) / TOKENIZER
        tokenizer.write_bytes(record.folder.read(TOKENIZER))
        report("looking for the dataset")
        dataset = find_dataset(record.claim.data, tokenizer, options.data)
        if isinstance(dataset, Finding):
            yield dataset
            return
        yield from check_data(record.claim, dataset)
        seeds = record.evidence.seeds
        coded = {seed.seed for seed in seeds}
        if options.sample:
            coded = {int(chance(record, 2).choice([seed.seed for seed in seeds]))}
        for seed in seeds:
            path = Path(made) / f"{seed.seed}.golf"
            path.write_bytes(record.folder.read(seed.artifact))
            yield from measure_seed(record, seed, path, dataset, device, options.sample, seed.seed in coded)
        if options.rerun:
            yield from rerun(record, dataset, device)


def report(what: str) -> None:
    print(f"verify: {what}", file=sys.stderr, flush=True)


def chance(record: Record, stream: int) -> np.random.Generator:
    """Draws that are fixed by the finished record."""
    return np.random.default_rng([int(record.folder.sha256(MANIFEST), 16), stream])


def measure_seed(
    record: Record, seed: SeedEvidence, path: Path, dataset: Dataset, device: Device, sample: bool, coded: bool
) -> Iterator[Finding]:
    """One artifact, and a copy of its file: score, probes, codec."""
    name = f"seed {seed.seed}"
    try:
        artifact = from_bytes(path.read_bytes())
    except BadInput as bad:
        yield Finding("artifact.open", "invalid", f"{seed.artifact} does not open: {bad}")
        return
    held = sum(parameters(artifact.model.config).values())
    if held != record.claim.params:
        yield contradiction("artifact.params", "params", record.claim.params, f"{seed.artifact} has", held)
    rule = record.claim.evaluation
    protocol = Protocol(context=rule.context, stride=rule.stride)
    try:
        require_scorable(artifact, dataset, protocol)
    except BadInput as bad:
        yield Finding("score.begun", "unverified", f"{name}: {bad}", {"seed": seed.seed})
        return
    try:
        report(f"{name}: scoring {'a sample' if sample else 'the complete validation side'}")
        blocks = np.arange(len(seed.block_nats))
        if sample:
            count = min(SAMPLED_BLOCKS, len(blocks))
            blocks = np.sort(chance(record, seed.seed).choice(blocks, count, replace=False))
        model = artifact.model.to(device.torch)
        if sample:
            nats = score_blocks(model, dataset, protocol, device, blocks.tolist())
        else:
            nats = score(model, dataset, protocol, device).block_nats
        yield compare_blocks(seed, blocks, nats, tolerance(record, device))
        artifact.model.to("cpu")
        report(f"{name}: probes")
        yield from check_probes(seed.seed, path, dataset)
        if coded:
            report(f"{name}: codec")
            yield from check_codec(seed.seed, path, artifact, dataset, chance(record, 1))
    except CheckFailed as failure:  # losses that are not numbers
        yield Finding("score.losses", "invalid", f"{name}: {failure}", {"seed": seed.seed})
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        yield Finding("score.memory", "unverified", f"{name}: too little memory here: {error!s:.120}")


def require_scorable(artifact: Artifact, dataset: Dataset, protocol: Protocol) -> None:
    """Refuse what cannot be scored by this protocol on this dataset, or not within half a day."""
    dataset.require(artifact.tokenizer.vocab_size, artifact.tokenizer.bos_id)
    context, stride = protocol.context, protocol.stride
    if stride > context:
        raise BadInput(f"a stride of {stride} with a context of {context} would leave targets out")
    if context > LONGEST_CONTEXT:
        raise BadInput(f"a context of {context:,} tokens; up to {LONGEST_CONTEXT:,} are scored here")
    flops = scoring_flops(artifact.model.config, context, stride) * -(-len(dataset.val) // stride)
    if flops > MOST_FLOPS:
        raise BadInput(f"its score takes {flops:.1e} FLOP; up to {MOST_FLOPS:.0e} are spent here")


def tolerance(record: Record, device: Device) -> float:
    trained_on = {seed.result.device.partition(" x ")[2].partition(" ")[0] for seed in record.evidence.seeds}
    return SAME_KIND if trained_on == {device.torch.type} else OTHER_KIND


def compare_blocks(seed: SeedEvidence, blocks: np.ndarray, nats: np.ndarray, relative: float) -> Finding:
    """Every block that was scored again against its shipped sum; and what a sample can miss."""
    if len(nats) != len(blocks):
        return contradiction("score.blocks", f"seed {seed.seed}: blocks", len(blocks), "the text has", len(nats))
    shipped = seed.block_nats[blocks]
    wrong = np.flatnonzero(np.abs(nats - shipped) > relative * np.maximum(nats, 1.0))
    evidence = {"blocks": len(blocks), "of": len(seed.block_nats), "wrong": len(wrong)}
    if len(wrong):
        at = int(wrong[np.argmax(np.abs(nats - shipped)[wrong])])
        first = int(blocks[at]) * BLOCK_TOKENS
        message = (
            f"seed {seed.seed}: {len(wrong)} of {len(blocks)} blocks do not cost what nats_seed{seed.seed}.npy has; "
            f"targets {first:,} to {first + BLOCK_TOKENS:,}: {shipped[at]:.3f} shipped, {nats[at]:.3f} measured"
        )
        return Finding("score.val_bpb", "invalid", message, evidence)
    message = f"seed {seed.seed}: {len(blocks)} of {len(seed.block_nats)} blocks cost what is shipped, to {relative:g}"
    if len(blocks) < len(seed.block_nats):
        message += f"; {miss_probability(len(blocks))}"
    return Finding("score.measured", "note", message, {f"score_seed{seed.seed}": evidence})


def miss_probability(blocks: int) -> str:
    shares = ", ".join(f"{share:.0%} of the blocks with {(1 - share) ** blocks:.2g}" for share in (0.5, 0.1, 0.02))
    return f"a fraud in a share of the text passes with probability (1 - share)^{blocks}: in {shares}"


# -- probes and codec -----------------------------------------------------------------------------------------------


def check_probes(seed: int, path: Path, dataset: Dataset) -> Iterator[Finding]:
    try:
        tokens = min(PROBE_TOKENS, len(dataset.val))
        found = probe_artifact(path, dataset, names=PROBES, tokens=tokens, coins=PROBE_COINS)
    except BadInput as bad:  # too little text
        yield Finding("probe.begun", "unverified", f"seed {seed}: the probes cannot run: {bad}", {"seed": seed})
        return
    passed = 0
    for name, probe in found.probes.items():
        evidence = {"seed": seed, **probe.evidence}
        passed += probe.passed is True
        if probe.passed is False:
            yield Finding(f"probe.{name}", "invalid", f"seed {seed}: {probe.detail}", evidence)
        elif name == "boundary":  # what one document does to the next is reported, never an accusation
            yield Finding("probe.boundary", "note", f"seed {seed}: {probe.detail}", evidence)
    message = f"seed {seed}: {passed} of {len(found.probes)} probes passed"
    yield Finding("probe.measured", "note", message, {f"probes_seed{seed}": {"passed": passed}})


def check_codec(
    seed: int, path: Path, artifact: Artifact, dataset: Dataset, rng: np.random.Generator
) -> Iterator[Finding]:
    """Validation text, coded here and decoded by a process that never saw it."""
    text = sample_text(dataset, rng)
    packed, decoded = path.with_suffix(".glz"), path.with_suffix(".txt")
    try:
        data, nats = compress(artifact, text, None, None)
    except (BadInput, ValueError, ArithmeticError) as error:  # predictions that are no distributions
        yield Finding("codec.compress", "invalid", f"seed {seed}: validation text cannot be coded: {error!s:.200}")
        return
    model_bytes = nats / math.log(2) / 8
    evidence = {"text_bytes": len(text), "coded_bytes": len(data), "model_bytes": model_bytes}
    message = f"seed {seed}: {len(text):,} bytes take {len(data):,}, the model's probabilities {model_bytes:,.0f}"
    if len(data) > model_bytes * SLACK + SLACK_BYTES:
        yield Finding("codec.length", "invalid", f"{message}: more than 0.1 % and {SLACK_BYTES} bytes over", evidence)
        return
    packed.write_bytes(data)
    if trouble := decompress_apart(path, packed, decoded):  # another process's rounding, and not the record's fault
        yield Finding("codec.decodes", "unverified", f"seed {seed}: the sample was not decoded: {trouble}", evidence)
    elif decoded.read_bytes() != text:
        yield Finding("codec.decodes", "invalid", f"seed {seed}: the sample decodes to other bytes", evidence)
    else:
        yield Finding("codec.measured", "note", f"{message}; decoded exactly", {f"codec_seed{seed}": evidence})


def decompress_apart(artifact: Path, packed: Path, target: Path) -> str:
    """In a process that has these three files' names and nothing else; returns what went wrong."""
    words = ["-m", "eval.codec", "decompress", str(artifact), str(packed), str(target)]
    try:
        done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=CODEC_LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"no end after {CODEC_LIMIT_S:g} s"
    if not done.returncode:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def sample_text(dataset: Dataset, rng: np.random.Generator) -> bytes:
    """The beginnings of some validation documents, up to CODEC_BYTES in all."""
    documents, text = list(dataset.documents("val")), b""
    for number in rng.permutation(len(documents)).tolist():
        text += dataset.table.join(documents[number][:DOCUMENT_BYTES])[:DOCUMENT_BYTES]
        if len(text) >= CODEC_BYTES:
            break
    return text[:CODEC_BYTES]


# -- again ----------------------------------------------------------------------------------------------------------


def rerun(record: Record, dataset: Dataset, device: Device) -> Iterator[Finding]:
    """The seed whose artifact is model.golf: scored and trained again by the record's own single file."""
    seed = next((seed for seed in record.evidence.seeds if seed.artifact == ARTIFACT), None)
    if seed is None:
        yield Finding("rerun.begun", "unverified", f"no seed's artifact is {ARTIFACT}, so nothing is run again")
        return

    def measure(artifact: Artifact) -> float:
        rule = record.claim.evaluation
        protocol = Protocol(context=rule.context, stride=rule.stride)
        require_scorable(artifact, dataset, protocol)
        return score(artifact.model.to(device.torch), dataset, protocol, device).bpb

    report(f"seed {seed.seed}: running its single file")
    yield from check_rerun(record, dataset, seed.seed, measure)
