"""submission.json: everything that a record claims, typed; `schema()` is what records/schema.json publishes.

The contest's usual keys keep their names (val_bpb, val_loss, bytes_total, seed_results, ...). Nothing here is believed:
tools.verify derives each number again.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen
from pydantic import TypeAdapter

SCHEMA: Literal["bitgolf-record-1"] = "bitgolf-record-1"

Count = Annotated[int, Ge(0)]
Size = Annotated[int, Gt(0)]
Seconds = Annotated[float, Ge(0.0)]
Bits = Annotated[float, Gt(0.0)]


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """One run. Files are names in the record's folder."""

    val_bpb: Bits  # of the packed artifact, whole validation side, the rule of `evaluation`
    val_loss: Bits  # nats a token, of the same
    pre_quant_val_bpb: Bits  # of the averaged weights before packing
    steps: Size
    train_seconds: Seconds
    calibration_seconds: Seconds  # quantizing and packing
    eval_seconds: Seconds  # scoring the packed artifact
    bytes_model: Size
    artifact: str
    artifact_sha256: str
    log: str
    metrics: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The rule of the score, and what it was counted over."""

    stride: Size
    context: Size
    adapt: str = ""  # score-first adaptation, by its name in eval.adapt; "": none
    val_tokens: Size  # targets scored
    val_bytes: Size  # exact bytes, the denominator of val_bpb
    contest_bytes: Size


@dataclass(frozen=True, kw_only=True)
class Data:
    """Scores are comparable where `val_sha256` and the tokenizer's bytes agree."""

    name: str  # how a table calls it: stdlib-3.11.7, fineweb10B-sp1024
    source: str  # how to prepare it: what data.prep was given
    sha256: str  # of the whole dataset, as the run's log names it
    val_sha256: str
    tokenizer_sha256: str
    python: str = ""  # where the source is the interpreter's own library: its version


@dataclass(frozen=True, kw_only=True)
class Submission:
    schema: Literal["bitgolf-record-1"] = SCHEMA
    name: Annotated[str, MinLen(1)]
    author: str
    github_id: str
    date: Annotated[str, MinLen(10)]  # YYYY-MM-DD
    blurb: str
    track: str
    track_version: Size
    val_bpb: Bits  # mean over seeds
    val_bpb_std: float | None  # of the sample; None for one seed
    val_loss: Bits
    val_loss_std: float | None
    seeds: Annotated[tuple[int, ...], MinLen(1)]
    seed_results: dict[str, SeedResult]
    bytes_total: Size  # code + the largest artifact
    bytes_code: Size
    bytes_model: Size  # the largest artifact
    bytes_tokenizer: Count  # of tokenizer.model, which is inside the artifact, too
    cap_bytes: Size
    params: Size
    evaluation: Evaluation
    data: Data
    hardware: str
    pytorch_version: str
    python_version: str
    compliance: dict[str, bool]
    technique_summary: str = ""
    base_record: str = ""  # the record that this one builds on
    attribution: str = ""
    notes: dict[str, Any] = field(default_factory=dict)


def schema() -> dict[str, Any]:
    """The JSON schema of submission.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(Submission).json_schema()}
