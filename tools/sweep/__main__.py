"""Ablations as data: every variant of a sweep file, with every seed, trained once by however many workers there are.

    python -m tools.sweep configs/sweeps/micro26m_small.yaml              (a few minutes on two cores)
    python -m tools.sweep configs/sweeps/micro26m.yaml --workers 2        (two trials at a time)
    python -m tools.sweep configs/sweeps/golf465.yaml --storage postgresql://HOST/DB     (here, and on other machines)
    python -m tools.sweep configs/sweeps/golf465.yaml --report --out docs/ablations/golf465

The same command goes on where it was cut short, and joins a study that others work on. The study (Optuna's) lives in
runs/sweeps/NAME/study.journal, or where --storage says; a worker that dies loses at most its own trial, which another
takes up once it has not been heard of for --lease-s. The study remembers each variant's config: a file with more
variants or seeds extends it, one that changes a variant is refused. Writes table.md, table.csv, claims.csv,
trials.csv, answer.json and plot.png to --out. Exit code 1: trials crashed (to diverge is a finding, and is not that).
"""

import argparse
import fcntl
import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput, CheckFailed
from base.files import atomic_file
from data.dataset import open_dataset
from data.ensure import ensure_dataset
from tools.sweep.plot import picture
from tools.sweep.spec import Sweep, as_stored, differences, read_sweep
from tools.sweep.study import LEASE_S, SQLITE, SharedStudy, key_of, why
from tools.sweep.table import Trial, as_csv, as_data, as_markdown, rows, verdicts
from tools.sweep.worker import Worker, sweep_folder

JOURNAL, LONG = "study.journal", ("curve",)


def act(args: argparse.Namespace) -> Answer:
    if args.workers < 1 or args.lease_s <= 0:
        raise BadInput(f"--workers {args.workers} --lease-s {args.lease_s}: at least 1 worker, and a lease above 0")
    sweep = read_sweep(Path(args.sweep))
    folder = sweep_folder(sweep.study)
    storage = args.storage or str(folder / JOURNAL)
    file = storage.removeprefix(SQLITE)
    if args.report and "://" not in file and not Path(file).is_file():
        raise BadInput(f"{storage}: no study is there to report on; run the sweep, or name its --storage")
    if args.out and Path(args.out).exists() and not Path(args.out).is_dir():
        raise BadInput(f"--out {args.out}: is a file; name a folder for table and picture")
    study = SharedStudy(sweep.study, storage, args.lease_s)
    agree(study, sweep)
    if not args.report:
        prepare(study, sweep, folder)
        study.queue(sweep.keys, again=True)
        work(Worker(study, sweep.keys, args.workers), args.workers)
    answer = report(sweep, results(study, sweep), Path(args.out or folder))
    if crashed := [f"{t['variant']} seed {t['seed']}" for t in answer["trials"] if t["state"] == "crashed"]:
        raise CheckFailed(f"crashed: {', '.join(crashed)}; see {folder}/logs; the same command tries again", answer)
    return answer


def agree(study: SharedStudy, sweep: Sweep) -> None:
    """All workers of a study mean the same by each variant."""
    for name, config in sweep.configs.items():
        meant = as_stored(config)

        def differs(noted: Any, name: str = name, meant: Any = meant) -> str:
            keys = ", ".join(differences(noted, meant))
            return keys and (
                f"variant {name} is another one in the study {sweep.study}: {keys} changed; give the variant a new "
                "name, restore it, or begin a new study (another --storage, or another name of the file)"
            )

        study.remember(f"variant {name}", meant, differs)


def prepare(study: SharedStudy, sweep: Sweep, folder: Path) -> None:
    """The datasets, made once on each machine; those of all machines must be the same."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "data.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for config in {config.data.path: config for config in sweep.configs.values()}.values():
            if config.data.source:
                ensure_dataset(config.data.source, config.model.vocab_size, Path(config.data.path))
    for name, config in sweep.configs.items():
        dataset = open_dataset(config.data.path)
        try:
            dataset.require(config.model.vocab_size, config.model.bos_id)
        except BadInput as wrong:
            raise BadInput(f"variant {name}: {wrong}") from None
        digest = dataset.manifest.data_sha256()

        def differs(noted: Any, path: str = config.data.path, digest: str = digest) -> str:
            return (
                ""
                if noted == {"sha256": digest}
                else (
                    f"{path}: its data is {digest[:12]}, the study's {noted['sha256'][:12]}; copy the "
                    "dataset of the machine that began the study"
                )
            )

        study.remember(f"data {config.data.path}", {"sha256": digest}, differs)


def work(worker: Worker, workers: int) -> None:
    """So many trials at a time, until the study is done; Ctrl-C and SIGTERM give the running ones back."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ThreadPoolExecutor(workers) as pool:
            running = [pool.submit(worker.work) for _ in range(workers)]
            try:
                for future in running:
                    future.result()
            except BaseException:
                worker.stop()
                raise
    finally:
        signal.signal(signal.SIGTERM, before)


def results(study: SharedStudy, sweep: Sweep) -> list[Trial]:
    """What became of each key: its live trial, else the last that failed."""
    tried = study.trials()
    last = {key_of(trial): trial for trial in tried}
    last |= {key_of(trial): trial for trial in reversed(tried) if not why(trial)}
    told = []
    for variant, seed in sweep.keys:
        trial = last.get((variant, seed))
        given = trial.user_attrs.get("result", {}) if trial is not None and trial.state.name == "COMPLETE" else {}
        state = "waiting" if trial is None else why(trial).split(" ")[0] or trial.state.name.lower()
        told.append(
            Trial(
                variant, seed, sweep.params(variant), state, trial.value if trial is not None and given else None,
                given.get("packed_bpb"), given.get("seconds"), given.get("steps"), given.get("curve", ()),
            )
        )  # fmt: skip
    return told


def report(sweep: Sweep, trials: list[Trial], out: Path) -> Answer:
    table, claims = rows(sweep, trials), verdicts(sweep, trials)
    groups = sweep.sheet.groups or {"all": tuple(sweep.configs)}
    answer: Answer = {
        "study": sweep.study,
        "trials": as_data(trials, LONG),
        "table": as_data(table),
        "claims": as_data(claims),
        "out": str(out.resolve()),
    }
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        "table.md": as_markdown(table, claims),
        "table.csv": as_csv(table),
        "claims.csv": as_csv(claims),
        "trials.csv": as_csv(trials, LONG),
        "answer.json": json.dumps({key: answer[key] for key in ("study", "trials", "table", "claims")}, indent=1)
        + "\n",
    }
    for name, text in texts.items():
        atomic_file(out / name, text.encode())
    atomic_file(out / "plot.png", picture(sweep.study, table, trials, groups))
    return answer


def show(answer: Answer) -> str:
    return (Path(answer["out"]) / "table.md").read_text(encoding="utf-8") + f"\nwritten to {answer['out']}"


def parser() -> OneLineParser:
    flags = command("tools.sweep", __doc__ or "")
    flags.add_argument("sweep", metavar="SWEEP.yaml")
    flags.add_argument("--workers", type=int, default=1, help="trials at a time in this process (default %(default)s)")
    flags.add_argument("--storage", metavar="URL|FILE", help="the study (default: runs/sweeps/NAME/study.journal)")
    flags.add_argument("--out", metavar="DIR", help="of table and plot (default: runs/sweeps/NAME)")
    flags.add_argument("--report", action="store_true", help="table and plot of what there is; trains nothing")
    flags.add_argument(
        "--lease-s", type=float, default=LEASE_S, help="a worker silent for so long is dead (default %(default)s)"
    )
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
