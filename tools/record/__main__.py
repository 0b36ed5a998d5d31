"""Runs -> a record: a folder that a stranger can check in minutes, every number in it computed from what is shipped.

    python -m tools.record runs/seed1337 runs/seed42 runs/seed7 --track track_cpu_10min_1mb --name my-model
    python -m tools.record --track track_non_record_16mb --name quick               (the newest run)
    python -m tools.record runs/a --track T --name N --rerun          (the single file trains again; that is recorded)
    python -m tools.record runs/a --track T --name N --bundle FILE    (the runs ran this single file, not this tree)
    python -m tools.record runs/* --track track_10min_16mb --name N --layout contest --against 1.0612 1.0620 1.0614
    python -m tools.record --renew records/T/FOLDER     (compute claim, page and manifest again from its evidence)

The runs are seeds of one configuration. The single file scores each artifact alone in a clean folder with the network
cut; these block sums are the evidence from which the claim is computed. docs/records.md.
"""

import argparse
import datetime
import hashlib
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from base.cli import OneLineParser, command, run
from base.config import to_dict
from base.errors import BadInput, CheckFailed
from base.files import atomic_folder, write_json
from base.run_folder import ARTIFACT, LOG, METRICS, RESULT, newest
from data.bytes import bits_per_byte
from data.dataset import Dataset, open_dataset
from data.manifest import TOKENIZER
from eval.score import save_block_nats
from run_config import RunConfig
from tools.bundle import bundle, unbundle
from tools.record.claim import claim, median_seed, neutral_path
from tools.record.contest import contest_submission, missing_for_contest, pull_request, require_contest_track
from tools.record.describe import describe_data, folder_name, technique
from tools.record.evidence import Floats, read_evidence, seed_files
from tools.record.figures import draw_bytes, draw_losses, draw_positions
from tools.record.page import page
from tools.record.runs import Run, read_run, require_cap, require_code, require_one_configuration
from tools.record.schema import (
    CODE,
    EVIDENCE,
    FIGURES,
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
from tools.record.shipping import requirements, score_shipped, train_again
from tools.verify.folder import Folder
from tools.verify.sandbox import is_network_cut

RECORDS, CONTEST = "records", "contest"
RERUNS = Path("runs")
PULL_REQUEST = "PULL_REQUEST.md"
SAME_SCORE = 1e-6  # relative: the single file's score and the run's own are the same arithmetic


@dataclass(frozen=True)
class Recorded:
    path: str
    track: str
    val_bpb: float
    val_bpb_std: float | None
    val_loss: float
    bytes_total: int
    bytes_code: int
    bytes_model: int
    cap_bytes: int
    seeds: list[int]
    network_cut: bool
    seconds: float
    pull_request: str | None = None
    missing: list[str] | None = None  # of the contest's rules


@dataclass(frozen=True)
class Scored:
    run: Run
    block_nats: Floats
    seconds: float


def act(args: argparse.Namespace) -> Recorded:
    began = time.monotonic()
    if args.renew:
        folder = Path(args.renew)
        submission = write_computed(folder)
        return answer(folder, submission, began)
    if args.track is None or args.name is None:
        raise BadInput("name the record with --track and --name")
    tracks = load_tracks()
    track, date = tracks.named(args.track), checked_date(args.date)
    is_contest = args.layout == CONTEST
    if is_contest:
        require_contest_track(track.name)
    name = folder_name(date, args.name)
    root = Path(args.output or (CONTEST if is_contest else RECORDS))
    target = root / name if is_contest else root / track.name / name
    require_free(target)
    runs = [read_run(Path(folder)) for folder in args.runs or [newest(RESULT).parent]]
    require_one_configuration(runs)
    dataset = trained_on(runs[0], args.data)
    code = chosen_code(args, runs)
    if args.rerun:
        work = RERUNS / f"{name}-rerun"
        runs = [read_run(train_again(code, run.seed, dataset.path, work)) for run in runs]
        require_one_configuration(runs)
    if not is_contest:
        require_cap(runs, len(code), track)
    scored = [score_run(run, code, dataset) for run in runs]
    statement = Statement(
        name=args.name,
        author=args.author,
        github_id=args.github_id,
        date=date,
        blurb=args.blurb,
        technique_summary=technique(runs[0].config),
        track=track.name,
        track_version=tracks.version,
        against=tuple(args.against),
    )
    with atomic_folder(target) as part:
        folder = part / "records" / track.name / name if is_contest else part
        folder.mkdir(parents=True, exist_ok=True)
        write_evidence(folder, statement, scored, code, dataset)
        if is_contest:
            submission, missing = write_contest(folder, track, part / PULL_REQUEST)
        else:
            submission = write_computed(folder)
    if is_contest:
        return answer(target / "records" / track.name / name, submission, began, target / PULL_REQUEST, missing)
    return answer(target, submission, began)


def answer(
    folder: Path,
    submission: Submission,
    began: float,
    request: Path | None = None,
    missing: list[str] | None = None,
) -> Recorded:
    return Recorded(
        path=str(folder.resolve()),
        track=submission.track,
        val_bpb=submission.val_bpb,
        val_bpb_std=submission.val_bpb_std,
        val_loss=submission.val_loss,
        bytes_total=submission.bytes_total,
        bytes_code=submission.bytes_code,
        bytes_model=submission.bytes_model,
        cap_bytes=submission.cap_bytes,
        seeds=list(submission.seeds),
        network_cut=submission.compliance["scored_without_network"],
        seconds=round(time.monotonic() - began, 2),
        pull_request=str(request.resolve()) if request else None,
        missing=missing,
    )


# -- evidence -------------------------------------------------------------------------------------------------------


def require_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BadInput(f"{folder}: is in the way, and no folder; move it, or choose another --name or -o")
    if folder.is_dir() and any(folder.iterdir()):
        raise BadInput(f"{folder}: a record is there already; choose another --name or --date, or remove it")


def trained_on(run: Run, given: str | None) -> Dataset:
    """The dataset of the runs, wherever it is now."""
    dataset = open_dataset(given or run.config.data.path)
    if (found := dataset.manifest.data_sha256()) != run.result.data_sha256:
        raise BadInput(
            f"{dataset.path}: data {found[:12]}… is not the {run.result.data_sha256[:12]}… that the runs trained on; "
            "name theirs with --data"
        )
    return dataset


def chosen_code(args: argparse.Namespace, runs: Sequence[Run]) -> bytes:
    """The file that is shipped: the one that the runs ran, or one made of this tree; the lowest seed is its default."""
    if args.bundle is None:
        first = min(runs, key=lambda run: run.seed)
        made = bundle(neutral_config(first.config), first.folder.name, readable=args.readable)
        if not args.rerun:
            require_code(runs, made.sources_sha256, None)
        return made.data
    path = Path(args.bundle)
    if not path.is_file():
        raise BadInput(f"--bundle {path}: no such file")
    data = path.read_bytes()
    if unbundle(data) is None:
        raise BadInput(f"--bundle {path}: not a single file that tools.bundle made")
    require_code(runs, "", hashlib.sha256(data).hexdigest())
    return data


def neutral_config(config: RunConfig) -> RunConfig:
    return replace(config, data=replace(config.data, path=neutral_path(config.data.path)))


def score_run(run: Run, code: bytes, dataset: Dataset) -> Scored:
    """The single file's score; refused where it is not the run's own."""
    block_nats, seconds = score_shipped(code, run.artifact, dataset.path)
    found = bits_per_byte(float(block_nats.sum()), run.result.val_bytes)
    if abs(found - run.result.val_bpb) > SAME_SCORE * found:
        raise CheckFailed(
            f"{run.folder}: the single file scores its artifact at {found:.8f} bits per byte, the run's own score is "
            f"{run.result.val_bpb:.8f}: not within {SAME_SCORE:g}; score on the run's device, or train it again"
        )
    return Scored(run, block_nats, seconds)


def write_evidence(folder: Path, statement: Statement, scored: Sequence[Scored], code: bytes, dataset: Dataset) -> None:
    (folder / CODE).write_bytes(code)
    (folder / REQUIREMENTS).write_text(requirements(code), encoding="utf-8")
    (folder / TOKENIZER).write_bytes(dataset.tokenizer.model)
    for each in scored:
        names, run = seed_files(each.run.seed), each.run
        shutil.copyfile(run.folder / RESULT, folder / names["result"])
        shutil.copyfile(run.folder / METRICS, folder / names["metrics"])
        shutil.copyfile(run.folder / LOG, folder / names["log"])
        shutil.copyfile(run.artifact, folder / names["artifact"])
        save_block_nats(folder / names["nats"], each.block_nats)
    first = scored[0].run
    file = EvidenceFile(
        statement=statement,
        data=describe_data(dataset.manifest, first.config.data.path, first.result.python),
        scoring=Scoring(
            seconds={str(each.run.seed): each.seconds for each in scored},
            network_cut=is_network_cut(),
            platform=platform.platform(),
        ),
    )
    write_json(folder / EVIDENCE, to_dict(file))
    median = median_seed(read_evidence(Folder(folder)).seeds)
    (folder / seed_files(median.seed)["artifact"]).rename(folder / ARTIFACT)
    losses, sizes, positions = (folder / name for name in FIGURES)
    losses.parent.mkdir()
    draw_losses(losses, statement.name, [each.run for each in scored])
    draw_bytes(sizes, (folder / ARTIFACT).read_bytes())
    draw_positions(positions, folder / ARTIFACT, dataset)


# -- computed files -------------------------------------------------------------------------------------------------


def write_computed(folder: Path) -> Submission:
    """submission.json, README.md and manifest.json, from the evidence alone."""
    evidence = read_evidence(Folder(folder))
    submission = claim(evidence, load_tracks().named(evidence.file.statement.track))
    write_json(folder / SUBMISSION, to_dict(submission))
    (folder / README).write_text(page(submission), encoding="utf-8")
    write_json(folder / MANIFEST, list_files(Folder(folder)))
    return submission


def list_files(folder: Folder) -> dict[str, Any]:
    """The manifest: every file with its hash and size."""
    names = [name for name in folder.files if name != MANIFEST]
    files = {name: {"sha256": folder.sha256(name), "bytes": folder.files[name]} for name in names}
    return {"schema": "bitgolf-manifest-2", "files": files}


def write_contest(folder: Path, track: Track, request: Path) -> tuple[Submission, list[str]]:
    """The contest's own habits: its keys, one artifact, no machine-readable evidence; the pull request beside it."""
    submission = write_computed(folder)
    write_json(folder / SUBMISSION, contest_submission(submission))
    unusual = [EVIDENCE, MANIFEST]
    for seed in submission.seeds:
        names = seed_files(seed)
        unusual += [names[kind] for kind in ("result", "metrics", "nats", "artifact")]
    for name in unusual:
        (folder / name).unlink(missing_ok=True)
    missing = missing_for_contest(submission, track)
    path = f"records/{track.name}/{folder.name}"
    request.write_text(pull_request(submission, path, missing, track.ranked), encoding="utf-8")
    return submission, missing


# -- command --------------------------------------------------------------------------------------------------------


def checked_date(given: str | None) -> str:
    if given is None:
        return datetime.date.today().isoformat()
    try:
        return datetime.datetime.strptime(given, "%Y-%m-%d").date().isoformat()
    except ValueError:
        raise BadInput(f"--date {given}: write it as 2026-11-21") from None


def show(answer: Recorded) -> str:
    std = "" if answer.val_bpb_std is None else f" ± {answer.val_bpb_std:.5f}"
    seeds = ", ".join(map(str, answer.seeds))
    network = "cut" if answer.network_cut else "not cut"
    lines = [
        answer.path,
        f"  score   {answer.val_bpb:.5f}{std} bits per byte, seeds {seeds}, network {network}",
        f"  bytes   code {answer.bytes_code:,} + artifact {answer.bytes_model:,} = {answer.bytes_total:,} of "
        f"{answer.cap_bytes:,}",
    ]
    if answer.missing is None:
        lines.append(f"  check it: python -m tools.verify {answer.path}")
    else:
        lines.append(f"  pull request: {answer.pull_request}")
        lines += [f"  missing {miss}" for miss in answer.missing] or ["  every rule of the contest is met"]
    return "\n".join(lines)


def parser() -> OneLineParser:
    flags = command("tools.record", __doc__ or "")
    flags.add_argument("runs", nargs="*", metavar="RUN", help="the folder of each seed (default: the newest run)")
    flags.add_argument("--track", help="of records/tracks.yaml")
    flags.add_argument("--name", help="of the record and, with its date, of its folder")
    flags.add_argument("-o", "--output", metavar="DIR", help=f"default: {RECORDS}, or {CONTEST} with --layout contest")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: data.path of the runs)")
    flags.add_argument("--author", default="", help="of the record")
    flags.add_argument("--github-id", default="", help="of the author")
    flags.add_argument("--blurb", default="", help="what is new, in a sentence")
    flags.add_argument("--date", metavar="YYYY-MM-DD", help="default: today")
    flags.add_argument("--readable", action="store_true", help="ship the readable single file (default: packed)")
    flags.add_argument("--bundle", metavar="FILE", help="ship this single file, which the runs ran")
    flags.add_argument("--rerun", action="store_true", help="train every seed again with the single file first")
    flags.add_argument(
        "--against", type=float, nargs="+", default=[], metavar="BPB", help="the best row: its seeds or its mean"
    )
    flags.add_argument("--layout", choices=("own", CONTEST), default="own", help="default: %(default)s")
    flags.add_argument("--renew", metavar="FOLDER", help="compute a record's derived files again from its evidence")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
