"""The record's folder on disk: every file, then its manifest, then one rename; nothing half-written is ever seen."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from base.config import to_dict
from base.errors import BadInput
from data.dataset import Dataset
from data.manifest import TOKENIZER
from tools.record.claim import Seed, artifact_names
from tools.record.code import Code, requirements
from tools.record.contest import contest_submission
from tools.record.figures import BYTES, LOSS, POSITION, draw_bytes, draw_losses, draw_positions
from tools.record.markdown import bpb
from tools.record.page import readme
from tools.record.runs import LOG, METRICS
from tools.record.schema import Submission
from tools.record.scoring import ARTIFACT, CODE
from tools.verify.measured_box import network_is_cut

README, SUBMISSION, MANIFEST, REQUIREMENTS, FIGURES = (
    "README.md", "submission.json", "manifest.json", "requirements.txt", "figures",
)  # fmt: skip
MANIFEST_SCHEMA = "bitgolf-manifest-1"


def require_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BadInput(f"{folder}: is in the way, and no folder; move it, or choose another --name or -o")
    if folder.is_dir() and any(folder.iterdir()):
        raise BadInput(f"{folder}: there is a record already; choose another --name or --date, or remove it")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A sibling to write into, which takes the folder's name at the end, or vanishes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    part.mkdir()
    try:
        yield part
        part.rename(folder)  # over an empty one, too
    finally:
        shutil.rmtree(part, ignore_errors=True)


def fill(part: Path, submission: Submission, found: Sequence[Seed], code: Code, dataset: Dataset) -> None:
    """Our own layout: each seed's artifact, log and metrics, and the hashes of all."""
    shared_files(part, submission, found, code, dataset)
    names = artifact_names(found)
    for seed in found:
        shutil.copyfile(seed.run.artifact, part / names[seed.number])
        shutil.copyfile(seed.run.folder / METRICS, part / f"metrics_seed{seed.number}.jsonl")
    write_json(part / SUBMISSION, to_dict(submission))
    write_readme(part, submission, {README: None, MANIFEST: None})
    write_json(part / MANIFEST, manifest(part, submission, code))


def fill_contest(part: Path, submission: Submission, found: Sequence[Seed], code: Code, dataset: Dataset) -> None:
    """The contest's layout: its keys, and of the artifacts the median seed's alone."""
    shared_files(part, submission, found, code, dataset)
    write_json(part / SUBMISSION, contest_submission(submission))
    write_readme(part, submission, {README: None})


def shared_files(part: Path, submission: Submission, found: Sequence[Seed], code: Code, dataset: Dataset) -> None:
    """What both layouts have."""
    (part / CODE).write_bytes(code.data)
    (part / REQUIREMENTS).write_text(requirements(code), encoding="utf-8")
    (part / TOKENIZER).write_bytes(dataset.tokenizer.model)
    for seed in found:
        shutil.copyfile(seed.run.folder / LOG, part / f"train_seed{seed.number}.log")
    middle = next(seed for seed in found if artifact_names(found)[seed.number] == ARTIFACT)
    shutil.copyfile(middle.run.artifact, part / ARTIFACT)
    figures = part / FIGURES
    figures.mkdir()
    draw_losses(
        figures / LOSS,
        f"{submission.name}: {bpb(submission.val_bpb)} bits a byte",
        {seed.number: seed.run.folder / METRICS for seed in found},
        {seed.number: seed.scored.bpb for seed in found},
    )
    draw_bytes(figures / BYTES, part / ARTIFACT)
    draw_positions(figures / POSITION, part / ARTIFACT, dataset.path)


def write_readme(part: Path, submission: Submission, unsized: dict[str, int | None]) -> None:
    """The page cannot say its own size, nor that of the manifest, which has the page's hash."""
    sizes: dict[str, int | None] = {name: path.stat().st_size for name, path in files(part).items()}
    (part / README).write_text(readme(submission, sizes | unsized), encoding="utf-8")


def files(folder: Path) -> dict[str, Path]:
    """Name in the record -> file; figures as figures/loss.png."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in found}


def manifest(folder: Path, submission: Submission, code: Code) -> dict[str, Any]:
    return {
        "schema": MANIFEST_SCHEMA,
        "files": {
            name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
            for name, path in files(folder).items()
            if name != MANIFEST
        },
        "code": {"sources": code.sources, "sources_sha256": code.sources_sha256, "packed": code.packed},
        "data": to_dict(submission.data),
        "environment": {
            "python": submission.python_version,
            "torch": submission.pytorch_version,
            "device": submission.hardware,
            "platform": platform.platform(),
            "network_at_scoring": "cut" if network_is_cut() else "not cut: this kernel does not let a user do so",
        },
    }


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
