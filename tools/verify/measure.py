"""The second tier: a record's artifacts opened, scored, probed and made to compress text; with --rerun, trained again.

    for finding in second_tier(record, data, sample=True, again=False): ...

Minutes, and nothing of the record is executed unless `again` requires it: our own scorer reads its artifacts. What
cannot be measured is `unverified`. With `sample`, blocks of 4,096 targets are drawn by the manifest's hash, which
nobody could choose before the record was finished, and each is compared with the shipped sum. Where the score adapts,
a block cannot be measured without the text before it: then it is the first blocks.
"""

import math
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from base.errors import BadInput, CheckFailed
from base.run_folder import ARTIFACT
from data.bytes import bits_per_byte
from data.dataset import Dataset
from engine.device import Device, joined, memory_hint
from eval.blocks import score_blocks, score_first_blocks
from eval.codec import compress, decompress
from eval.config import read_adapt
from eval.metric import BLOCK_TOKENS
from eval.probe import NAMES, artifact_scorer, probe_scorer
from eval.protocol import Protocol, artifact_protocol
from eval.score import score
from model.cost import parameters, scoring_flops
from quant.unpack import Artifact, from_bytes
from run_config import RunConfig
from tools.bundle import bundle
from tools.record.claim import Record
from tools.record.evidence import Floats, SeedEvidence
from tools.record.schema import MANIFEST
from tools.record.shipping import score_shipped
from tools.verify.datasets import check_data, find_dataset
from tools.verify.rerun import check_rerun
from tools.verify.sandbox import scoring_ranks
from tools.verify.verdict import Finding, contradiction

SAMPLED_BLOCKS = 32  # per seed
FIRST_BLOCKS = 4  # per seed, where the score adapts: what a block costs depends on all of the text before it
# Relative: what rounding may move the sum of a block by; batches and threads on one kind of device move it by 1e-7. In
# bf16 every device is of another kind, as each kernel rounds elsewhere: of cpu10's first ten blocks, one moves by
# 2.6e-4 when it is compiled, and by 3.5e-4 from bf16 to fp32 (all of them together by 1.4e-4).
SAME_KIND, OTHER_KIND = 1e-5, 1e-3
LONGEST_CONTEXT = 1 << 16  # tokens of a window; attention over more takes memory that few machines have
MOST_FLOPS, GPU_TIMES = 1e17, 100  # of one score: half a day of a machine's cores; a GPU does so much more
PROBES = [name for name in NAMES if name not in ("codec", "fresh")]  # the codec itself is run, below
Findings = Iterator[Finding]
PROBE_TOKENS, PROBE_COINS = 1024, 128
CODEC_BYTES, DOCUMENT_BYTES = 8_000, 2_000
SLACK, SLACK_BYTES = 1.001, 64  # what the codec promises over the model's own bits


def second_tier(record: Record, data: Path | None, sample: bool, again: bool) -> Iterator[Finding]:
    """`data`: the prepared dataset; None: the one here that has the hash which the record names."""
    dataset = find_dataset(record.claim.data, data)
    if isinstance(dataset, Finding):
        yield dataset
        return
    yield from check_data(record.claim, dataset)
    with joined() as device:
        for seed in record.evidence.seeds:
            try:
                with memory_hint("verify it on a larger machine"):
                    yield from measure_seed(record, seed, dataset, device, sample)
                    if again and seed.artifact == ARTIFACT:
                        report(f"seed {seed.seed}: running its single file")
                        yield from check_rerun(record, dataset, seed, partial(measure_bpb, record, dataset, device))
            except (BadInput, MemoryError) as trouble:
                message = f"seed {seed.seed} cannot be measured completely: {trouble!s:.200}"
                yield Finding("score.begun", "unverified", message)
            except CheckFailed as failure:  # losses that are not numbers
                yield Finding("score.losses", "invalid", f"seed {seed.seed}: {failure}")


def report(what: str) -> None:
    print(f"verify: {what}", file=sys.stderr, flush=True)


def measure_seed(record: Record, seed: SeedEvidence, dataset: Dataset, device: Device, sample: bool) -> Findings:
    data = record.folder.read(seed.artifact)
    try:
        artifact = from_bytes(data)
    except BadInput as bad:
        yield Finding("artifact.open", "invalid", f"{seed.artifact} does not open: {bad}")
        return
    held = sum(parameters(artifact.model.config).values())
    if held != record.claim.params:
        yield contradiction("artifact.params", "params", record.claim.params, f"{seed.artifact} has", held)
    protocol = claimed_protocol(record)
    require_scorable(artifact, dataset, protocol)
    report(f"seed {seed.seed}: scoring {'a sample' if sample else 'the complete validation side'}")
    if not sample:
        blocks = np.arange(len(seed.block_nats))
        nats = measure_blocks(data, artifact, dataset, protocol, device)
    elif protocol.adapt.kind == "off":
        blocks = drawn_blocks(record, seed)
        nats = score_blocks(artifact.model.to(device.torch), dataset, protocol, device, blocks.tolist())
    else:
        nats = score_first_blocks(artifact.model.to(device.torch), dataset, protocol, device, FIRST_BLOCKS)
        blocks = np.arange(len(seed.block_nats))[: len(nats)]
    yield compare_blocks(seed, blocks, nats, tolerance(record, device))
    report(f"seed {seed.seed}: probes")
    yield from check_probes(seed.seed, data, dataset)
    if not sample or seed.artifact == ARTIFACT:
        report(f"seed {seed.seed}: codec")
        adapt = "mix" if protocol.adapt.kind == "mix" else "off"
        yield check_codec(seed.seed, data, sample_text(dataset, draws(record, seed.seed)), adapt)


def draws(record: Record, seed: int) -> np.random.Generator:
    """Random numbers that are fixed by the finished record."""
    return np.random.default_rng([int(record.folder.sha256(MANIFEST), 16), seed])


def drawn_blocks(record: Record, seed: SeedEvidence) -> npt.NDArray[np.intp]:
    count = min(SAMPLED_BLOCKS, len(seed.block_nats))
    return np.sort(draws(record, seed.seed).choice(len(seed.block_nats), count, replace=False))


def claimed_protocol(record: Record) -> Protocol:
    """Its adaptation is that of the artifacts' headers: all seeds have one configuration."""
    evaluation = record.claim.evaluation
    adapt = read_adapt(record.claim.config)
    return Protocol(evaluation.context, evaluation.stride, adapt=adapt, precision=evaluation.precision)


def require_scorable(artifact: Artifact, dataset: Dataset, protocol: Protocol) -> None:
    """Refuse what cannot be scored by this protocol on this dataset, or not within half a day."""
    dataset.require(artifact.tokenizer.vocab_size, artifact.tokenizer.bos_id)
    context = protocol.context
    stride = protocol.stride
    if stride > context:
        raise BadInput(f"a stride of {stride} with a context of {context} would leave targets out")
    if context > LONGEST_CONTEXT:
        raise BadInput(f"a context of {context:,} tokens; up to {LONGEST_CONTEXT:,} are scored here")
    passes = 1
    if protocol.adapt.kind == "lora":  # each chunk is learned from as well
        passes, stride = 3, protocol.adapt.lora.chunk(stride, context)
    flops = passes * scoring_flops(artifact.model.config, context, stride) * -(-len(dataset.val) // stride)
    most = MOST_FLOPS * (GPU_TIMES if torch.cuda.is_available() else 1)
    if flops > most:
        raise BadInput(f"its score takes {flops:.1e} FLOP; up to {most:.0e} are spent here")


def measure_blocks(data: bytes, artifact: Artifact, dataset: Dataset, protocol: Protocol, device: Device) -> Floats:
    """`block_nats` of the complete score: on several GPUs by our own single file under torchrun.

    That scores as the artifact's header has it; an artifact with another protocol there is scored in this process.
    """
    ranks = scoring_ranks(protocol.adapt.kind)
    if ranks == 1 or artifact_protocol(artifact) != protocol:
        return score(artifact.model.to(device.torch), dataset, protocol, device).block_nats
    with tempfile.TemporaryDirectory(prefix="verify-") as made:
        path = Path(made) / ARTIFACT
        path.write_bytes(data)
        return score_shipped(bundle(RunConfig(), "verify", readable=False), path, dataset.path, ranks)[0]


def measure_bpb(record: Record, dataset: Dataset, device: Device, data: bytes) -> float:
    artifact = from_bytes(data)
    protocol = claimed_protocol(record)
    require_scorable(artifact, dataset, protocol)
    nats = float(measure_blocks(data, artifact, dataset, protocol, device).sum())
    return bits_per_byte(nats, record.claim.evaluation.val_bytes)


def tolerance(record: Record, device: Device) -> float:
    is_same = all(f" x {device.torch.type} " in seed.result.device for seed in record.evidence.seeds)
    return SAME_KIND if is_same and record.claim.evaluation.precision == "fp32" else OTHER_KIND


def compare_blocks(seed: SeedEvidence, blocks: npt.NDArray[np.intp], nats: Floats, relative: float) -> Finding:
    """Every block that was scored again against its shipped sum; and what a sample, drawn or not, can miss."""
    if len(nats) != len(blocks):
        return contradiction("score.blocks", f"seed {seed.seed}: blocks", len(blocks), "the text has", len(nats))
    shipped = seed.block_nats[blocks]
    off = np.abs(nats - shipped)
    wrong = np.flatnonzero(off > relative * np.maximum(nats, 1.0))
    precision = seed.result.precision
    evidence = {"blocks": len(blocks), "of": len(seed.block_nats), "wrong": len(wrong), "precision": precision}
    if len(wrong):
        at = wrong[np.argmax(off[wrong])]
        first = blocks[at] * BLOCK_TOKENS
        message = (
            f"seed {seed.seed}: {len(wrong)} of {len(blocks)} blocks do not cost what nats_seed{seed.seed}.npy has; "
            f"targets {first:,} to {first + BLOCK_TOKENS:,}: {shipped[at]:.3f} shipped, {nats[at]:.3f} measured"
        )
        return Finding("score.val_bpb", "invalid", message, evidence)
    share = f"{len(blocks)} of {len(seed.block_nats)} blocks"
    message = f"seed {seed.seed}: {share} cost what is shipped, in {precision}, to {relative:g}"
    if len(blocks) < len(seed.block_nats) and seed.result.adapt != "off":
        message += "; they are the first, and those after them were not scored"
    elif len(blocks) < len(seed.block_nats):
        message += f"; if a tenth of them were forged, this would pass with probability {0.9 ** len(blocks):.2g}"
    return Finding("score.measured", "note", message, {f"score_seed{seed.seed}": evidence})


def check_probes(seed: int, data: bytes, dataset: Dataset) -> Iterator[Finding]:
    name, scorer = artifact_scorer(f"seed {seed}", from_bytes(data), dataset)
    found = probe_scorer(name, scorer, dataset, PROBES, min(PROBE_TOKENS, len(dataset.val)), PROBE_COINS).probes
    for name, probe in found.items():
        message = f"seed {seed}: {probe.detail}"
        if probe.passed is False:
            yield Finding(f"probe.{name}", "invalid", message, probe.evidence)
        elif name == "boundary":  # what one document does to the next is reported, never an accusation
            yield Finding(f"probe.{name}", "note", message, probe.evidence)
    passed = sum(probe.passed is True for probe in found.values())
    message = f"seed {seed}: {passed} of {len(found)} probes passed"
    yield Finding("probe.measured", "note", message, {f"probes_seed{seed}": {"passed": passed}})


def check_codec(seed: int, data: bytes, text: bytes, adapt: str) -> Finding:
    """Validation text, coded by the artifact and what the text teaches, and decoded with the artifact's bytes alone."""
    try:
        packed, nats = compress(from_bytes(data), text, adapt=adapt)
        decompress(from_bytes(data), packed)  # which refuses another text
    except (BadInput, ValueError, ArithmeticError) as error:
        return Finding("codec.decodes", "unverified", f"seed {seed}: the codec fails on a sample: {error!s:.200}")
    model_bytes = nats / math.log(2) / 8
    evidence = {"text_bytes": len(text), "coded_bytes": len(packed), "model_bytes": model_bytes}
    message = f"seed {seed}: {len(text):,} bytes take {len(packed):,}, the model's probabilities {model_bytes:,.0f}"
    if len(packed) > model_bytes * SLACK + SLACK_BYTES:
        return Finding("codec.length", "invalid", f"{message}: more than 0.1 % and {SLACK_BYTES} bytes over", evidence)
    return Finding("codec.measured", "note", f"{message}; decoded exactly", {f"codec_seed{seed}": evidence})


def sample_text(dataset: Dataset, rng: np.random.Generator) -> bytes:
    """The beginnings of some validation documents, up to CODEC_BYTES in all."""
    documents = list(dataset.documents("val"))
    text = b""
    for number in rng.permutation(len(documents)).tolist():
        text += dataset.table.join(documents[number][:DOCUMENT_BYTES])[:DOCUMENT_BYTES]
        if len(text) >= CODEC_BYTES:
            break
    return text[:CODEC_BYTES]
