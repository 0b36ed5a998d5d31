"""The types of a record's files. submission.json is `Submission`; pydantic's JSON schema of it is records/schema.json.

The contest's usual keys keep their names (val_bpb, val_loss, bytes_total, seed_results ...). A submission is never
written by hand: tools/record/claim.py computes it from the evidence, for the writer and for the verifier.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import Field

from base.config import load
from base.errors import BadInput
from base.precision import Precision

SUBMISSION, README, MANIFEST, EVIDENCE = "submission.json", "README.md", "manifest.json", "evidence.json"
CODE, REQUIREMENTS = "train_gpt.py", "requirements.txt"
FIGURES = ("figures/loss.png", "figures/bytes.png", "figures/position.png")
TRACKS = Path(__file__).parents[2] / "records" / "tracks.yaml"

Size = Annotated[int, Gt(0)]
Seconds = Annotated[float, Ge(0.0)]
Bits = Annotated[float, Gt(0.0)]
Bpb = Annotated[float, Ge(1e-6), Le(1e3)]  # what an axis can hold and no model exceeds
Text = Annotated[str, MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What the author states; nothing here can be measured."""

    name: Text
    author: str = ""
    github_id: str = ""
    date: Text  # YYYY-MM-DD
    blurb: str = ""
    technique_summary: str = ""
    track: Text
    track_version: Size
    against: tuple[Bits, ...] = ()  # bits per byte of the row to beat: its seeds, or its mean


@dataclass(frozen=True, kw_only=True)
class Data:
    """The dataset. Bits per byte of one text are comparable, whatever its tokens are."""

    name: Text  # as a table spells it: stdlib-3.11.7, fineweb10B-sp1024
    source: str  # the argument of data.prep
    prep: str  # the command that makes it
    val_documents: Size
    shared_documents: Annotated[int, Ge(0)]  # on both sides
    sha256: str
    val_sha256: str
    tokenizer_sha256: str
    val_text_sha256: str = ""  # of the validation documents' text; "": their tokens' hash has to do
    python: str = ""  # its version, where the source is the interpreter's own library

    @property
    def text(self) -> str:
        """What two records have in common whose scores may be compared."""
        return self.val_text_sha256 or self.val_sha256


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How the shipped code scored the shipped artifacts."""

    seconds: dict[str, Seconds]  # by seed: the complete process
    network_cut: bool
    platform: str


@dataclass(frozen=True, kw_only=True)
class EvidenceFile:
    schema: Literal["bitgolf-evidence-1"] = "bitgolf-evidence-1"
    statement: Statement
    data: Data
    scoring: Scoring


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    val_bpb: Bpb  # of the artifact, over the complete validation side
    val_loss: Bits  # nats per token of the same
    pre_quant_val_bpb: Bits  # of the averaged weights before packing
    steps: Size
    train_seconds: Seconds
    calibration_seconds: Seconds  # quantizing and packing
    eval_seconds: Seconds  # the shipped code scoring the artifact: the complete process
    bytes_model: Size
    artifact: str
    artifact_sha256: str


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """Each target is scored first, then learned from. How exactly: eval.adapt of `config`."""

    kind: Literal["mix", "lora"]
    streams: Size  # parts of the text, each with a past of its own
    trees: Size  # of the vocabulary, whose predictions are averaged

    def __str__(self) -> str:
        return f"{self.kind}, streams {self.streams}, trees {self.trees}"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    stride: Size
    context: Size
    val_tokens: Size  # targets scored
    val_bytes: Size  # the denominator of val_bpb
    contest_bytes: Size
    # Of a score that adapts; a plain one has no such key, nor have records that are older than it.
    adapt: Annotated[Adaptation | None, Field(exclude_if=lambda adapt: adapt is None)] = None
    # Of the matrix products; a score in fp32 has no such key, nor have records that are older than it.
    precision: Annotated[Precision, Field(exclude_if=lambda precision: precision == "fp32")] = "fp32"


@dataclass(frozen=True, kw_only=True)
class Code:
    sha256: str
    sources_sha256: str  # of the modules in it
    trained: bool  # whether the runs ran this very file; if not, the modules that it is made of


@dataclass(frozen=True, kw_only=True)
class Submission:
    schema: Literal["bitgolf-record-2"] = "bitgolf-record-2"
    name: Text
    author: str
    github_id: str
    date: Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    blurb: str
    technique_summary: str
    track: str
    track_version: Size
    val_bpb: Bpb  # mean over seeds
    val_bpb_std: Annotated[float, Ge(0.0), Le(1e3)] | None  # of the sample; None for one seed
    val_loss: Bits
    val_loss_std: float | None
    seeds: Annotated[tuple[int, ...], MinLen(1)]
    seed_results: dict[str, SeedResult]
    median_seed: int  # model.golf is its artifact
    bytes_total: Size  # code and the largest artifact
    bytes_code: Size
    bytes_model: Size  # the largest artifact
    bytes_tokenizer: Size  # of tokenizer.model, which the artifact contains as well
    cap_bytes: Size
    params: Size
    evaluation: Evaluation
    data: Data
    code: Code
    hardware: str
    pytorch_version: str
    python_version: str
    compliance: dict[str, bool]
    against: dict[str, Any]  # the test of the lead over the statement's `against`; {} without one
    config: dict[str, Any]  # of the median seed

    @property
    def seed_bpbs(self) -> list[float]:
        return [result.val_bpb for result in self.seed_results.values()]


@dataclass(frozen=True, kw_only=True)
class Track:
    title: str
    hardware: str  # in words
    device: Literal["cuda", "cpu", "any"]
    devices: Annotated[int, Ge(0)]  # GPUs, or cores of a CPU; 0: any number
    cap_bytes: Size  # code and artifact
    train_seconds: Seconds  # 0: no limit
    calibration: Literal["inside", "apart"]  # whether packing that reads training text uses up training's seconds
    eval_seconds: Seconds  # 0: no limit
    data: str  # a dataset's name, or any; scores on different data are listed apart
    ranked: bool
    seeds: Size  # the fewest of a ranked claim
    margin_nats: Seconds  # the lead over the best row that a claim must prove, per token
    p: Annotated[float, Gt(0.0), Lt(1.0)]
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Tracks:
    version: int
    tracks: dict[str, Track]

    def named(self, name: str) -> Track:
        if name not in self.tracks:
            raise BadInput(f"no track is called {name:.60}; there are {', '.join(self.tracks)}")
        return replace(self.tracks[name], name=name)


def load_tracks() -> Tracks:
    tracks: Tracks = load(Tracks, TRACKS)
    return tracks
