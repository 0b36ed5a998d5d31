"""Ablations as data: every variant of a sweep file with every seed, trained once by however many workers there are.

    python -m tools.sweep configs/sweeps/micro26m_small.yaml              (a few minutes on two cores)
    python -m tools.sweep configs/sweeps/golf465.yaml --report --out docs/ablations/golf465

The same command resumes a sweep that was cut short, and joins one that runs: start it twice for two workers. A worker
that dies loses at most its own trial, which another runs again: the study is the folder runs/sweeps/NAME.
Writes table.md, answer.json and plot.png to --out.
Exit code 1: trials crashed (a trial that diverges, or that `train.stop_if` stops, is a result).
"""

import argparse
import signal
import sys
from pathlib import Path

from base.cli import OneLineParser, command, plain, run
from base.errors import BadInput, CheckFailed
from base.files import atomic_file, locked, write_json
from data.ensure import ensure_dataset
from tools.sweep.plot import picture
from tools.sweep.spec import Sweep, read_sweep
from tools.sweep.study import begin_study, read_trials, require_registered, study_folder
from tools.sweep.table import CRASHED, Report, Trial, as_markdown, make_report
from tools.sweep.worker import work


def act(args: argparse.Namespace) -> Report:
    sweep = read_sweep(Path(args.sweep))
    folder = study_folder(sweep)
    require_registered(sweep)
    if not args.report:
        begin_study(sweep)
        prepare_data(sweep, folder)
        work(sweep)
    report = write_report(sweep, read_trials(sweep), Path(args.out or folder))
    crashed = [f"{trial.variant}-s{trial.seed}" for trial in report.trials if trial.state == CRASHED]
    if crashed and not args.report:
        raise CheckFailed(f"crashed: {', '.join(crashed)}; see {folder}/logs; the same command tries again", report)
    return report


def prepare_data(sweep: Sweep, folder: Path) -> None:
    """Make the datasets that name their source, one worker of this machine at a time."""
    with locked(folder):
        for config in sweep.configs.values():
            ensure_dataset(config.data, config.model.vocab_size)


def write_report(sweep: Sweep, trials: list[Trial], out: Path) -> Report:
    require_one_dataset(sweep, trials)
    report = make_report(sweep, trials)
    out.mkdir(parents=True, exist_ok=True)
    atomic_file(out / "table.md", as_markdown(report).encode())
    atomic_file(out / "plot.png", picture(report))
    write_json(out / "answer.json", plain(report))
    print(f"table.md, plot.png and answer.json are in {out.resolve()}", flush=True)
    return report


def require_one_dataset(sweep: Sweep, trials: list[Trial]) -> None:
    """Scores on different data are not put in one table."""
    first: dict[str, str] = {}  # path -> hash
    for trial in trials:
        path = sweep.configs[trial.variant].data.path
        if trial.data_sha256 and first.setdefault(path, trial.data_sha256) != trial.data_sha256:
            raise BadInput(f"{path}: trials used different data; copy one dataset to every machine, start a new study")


def parser() -> OneLineParser:
    flags = command("tools.sweep", __doc__ or "")
    flags.add_argument("sweep", metavar="SWEEP.yaml")
    flags.add_argument("--out", metavar="DIR", help="for table and plot (default: runs/sweeps/NAME)")
    flags.add_argument("--report", action="store_true", help="table and plot of the trials there are; trains nothing")
    return flags


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # gives the running trial back, as Ctrl-C does
    sys.exit(run(parser(), act, as_markdown))
