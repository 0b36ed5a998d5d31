"""Runs -> a record: a folder that a stranger can check in minutes, every number in it measured from what is shipped.

    python -m tools.record runs/seed1337 runs/seed42 runs/seed7 --track track_cpu_10min_1mb --name my-model
    python -m tools.record --track track_non_record_16mb --name quick               (the newest run)
    python -m tools.record runs/a --track T --name N --rerun          (the single file trains again; that is recorded)
    python -m tools.record runs/a --track T --name N --bundle FILE    (it was run from this single file, not this tree)
    python -m tools.record runs/* --track track_10min_16mb --name N --layout contest --against 1.0612 1.0620 1.0614

The runs are seeds of one configuration. The single file is generated, each artifact is scored with it alone in a clean
directory with the network cut, and these scores are the record's; they must be the runs' own. docs/records.md.
"""

import argparse
import datetime
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput
from base.run_folder import RESULT, newest
from data.dataset import Dataset, open_dataset
from tools.record.claim import Circumstances, Seed, agreed, claim, require_budget
from tools.record.code import Code, generated, given
from tools.record.contest import misses, pull_request, require_contest_track
from tools.record.describe import folder_name, neutral
from tools.record.folder import fill, fill_contest, require_free, written_whole
from tools.record.runs import Run, read_run, require_one_configuration, require_one_source, require_sources
from tools.record.schema import Submission
from tools.record.scoring import score_shipped, train_again
from tools.record.tracks import Track, load_tracks
from tools.verify.measured_box import network_is_cut

RECORDS, CONTEST = "records", "contest"
RERUNS = Path("runs")
PULL_REQUEST = "PULL_REQUEST.md"


def act(args: argparse.Namespace) -> Answer:
    began = time.monotonic()
    tracks = load_tracks()
    track, date = tracks.named(args.track), checked_date(args.date)
    contest = args.layout == CONTEST
    if contest:
        require_contest_track(track.name)
    name = folder_name(date, args.name)
    root = Path(args.output or (CONTEST if contest else RECORDS))
    target = root / name if contest else root / track.name / name
    require_free(target)
    runs = [read_run(Path(folder)) for folder in args.runs or [said_newest()]]
    require_one_configuration(runs)
    dataset = matching(runs, args.data)
    code = chosen_code(args, runs, track)
    if args.rerun:
        work = RERUNS / f"{name}-rerun"
        runs = [read_run(train_again(code.data, run.config.seed, dataset.path, work)) for run in runs]
        require_one_configuration(runs)
        require_sources(runs, code.sources_sha256)
    if not contest:
        require_budget(runs, len(code.data), track)
    found = [agreed(Seed(run, score_shipped(code.data, run.artifact, dataset.path))) for run in runs]
    told = Circumstances(
        name=args.name, author=args.author, github_id=args.github_id, date=date, blurb=args.blurb, track=track,
        track_version=tracks.version, code_bytes=len(code.data), code_sha256=code.sha256, packed=code.packed,
        manifest=dataset.manifest, network_cut=network_is_cut(), against=tuple(args.against),
    )  # fmt: skip
    submission = claim(found, told)
    with written_whole(target) as part:
        if contest:
            missing = write_contest(part, name, submission, track, found, code, dataset)
        else:
            fill(part, submission, found, code, dataset)
    answer = {
        "path": str((target / "records" / track.name / name if contest else target).resolve()),
        **{key: getattr(submission, key) for key in ("track", "val_bpb", "val_bpb_std", "val_loss", "bytes_total")},
        **{key: getattr(submission, key) for key in ("bytes_code", "bytes_model", "cap_bytes")},
        "seeds": list(submission.seeds),
        "network_cut": network_is_cut(),
        "seconds": round(time.monotonic() - began, 2),
    }
    extra = {"pull_request": str((target / PULL_REQUEST).resolve()), "missing": missing} if contest else {}
    return answer | extra


def write_contest(
    part: Path, name: str, submission: Submission, track: Track, found: Sequence[Seed], code: Code, dataset: Dataset
) -> list[str]:
    """The folder where the contest's repository has it, and beside it the pull request."""
    folder = Path("records") / track.name / name
    (part / folder).mkdir(parents=True)
    fill_contest(part / folder, submission, found, code, dataset)
    missing = misses(submission, track)
    (part / PULL_REQUEST).write_text(pull_request(submission, folder.as_posix(), missing, track.ranked), "utf-8")
    return missing


def chosen_code(args: argparse.Namespace, runs: Sequence[Run], track: Track) -> Code:
    """The file that is shipped; the lowest seed is its default. The contest's is readable where that fits."""
    if args.bundle is not None:
        return given(Path(args.bundle), runs)
    config = neutral(min(runs, key=lambda run: run.config.seed).config)
    code = generated(config, packed=not (args.readable or args.layout == CONTEST))
    if not args.rerun:
        require_one_source(runs)
        require_sources(runs, code.sources_sha256)
    largest = max(run.artifact.stat().st_size for run in runs)
    if args.layout == CONTEST and not args.readable and len(code.data) + largest > track.cap_bytes:
        return generated(config, packed=True)
    return code


def matching(runs: Sequence[Run], given: str | None) -> Dataset:
    """The dataset that the runs were trained on, wherever it lies now."""
    config, result = runs[0].config, runs[0].result
    dataset = open_dataset(given or config.data.path)
    if (found := dataset.manifest.data_sha256()) != result.data_sha256:
        raise BadInput(
            f"{dataset.path}: data {found[:12]}… is not the {result.data_sha256[:12]}… that the runs were trained on; "
            "name theirs with --data"
        )
    return dataset


def said_newest() -> Path:
    folder = newest(RESULT).parent
    print(f"taking the newest: {folder}", file=sys.stderr)
    return folder


def checked_date(given: str | None) -> str:
    if given is None:
        return datetime.date.today().isoformat()
    try:
        return datetime.datetime.strptime(given, "%Y-%m-%d").date().isoformat()
    except ValueError:
        raise BadInput(f"--date {given}: write it as 2026-11-21") from None


def show(answer: Answer) -> str:
    std = "" if answer["val_bpb_std"] is None else f" ± {answer['val_bpb_std']:.5f}"
    seeds = ", ".join(map(str, answer["seeds"]))
    lines = [
        f"{answer['path']}",
        f"  score   {answer['val_bpb']:.5f}{std} bits a byte, seeds {seeds}, network "
        f"{'cut' if answer['network_cut'] else 'not cut'}",
        f"  bytes   code {answer['bytes_code']:,} + artifact {answer['bytes_model']:,} = {answer['bytes_total']:,} of "
        f"{answer['cap_bytes']:,}",
    ]
    if "missing" in answer:
        lines += [f"  pull request: {answer['pull_request']}", *(f"  missing {miss}" for miss in answer["missing"])]
        lines += ["  nothing of the contest's rules is missing"] if not answer["missing"] else []
    else:
        lines.append(f"  check it: python -m tools.verify {answer['path']}")
    return "\n".join(lines)


def parser() -> OneLineParser:
    flags = command("tools.record", __doc__ or "")
    flags.add_argument("runs", nargs="*", metavar="RUN", help="a seed's folder each (default: the newest run)")
    flags.add_argument("--track", required=True, help="of records/tracks.yaml")
    flags.add_argument("--name", required=True, help="of the record and, with its date, of its folder")
    flags.add_argument("-o", "--output", metavar="DIR", help=f"default: {RECORDS}, or {CONTEST} with --layout contest")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: data.path of the runs)")
    for name, told in (
        ("author", "whose record it is"),
        ("github-id", "the author's name there"),
        ("blurb", "what is new, in a sentence"),
    ):
        flags.add_argument(f"--{name}", default="", help=told)
    flags.add_argument("--date", metavar="YYYY-MM-DD", help="default: today")
    flags.add_argument("--readable", action="store_true", help="ship the readable single file (default: packed)")
    flags.add_argument("--bundle", metavar="FILE", help="ship this single file, which the runs were run from")
    flags.add_argument("--rerun", action="store_true", help="train every seed again with the single file first")
    flags.add_argument(
        "--against", type=float, nargs="+", default=[], metavar="BPB", help="the best row: seeds or mean"
    )
    flags.add_argument("--layout", choices=("own", CONTEST), default="own", help="default: %(default)s")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
