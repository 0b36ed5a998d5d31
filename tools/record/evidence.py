"""Evidence: what a record ships and nobody can compute again. Read from a folder, typed, every size bounded.

    evidence = read_evidence(Folder(path))        BadInput names the file that is missing or malformed

The evidence of a seed is the run's own result.json, its metrics, its artifact, and the nats that the shipped code
measured per block of targets. Nothing is compared here: claim.py derives the claim, tools/verify/rules.py judges.
"""

import io
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from base.config import Layer, build
from base.errors import BadInput
from base.files import read_json_object
from base.result_file import result_from
from base.run_folder import ARTIFACT, RunResult, read_metrics
from data.manifest import TOKENIZER
from quant.format import Contents, read_head
from tools.record.schema import CODE, EVIDENCE, EvidenceFile
from tools.verify.folder import Folder

RESULT_NAME = re.compile(r"result_seed(0|[1-9]\d{0,17})\.json")
MOST_SEEDS = 100

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SeedEvidence:
    seed: int  # as the files are named
    result: RunResult
    metrics: list[dict[str, float]]
    block_nats: Floats  # (blocks,) of eval.score
    artifact: str  # the file's name
    artifact_bytes: int
    artifact_sha256: str
    head: Contents  # of the artifact, without its tensors

    @property
    def nats(self) -> float:
        return float(self.block_nats.sum())

    @property
    def steps(self) -> list[dict[str, float]]:
        """The rows of metrics that are steps."""
        return [row for row in self.metrics if {"step", "loss", "elapsed_s", "step_s"} <= row.keys()]


@dataclass(frozen=True)
class Evidence:
    file: EvidenceFile
    seeds: tuple[SeedEvidence, ...]  # in order of their numbers
    code_bytes: int
    code_sha256: str
    tokenizer_bytes: int
    tokenizer_sha256: str


def seed_files(seed: int) -> dict[str, str]:
    """The names of a seed's files in a record, by kind; the median seed's artifact is called model.golf."""
    return {
        "result": f"result_seed{seed}.json",
        "metrics": f"metrics_seed{seed}.jsonl",
        "nats": f"nats_seed{seed}.npy",
        "log": f"train_seed{seed}.log",
        "artifact": f"model_seed{seed}.golf",
    }


def recorded_seeds(folder: Folder) -> list[int]:
    return sorted(int(match[1]) for match in map(RESULT_NAME.fullmatch, folder.files) if match)


def read_evidence(folder: Folder) -> Evidence:
    file = build(EvidenceFile, [Layer(EVIDENCE, read_json_object(folder.text(EVIDENCE), EVIDENCE))])
    seeds = recorded_seeds(folder)
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise BadInput(f"{len(seeds)} files are named result_seed*.json; a record has 1 to {MOST_SEEDS}")
    return Evidence(
        file=file,
        seeds=tuple(read_seed(folder, seed) for seed in seeds),
        code_sha256=folder.sha256(CODE),
        code_bytes=folder.files[CODE],
        tokenizer_sha256=folder.sha256(TOKENIZER),
        tokenizer_bytes=folder.files[TOKENIZER],
    )


def read_seed(folder: Folder, seed: int) -> SeedEvidence:
    names = seed_files(seed)
    artifact = names["artifact"] if names["artifact"] in folder else ARTIFACT
    try:
        head = read_head(folder.read(artifact))
    except BadInput as bad:
        raise BadInput(f"{artifact}: {bad}") from None
    return SeedEvidence(
        seed=seed,
        result=result_from(read_json_object(folder.text(names["result"]), names["result"]), names["result"]),
        metrics=read_metrics(folder.text(names["metrics"]), names["metrics"]),
        block_nats=read_nats(folder.read(names["nats"]), names["nats"]),
        artifact=artifact,
        artifact_sha256=folder.sha256(artifact),
        artifact_bytes=folder.files[artifact],
        head=head,
    )


def read_nats(data: bytes, name: str) -> Floats:
    """A .npy of positive numbers in one row; its header is checked against its size before anything is allocated."""
    stream = io.BytesIO(data)
    try:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        nats = np.frombuffer(data, "<f8", offset=stream.tell())
    except ValueError as error:
        raise BadInput(f"{name}: not a .npy file of float64: {error!s:.100}") from None
    if dtype != nats.dtype or shape != nats.shape:
        raise BadInput(f"{name}: holds {dtype} of shape {shape!r:.40}, not one row of {len(nats):,} float64")
    if not (np.isfinite(nats).all() and (nats >= 0).all()):
        raise BadInput(f"{name}: holds a number that is negative or not finite")
    return nats
