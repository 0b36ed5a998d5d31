"""Experiments on an artifact: the probes P1 to P7, and a real codec whose decoder never saw the text.

A failed probe is `probe.NAME`, invalid, with its counter-example; what the document before does to the next one
(boundary) is told and never held against anybody. The codec compresses a few validation documents, drawn by the
record's hash, and another process gives them back from the file and the artifact alone.
"""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from base.errors import BadInput, CheckFailed
from data.dataset import Dataset
from eval.codec import compress
from eval.probe import FEWEST_TOKENS, NAMES, probe_artifact
from quant.unpack import Artifact
from tools.verify.verdict import Finding

PROBES = [name for name in NAMES if name not in ("codec", "fresh")]  # the codec has a rule of its own, below
TOKENS, COINS = 1024, 128
CODEC_BYTES, DOCUMENT_BYTES = 8_000, 2_000
SLACK, SLACK_BYTES = 1.001, 64  # what the codec promises over the model's bits
LIMIT_S = 600.0
ROOT = Path(__file__).parents[2]


def probed(seed: int, path: Path, dataset: Dataset, adapt: str) -> Iterator[Finding]:
    """`path`: a copy of the artifact."""
    tokens = max(FEWEST_TOKENS, min(TOKENS, len(dataset.val)))
    try:
        report = probe_artifact(path, dataset, PROBES, tokens, COINS, adapt=adapt)
    except BadInput as bad:  # too little text, a scoring rule that cannot be carried out
        yield Finding("probe.begun", "unverified", f"seed {seed}: the probes cannot be run: {bad}", {"seed": seed})
        return
    except CheckFailed as failure:
        yield Finding("probe.losses", "invalid", f"seed {seed}: {failure}", {"seed": seed})
        return
    for name, found in report.probes.items():
        evidence = {"seed": seed, **found.evidence}
        if found.passed is False:
            yield Finding(f"probe.{name}", "invalid", f"seed {seed}: {found.detail}", evidence)
        elif name == "boundary":
            yield Finding("probe.boundary", "note", f"seed {seed}: {found.detail}", evidence)
    passed = sum(found.passed is True for found in report.probes.values())
    said = f"seed {seed}: {passed} of {len(report.probes)} probes passed"
    numbers = {"passed": passed, "seconds": report.seconds}
    yield Finding("probe.measured", "note", said, {f"probes_seed{seed}": numbers})


def codec_sample(
    seed: int, path: Path, artifact: Artifact, dataset: Dataset, rng: np.random.Generator
) -> Iterator[Finding]:
    text, documents = _some_text(dataset, rng)
    packed, given_back = path.with_suffix(".glz"), path.with_suffix(".txt")
    try:
        data, nats = compress(artifact, text)
    except (BadInput, ValueError, ArithmeticError) as error:  # forecasts that are no distributions
        yield Finding("codec.compress", "invalid", f"seed {seed}: validation text cannot be coded: {error!s:.200}")
        return
    evidence = {
        "documents": documents, "text_bytes": len(text), "coded_bytes": len(data),
        "model_bytes": nats / math.log(2) / 8,
    }  # fmt: skip
    said = f"seed {seed}: {len(text):,} bytes of {documents} documents take {len(data):,}, the model says "
    said += f"{evidence['model_bytes']:,.0f}"
    if len(data) > evidence["model_bytes"] * SLACK + SLACK_BYTES:
        yield Finding("codec.length", "invalid", f"{said}: more than 0.1 % and {SLACK_BYTES} bytes beyond it", evidence)
        return
    packed.write_bytes(data)
    if trouble := _decompressed(path, packed, given_back):  # another process's rounding, and not the record's fault
        yield Finding("codec.decodes", "unverified", f"seed {seed}: the sample was not decoded: {trouble}", evidence)
    elif given_back.read_bytes() != text:
        yield Finding("codec.decodes", "invalid", f"seed {seed}: the sample decodes to other bytes", evidence)
    else:
        yield Finding(
            "codec.measured", "note", f"{said}; another process gave them back", {f"codec_seed{seed}": evidence}
        )


def _decompressed(artifact: Path, packed: Path, target: Path) -> str:
    """In a process of its own, which is told where these three lie and no more; returns what went wrong."""
    words = ["-m", "eval.codec", "decompress", str(artifact), str(packed), str(target)]
    try:
        done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"no end after {LIMIT_S:g} s"
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1] if done.returncode else ""


def _some_text(dataset: Dataset, rng: np.random.Generator) -> tuple[bytes, int]:
    """The beginnings of some validation documents, up to CODEC_BYTES in all."""
    documents = list(dataset.documents("val"))
    text, taken = b"", 0
    for number in rng.permutation(len(documents)).tolist():
        if len(text) >= CODEC_BYTES:
            break
        text += dataset.table.join(documents[number][:DOCUMENT_BYTES])[:DOCUMENT_BYTES]
        taken += 1
    return text[:CODEC_BYTES], taken
