"""First tier: a record's evidence against itself. Files that hold the same number agree."""

import math
from collections.abc import Iterator
from itertools import pairwise

from base.run_folder import ARTIFACT
from data.bytes import bits_per_byte
from data.manifest import TOKENIZER
from eval.config import read_adapt, read_precision
from eval.metric import BLOCK_TOKENS
from tools.record.claim import MEASURED, Record, median_seed
from tools.record.evidence import Evidence, SeedEvidence, seed_files
from tools.record.runs import differing_keys
from tools.record.schema import EVIDENCE
from tools.verify.verdict import Finding, contradiction

# Relative: the same artifact scored on another number of threads, or by other kernels: in bf16, eager and compiled
# scores of cpu10 differ by 7e-5, and both from fp32 by up to 1.4e-4.
RESCORED = {"fp32": 2e-6, "bf16": 5e-4}
CLOCK_S = 1e-6  # rounding in sums of one clock's readings
SHARED = ("sources_sha256", "params", "adapt", *MEASURED)


def check_seeds(record: Record) -> Iterator[Finding]:
    seeds = record.evidence.seeds
    track = record.track
    for seed in seeds:
        yield from _check_result(seed, record.evidence)
        yield from _check_scores(seed)
    for one, other in pairwise(seeds):
        yield from _check_configuration(one, other)
    if track.ranked and len(seeds) < track.seeds:
        yield Finding("seed.few", "unverified", f"{len(seeds)} seeds; the track needs {track.seeds}")
    median = median_seed(seeds).seed
    owners = [seed.seed for seed in seeds if seed.artifact == ARTIFACT]
    if owners != [median]:
        message = f"{ARTIFACT} is that of {owners}; it has to be the median seed's, {median}"
        yield Finding("seed.median", "invalid", message)


def _check_result(seed: SeedEvidence, evidence: Evidence) -> Iterator[Finding]:
    """result.json against the artifact, its header, and the dataset that the record describes."""
    run = seed.result
    header = seed.head.header
    data = evidence.file.data
    name = seed_files(seed.seed)["result"]
    artifact = f"{seed.artifact} has"
    described = f"{EVIDENCE} has"
    tokenizer = evidence.tokenizer_sha256
    parts = run.artifact_bytes + run.code_bytes
    for rule, key, source, other in (
        ("seed.number", "seed", "its file is named for", seed.seed),
        ("seed.number", "seed", artifact, header.config.get("seed")),
        ("hash.artifact", "artifact_sha256", artifact, seed.artifact_sha256),
        ("size.model", "artifact_bytes", artifact, seed.artifact_bytes),
        ("size.total", "total_bytes", "its parts add up to", parts),
        ("evidence.rule", "stride", artifact, header.stride),
        ("evidence.rule", "context", artifact, header.context),
        ("evidence.rule", "adapt", artifact, read_adapt(header.config).kind),
        ("evidence.rule", "precision", artifact, read_precision(header.config)),
        ("data.sha256", "data_sha256", described, data.sha256),
        ("data.sha256", "data_sha256", artifact, header.data_sha256),
        ("data.val", "val_sha256", described, data.val_sha256),
        ("data.tokenizer", "tokenizer_sha256", described, data.tokenizer_sha256),
        ("data.tokenizer", "tokenizer_sha256", artifact, header.tokenizer_sha256),
        ("data.tokenizer", "tokenizer_sha256", f"{TOKENIZER} has", tokenizer),
    ):
        value = getattr(run, key)
        if value != other:
            yield contradiction(rule, f"{name}: {key}", value, source, other)


def _check_scores(seed: SeedEvidence) -> Iterator[Finding]:
    """The run's scores against the sums that the shipped code measured."""
    run = seed.result
    name = seed_files(seed.seed)["result"]
    blocks = -(-run.val_tokens // BLOCK_TOKENS)
    if len(seed.block_nats) != blocks:
        what = f"seed {seed.seed}: blocks of nats"
        source = f"{run.val_tokens:,} targets make"
        yield contradiction("number.nats", what, len(seed.block_nats), source, blocks)
    float_nats = run.float_nats_per_token * run.val_tokens
    for key, derived in (
        ("val_nats_per_token", seed.nats / run.val_tokens),
        ("val_bpb", bits_per_byte(seed.nats, run.val_bytes)),
        ("float_bpb", bits_per_byte(float_nats, run.val_bytes)),
    ):
        value = getattr(run, key)
        if not math.isclose(value, derived, rel_tol=RESCORED[run.precision]):
            yield contradiction("number.seed", f"{name}: {key}", value, "nats, tokens and bytes give", derived)


def _check_configuration(one: SeedEvidence, other: SeedEvidence) -> Iterator[Finding]:
    if keys := differing_keys(one.head.header.config, other.head.header.config):
        message = f"seeds {one.seed} and {other.seed} differ in {', '.join(keys):.200}: a mean is of one configuration"
        yield Finding("seed.config", "invalid", message, {"keys": keys})
    for key in SHARED:
        value, others = getattr(one.result, key), getattr(other.result, key)
        if value != others:
            yield contradiction("seed.config", f"seed {one.seed}: {key}", value, f"seed {other.seed} has", others)


def check_metrics(record: Record) -> Iterator[Finding]:
    """A clock that runs forward, one step after another, to the result's own steps and seconds."""
    for seed in record.evidence.seeds:
        run = seed.result
        name = seed_files(seed.seed)["metrics"]
        rows = [{"step": 0, "elapsed_s": 0.0}, *seed.steps]
        for before, after in pairwise(rows):
            where = f"{name}, step {after['step']:g}"
            took_s = after["elapsed_s"] - before["elapsed_s"]
            if after["step"] != before["step"] + 1:
                yield Finding("log.metrics", "invalid", f"{where} follows step {before['step']:g}")
                break
            if took_s < 0 or abs(took_s - after["step_s"]) > CLOCK_S:
                yield contradiction("log.metrics", f"{where}: step_s", after["step_s"], "the clock moved by", took_s)
                break
        last = rows[-1]
        if last["step"] != run.steps:
            yield contradiction("number.metrics", f"{name}: last step", last["step"], "the run has", run.steps)
        if abs(last["elapsed_s"] - run.train_seconds) > CLOCK_S:
            what = f"{name}: seconds"
            yield contradiction("number.metrics", what, last["elapsed_s"], "the run trained", run.train_seconds)
