"""Ablations as data: every variant of a sweep file with every seed, trained once by however many workers there are.

    python -m tools.sweep configs/sweeps/micro26m_small.yaml              (a few minutes on two cores)
    python -m tools.sweep configs/sweeps/golf465.yaml --report --out docs/ablations/golf465

The same command resumes a sweep that was cut short, and joins one that runs: start it twice for two workers, on other
machines too if they share the folder `runs`. Writes table.md, answer.json and plot.png to --out. Exit code 1: trials
crashed (a trial that diverges is a result).
"""

import argparse
import fcntl
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from base.cli import OneLineParser, command, plain, run
from base.errors import BadInput, CheckFailed
from base.files import atomic_file, write_json
from data.ensure import ensure_dataset
from tools.sweep.plot import picture
from tools.sweep.spec import Sweep, read_sweep
from tools.sweep.table import Row, Trial, Verdict, as_markdown, judge, tabulate
from tools.sweep.worker import find_trial, sweep_folder, work


@dataclass(frozen=True)
class Report:
    study: str
    trials: list[Trial]
    table: list[Row]
    claims: list[Verdict]


def act(args: argparse.Namespace) -> Report:
    sweep = read_sweep(Path(args.sweep))
    folder = sweep_folder(sweep.name)
    if not args.report:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        prepare_data(sweep, folder)
        work(sweep)
    report = write_report(sweep, Path(args.out or folder))
    crashed = [f"{trial.variant}-s{trial.seed}" for trial in report.trials if trial.state == "unfinished"]
    if crashed and not args.report:
        raise CheckFailed(f"crashed: {', '.join(crashed)}; see {folder}/logs; the same command tries again", report)
    return report


def prepare_data(sweep: Sweep, folder: Path) -> None:
    """Make the datasets that name their source, one worker at a time."""
    with (folder / "data.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for config in sweep.configs.values():
            if config.data.source:
                ensure_dataset(config.data.source, config.model.vocab_size, Path(config.data.path))


def write_report(sweep: Sweep, out: Path) -> Report:
    trials = [find_trial(sweep, key) for key in sweep.keys]
    require_one_dataset(sweep, trials)
    table = tabulate(sweep, trials)
    claims = [judge(claim, table, len(sweep.sheet.seeds)) for claim in sweep.sheet.claims]
    report = Report(sweep.name, trials, table, claims)
    out.mkdir(parents=True, exist_ok=True)
    atomic_file(out / "table.md", show(report).encode())
    atomic_file(out / "plot.png", picture(sweep.name, table))
    write_json(out / "answer.json", plain(report))
    print(f"table.md, plot.png and answer.json are in {out.resolve()}", flush=True)
    return report


def require_one_dataset(sweep: Sweep, trials: list[Trial]) -> None:
    """Scores on different data are not put in one table."""
    first: dict[str, str] = {}  # path -> hash
    for trial in trials:
        path = sweep.configs[trial.variant].data.path
        if trial.data_sha256 and first.setdefault(path, trial.data_sha256) != trial.data_sha256:
            raise BadInput(f"{path}: trials used different data; remove the runs with the old data")


def show(report: Report) -> str:
    return as_markdown(report.table, report.claims)


def parser() -> OneLineParser:
    flags = command("tools.sweep", __doc__ or "")
    flags.add_argument("sweep", metavar="SWEEP.yaml")
    flags.add_argument("--out", metavar="DIR", help="for table and plot (default: runs/sweeps/NAME)")
    flags.add_argument("--report", action="store_true", help="table and plot of the trials there are; trains nothing")
    return flags


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the running trial first, as Ctrl-C does
    sys.exit(run(parser(), act, show))
