"""Runs -> a record: a folder that a stranger can check in minutes, every number in it computed from what is shipped.

    python -m tools.record runs/seed1337 runs/seed42 runs/seed7 --track track_cpu_10min_1mb --name my-model
    python -m tools.record --track track_non_record_16mb --name quick               (the newest run)
    python -m tools.record runs/a --track T --name N --bundle FILE    (the runs ran this single file, not this tree)
    python -m tools.record runs/* --track track_10min_16mb --name N --layout contest --against 1.0612 1.0620 1.0614
    python -m tools.record --renew records/T/FOLDER     (compute claim, page and manifest again from its evidence)

The runs are seeds of one configuration. The single file scores each artifact alone in a clean folder with the network
cut; these block sums are the evidence from which the claim is computed. docs/records.md.
"""

import argparse
import datetime
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from base.cli import Answer, OneLineParser, command, run
from base.config import to_dict
from base.errors import BadInput, CheckFailed
from base.files import atomic_folder, write_json
from base.run_folder import ARTIFACT, LOG, LOSS_PLOT, METRICS, RESULT, newest
from data.bytes import bits_per_byte
from data.dataset import Dataset, open_dataset
from data.manifest import TOKENIZER
from data.overlap import find_overlap
from eval.score import save_block_nats
from tools.record.claim import median_seed, open_record
from tools.record.contest import CONTEST_TRACKS, contest_submission, missing_for_contest, pull_request
from tools.record.describe import describe_data, folder_name, technique
from tools.record.evidence import Floats, read_evidence, seed_files
from tools.record.figures import draw_figures
from tools.record.page import page
from tools.record.runs import Run, read_run, require_one_configuration
from tools.record.schema import (
    CODE,
    EVIDENCE,
    MANIFEST,
    README,
    REQUIREMENTS,
    SUBMISSION,
    EvidenceFile,
    Scoring,
    Statement,
    Submission,
    Track,
    load_tracks,
)
from tools.record.shipping import make_code, read_code, requirements, score_shipped
from tools.verify.folder import Folder
from tools.verify.sandbox import is_network_cut, scoring_ranks

RECORDS, CONTEST = "records", "contest"
PULL_REQUEST = "PULL_REQUEST.md"
# Relative: the single file's score and the run's own are the same arithmetic, which bf16's kernels round differently.
SAME_SCORE = {"fp32": 1e-6, "bf16": 2.5e-4}
ANSWERED = ("track", "val_bpb", "val_bpb_std", "val_loss", "bytes_total", "bytes_code", "bytes_model", "cap_bytes",
            "seeds", "compliance")  # fmt: skip


def act(args: argparse.Namespace) -> Answer:
    began = time.monotonic()
    if args.renew:
        return summarize(Path(args.renew), write_computed(Path(args.renew)), began)
    if args.track is None or args.name is None:
        raise BadInput("name the record with --track and --name")
    tracks = load_tracks()
    track = tracks.named(args.track)
    name = folder_name(args.date, args.name)
    is_contest = args.layout == CONTEST
    if is_contest and track.name not in CONTEST_TRACKS:
        raise BadInput(f"--layout contest: the contest has no {track.name}; it has {' and '.join(CONTEST_TRACKS)}")
    target = Path(args.output or CONTEST, name) if is_contest else Path(args.output or RECORDS, track.name, name)
    inside = Path("records", track.name, name) if is_contest else Path()
    require_free(target)
    runs = [read_run(Path(folder)) for folder in args.runs or [newest(RESULT).parent]]
    require_one_configuration(runs)
    dataset = open_training_data(runs[0], args.data)
    code = read_code(Path(args.bundle), runs) if args.bundle else make_code(runs, args.readable)
    require_cap(runs, len(code), track)
    statement = Statement(
        name=args.name,
        author=args.author,
        github_id=args.github_id,
        date=args.date,
        blurb=args.blurb,
        technique_summary=technique(runs[0].config),
        track=track.name,
        track_version=tracks.version,
        against=tuple(args.against),
    )
    with atomic_folder(target) as part:
        folder = part / inside
        folder.mkdir(parents=True, exist_ok=True)
        write_evidence(folder, statement, runs, code, dataset)
        submission = write_computed(folder)
        answer = summarize(target / inside, submission, began)
        if is_contest:
            missing = missing_for_contest(submission, track)
            to_contest_layout(folder, submission)
            request = pull_request(submission, inside.as_posix(), missing, track.ranked)
            (part / PULL_REQUEST).write_text(request, encoding="utf-8")
            answer |= {"pull_request": str((target / PULL_REQUEST).resolve()), "missing": missing}
    return answer


def summarize(folder: Path, submission: Submission, began: float) -> Answer:
    values = to_dict(submission)
    path = str(folder.resolve())
    return {"path": path, **{key: values[key] for key in ANSWERED}, "seconds": round(time.monotonic() - began, 2)}


# -- what is refused ------------------------------------------------------------------------------------------------


def require_free(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise BadInput(f"{folder}: is there already; choose another --name, --date or -o, or remove it")


def open_training_data(run: Run, given: str | None) -> Dataset:
    """The dataset of the runs, wherever it is now."""
    dataset = open_dataset(given or run.config.data.path)
    manifest = dataset.manifest
    if manifest.data_sha256() != run.result.data_sha256:
        raise BadInput(f"{dataset.path}: is not the data that the runs trained on; name theirs with --data")
    if manifest.shared_documents is not None:
        return dataset
    overlap = find_overlap(dataset.documents("train"), dataset.documents("val"))  # bare shards: a minute for FineWeb
    return replace(dataset, manifest=replace(manifest, shared_documents=overlap.documents if overlap else 0))


def require_cap(runs: Sequence[Run], code_bytes: int, track: Track) -> None:
    largest = max(runs, key=lambda run: run.result.artifact_bytes)
    artifact_bytes = largest.result.artifact_bytes
    over = code_bytes + artifact_bytes - track.cap_bytes
    if over > 0:
        raise BadInput(
            f"{largest.folder}: code {code_bytes:,} + artifact {artifact_bytes:,} bytes are {over:,} over the "
            f"{track.cap_bytes:,} of {track.name}; lower quant.cap_bytes by that much, or drop --readable"
        )


def score_run(run: Run, code: bytes, dataset: Dataset) -> tuple[Floats, float]:
    """What the single file measures; refused where it is not the run's own score."""
    ranks = scoring_ranks(run.result.adapt)
    block_nats, seconds = score_shipped(code, run.folder / ARTIFACT, dataset.path, ranks)
    found = bits_per_byte(float(block_nats.sum()), run.result.val_bytes)
    same = SAME_SCORE[run.result.precision]
    if abs(found - run.result.val_bpb) > same * found:
        raise CheckFailed(
            f"{run.folder}: the single file scores its artifact at {found:.8f} bits per byte, the run's own score is "
            f"{run.result.val_bpb:.8f}: not within {same:g}; score on the run's device, or train it again"
        )
    return block_nats, seconds


# -- what is written ------------------------------------------------------------------------------------------------


def write_evidence(folder: Path, statement: Statement, runs: Sequence[Run], code: bytes, dataset: Dataset) -> None:
    (folder / CODE).write_bytes(code)
    (folder / REQUIREMENTS).write_text(requirements(code), encoding="utf-8")
    (folder / TOKENIZER).write_bytes(dataset.tokenizer.model)
    scoring_seconds = {}
    for each in runs:
        names = seed_files(each.seed)
        for source, kind in ((RESULT, "result"), (METRICS, "metrics"), (LOG, "log"), (ARTIFACT, "artifact")):
            shutil.copyfile(each.folder / source, folder / names[kind])
        block_nats, scoring_seconds[str(each.seed)] = score_run(each, code, dataset)
        save_block_nats(folder / names["nats"], block_nats)
    file = EvidenceFile(
        statement=statement,
        data=describe_data(dataset.manifest, runs[0].config.data.path, runs[0].result.python),
        scoring=Scoring(seconds=scoring_seconds, network_cut=is_network_cut(), platform=platform.platform()),
    )
    write_json(folder / EVIDENCE, to_dict(file))
    median = median_seed(read_evidence(Folder(folder)).seeds)
    (folder / median.artifact).rename(folder / ARTIFACT)
    (median_run,) = (each for each in runs if each.seed == median.seed)
    draw_figures(folder, median_run.folder / LOSS_PLOT, folder / ARTIFACT, dataset)


def write_computed(folder: Path) -> Submission:
    """submission.json, README.md and manifest.json, from the evidence alone."""
    submission = open_record(Folder(folder)).claim
    write_json(folder / SUBMISSION, to_dict(submission))
    (folder / README).write_text(page(submission), encoding="utf-8")
    write_json(folder / MANIFEST, list_files(Folder(folder)))
    return submission


def list_files(folder: Folder) -> dict[str, Any]:
    """The manifest: every file with its hash and size."""
    names = [name for name in folder.files if name != MANIFEST]
    files = {name: {"sha256": folder.sha256(name), "bytes": folder.files[name]} for name in names}
    return {"schema": "bitgolf-manifest-2", "files": files}


def to_contest_layout(folder: Path, submission: Submission) -> None:
    """The contest's own habits: its keys, one artifact, no machine-readable evidence."""
    write_json(folder / SUBMISSION, contest_submission(submission))
    unusual = [EVIDENCE, MANIFEST]
    for seed in submission.seeds:
        unusual += [name for kind, name in seed_files(seed).items() if kind != "log"]
    for name in unusual:
        (folder / name).unlink(missing_ok=True)


# -- command --------------------------------------------------------------------------------------------------------


def show(answer: Answer) -> str:
    std = "" if answer["val_bpb_std"] is None else f" ± {answer['val_bpb_std']:.5f}"
    lines = [
        answer["path"],
        f"  score   {answer['val_bpb']:.5f}{std} bits per byte, seeds {', '.join(map(str, answer['seeds']))}",
        f"  bytes   code {answer['bytes_code']:,} + artifact {answer['bytes_model']:,} = {answer['bytes_total']:,} of "
        f"{answer['cap_bytes']:,}",
    ]
    lines += [f"  not     {name.replace('_', ' ')}" for name, kept in answer["compliance"].items() if not kept]
    if "missing" not in answer:
        return "\n".join([*lines, f"  check it: python -m tools.verify {answer['path']}"])
    missing = [f"  missing {miss}" for miss in answer["missing"]] or ["  every rule of the contest is met"]
    return "\n".join([*lines, f"  pull request: {answer['pull_request']}", *missing])


def checked_date(text: str) -> str:
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise BadInput(f"--date {text}: write it as 2026-11-21") from None


def parser() -> OneLineParser:
    today = datetime.date.today().isoformat()
    flags = command("tools.record", __doc__ or "")
    flags.add_argument("runs", nargs="*", metavar="RUN", help="the folder of each seed (default: the newest run)")
    flags.add_argument("--track", help="of records/tracks.yaml")
    flags.add_argument("--name", help="of the record and, with its date, of its folder")
    flags.add_argument("-o", "--output", metavar="DIR", help=f"default: {RECORDS}, or {CONTEST} with --layout contest")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: data.path of the runs)")
    flags.add_argument("--author", default="", help="of the record")
    flags.add_argument("--github-id", default="", help="of the author")
    flags.add_argument("--blurb", default="", help="what is new, in a sentence")
    flags.add_argument("--date", type=checked_date, default=today, metavar="YYYY-MM-DD", help="default: today")
    flags.add_argument("--readable", action="store_true", help="ship the readable single file (default: packed)")
    flags.add_argument("--bundle", metavar="FILE", help="ship this single file, which the runs ran")
    best = "the best row: its seeds or its mean"
    flags.add_argument("--against", type=float, nargs="+", default=[], metavar="BPB", help=best)
    flags.add_argument("--layout", choices=("own", CONTEST), default="own", help="default: %(default)s")
    flags.add_argument("--renew", metavar="FOLDER", help="compute a record's derived files again from its evidence")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
