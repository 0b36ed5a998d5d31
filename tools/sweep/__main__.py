"""Ablations as data: every variant of a sweep file with every seed, trained once by however many workers there are.

    python -m tools.sweep configs/sweeps/micro26m_small.yaml              (a few minutes on two cores)
    python -m tools.sweep configs/sweeps/golf465.yaml --storage postgresql://HOST/DB     (here, and on other machines)
    python -m tools.sweep configs/sweeps/golf465.yaml --report --out docs/ablations/golf465

The same command resumes a sweep that was cut short, and joins one that runs: start it twice for two workers. The study
(Optuna's) is in runs/sweeps/NAME/study.db, or where --storage says. A worker that dies loses at most its own trial,
which another runs again after --grace-s without a heartbeat. Writes table.md, answer.json and plot.png to --out.
Exit code 1: trials crashed (a trial that diverges is a result).
"""

import argparse
import fcntl
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from base.cli import OneLineParser, command, plain, run
from base.errors import BadInput, CheckFailed
from base.files import atomic_file, write_json
from data.ensure import ensure_dataset
from tools.sweep.plot import Curves, picture
from tools.sweep.spec import Sweep, read_sweep
from tools.sweep.study import GRACE_S, SQLITE, SharedStudy, is_live, key_of, outcome
from tools.sweep.table import Row, Trial, Verdict, as_markdown, judge, tabulate
from tools.sweep.worker import sweep_folder, work


@dataclass(frozen=True)
class Report:
    study: str
    trials: list[Trial]
    table: list[Row]
    claims: list[Verdict]
    out: str


def act(args: argparse.Namespace) -> Report:
    sweep = read_sweep(Path(args.sweep))
    folder = sweep_folder(sweep.name)
    storage = args.storage or f"{SQLITE}{folder}/study.db"
    folder.mkdir(parents=True, exist_ok=True)
    study = SharedStudy(sweep.name, storage, args.grace_s)
    if not args.report:
        prepare(sweep, folder)
        study.queue(sweep.keys)
        work(study, sweep)
    report = write_report(study, sweep, Path(args.out or folder))
    crashed = [f"{trial.variant}-s{trial.seed}" for trial in report.trials if trial.state == "crashed"]
    if crashed:
        raise CheckFailed(f"crashed: {', '.join(crashed)}; see {folder}/logs; the same command tries again", report)
    return report


def prepare(sweep: Sweep, folder: Path) -> None:
    """Make the datasets that name their source, once per machine."""
    with (folder / "data.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for config in sweep.configs.values():
            if config.data.source:
                ensure_dataset(config.data.source, config.model.vocab_size, Path(config.data.path))


def collect(study: SharedStudy, sweep: Sweep) -> tuple[list[Trial], Curves]:
    """The outcome of each key: its live trial's, else that of the last one that failed."""
    latest = {key_of(trial): trial for trial in study.trials()}
    latest |= {key_of(trial): trial for trial in study.trials() if is_live(trial)}
    trials: list[Trial] = []
    curves: Curves = {}
    data: dict[str, str] = {}
    for key in sweep.keys:
        trial = latest.get(key)
        found = Trial(key.variant, key.seed, sweep.params(key.variant), outcome(trial) if trial else "waiting")
        if trial is not None and found.state == "complete":
            result = trial.user_attrs["result"]
            found = replace(found, bpb=trial.value, seconds=result["seconds"])
            curves.setdefault(key.variant, []).append(result["curve"])
            path = sweep.configs[key.variant].data.path
            if data.setdefault(path, result["data_sha256"]) != result["data_sha256"]:
                raise BadInput(
                    f"{path}: trials used different data; copy one dataset to every machine, start a new study"
                )
        trials.append(found)
    return trials, curves


def write_report(study: SharedStudy, sweep: Sweep, out: Path) -> Report:
    trials, curves = collect(study, sweep)
    table = tabulate(sweep, trials)
    claims = [judge(claim, trials, len(sweep.sheet.seeds)) for claim in sweep.sheet.claims]
    report = Report(sweep.name, trials, table, claims, str(out.resolve()))
    out.mkdir(parents=True, exist_ok=True)
    groups = sweep.sheet.groups or {"all": tuple(sweep.configs)}
    atomic_file(out / "table.md", as_markdown(table, claims).encode())
    atomic_file(out / "plot.png", picture(sweep.name, table, trials, curves, groups))
    write_json(out / "answer.json", {key: value for key, value in plain(report).items() if key != "out"})
    return report


def show(report: Report) -> str:
    return as_markdown(report.table, report.claims) + f"\nwritten to {report.out}"


def parser() -> OneLineParser:
    flags = command("tools.sweep", __doc__ or "")
    flags.add_argument("sweep", metavar="SWEEP.yaml")
    flags.add_argument("--storage", metavar="URL", help="the study's database (default: runs/sweeps/NAME/study.db)")
    flags.add_argument("--out", metavar="DIR", help="for table and plot (default: runs/sweeps/NAME)")
    flags.add_argument("--report", action="store_true", help="table and plot of the trials there are; trains nothing")
    flags.add_argument(
        "--grace-s", type=int, default=GRACE_S, help="a worker this long without a heartbeat is dead (%(default)s)"
    )
    return flags


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # gives the running trial back, as Ctrl-C does
    sys.exit(run(parser(), act, show))
