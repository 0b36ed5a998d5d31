"""The steps of data/build.py as datatrove's tasks: on this machine, on a Slurm cluster, on Ray.

    python -m data.prep CORPUS --out OUT --executor local --tasks 64 --workers 8
    python -m data.prep s3://BUCKET/DIR --out OUT --executor ray --tasks 2000 --workers 500 --logs LOGS
    python -m data.prep s3://BUCKET/DIR --out OUT --executor slurm --tasks 9 --sbatch partition=cpu --sbatch time=9:0:0

A step begins when all tasks of the one before are done. A task that is done is marked in LOGS and not done again: after
any failure the same command continues. LOGS, a local corpus and this checkout must be where every node sees them under
the same path. What the parts left is deleted once the dataset is published. Not for small corpora: data/build.py.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.utils.logging import logger

from base.errors import BadInput, CheckFailed
from base.files import locked, read_json_object, write_json
from base.progress import counted_progress
from data.assemble import describe_recipe, own_files, publish
from data.build import STEPS
from data.check import find_current
from data.corpus import Corpus
from data.encoding import start_pool
from data.job import Job, Recipe
from data.manifest import Manifest
from data.remote import RemoteFile
from data.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
REQUEST = "request.json"  # in LOGS: what its tasks are for, and the dataset once it is published


@dataclass(frozen=True, kw_only=True)
class Cluster:
    executor: str  # local, slurm or ray
    tasks: int  # of a step: parts of the corpus
    workers: int  # tasks at a time
    logs: Path
    sbatch: Mapping[str, str]  # Slurm's options


def build_on(
    cluster: Cluster, corpus: Corpus, recipe: Recipe, out: Path, given: Tokenizer | None
) -> tuple[Manifest, bool]:
    """The dataset, and whether it was there already."""
    own_files(out)
    out, logs = out.resolve(), cluster.logs.resolve()
    if logs.is_relative_to(out):
        raise BadInput(f"--logs {logs} is in the dataset's own folder; name another")
    logs.mkdir(parents=True, exist_ok=True)
    job = Job(corpus, recipe, given.model if given else None, logs / "steps", cluster.tasks)
    try:
        with locked(logs, wait=False):
            return build_in(logs, cluster, job, out)
    except BlockingIOError:
        raise BadInput(f"{logs}: another command is at work in it; wait for it, or name another --logs") from None


def build_in(logs: Path, cluster: Cluster, job: Job, out: Path) -> tuple[Manifest, bool]:
    request = describe_request(job)
    if published := claim_logs(logs, request, out):
        return published, True
    job.dataset.mkdir(parents=True, exist_ok=True)
    logger.remove()  # the console's; each task has a file
    with start_pool(cluster.workers) as pool:
        for name, step in STEPS.items():
            run_step(make_executor(cluster, logs, Task(job, name), job.parts if step.of_parts else 1, pool), name)
    manifest = publish(job, out)
    for name in STEPS:  # before what they vouch for
        shutil.rmtree(logs / name / "completions")
    shutil.rmtree(job.folder)
    write_json(logs / REQUEST, request | {"published": manifest.data_sha256()})
    return manifest, False


class Task:
    """One step of one part, as datatrove calls it."""

    def __init__(self, job: Job, step: str) -> None:
        self.job = job
        self.step = step

    def __call__(self, _: object, rank: int, __: int) -> None:
        if not self.job.dataset.is_dir():
            raise BadInput(f"{self.job.dataset} is not seen here; --logs must be a folder that all nodes share")
        lock = self.job.path(f"{self.step}.lock", rank)
        lock.touch()
        try:
            with locked(lock, wait=False):
                STEPS[self.step].act(self.job, rank)
        except BlockingIOError:
            found = f"{self.step}: another process is at task {rank}, an earlier command's or one given the same rank"
            raise BadInput(f"{found}; wait for it, or end it") from None


class LocalExecutor(LocalPipelineExecutor):  # type: ignore[misc]
    """Tasks in a pool whose processes stay, and that notices where one is killed: datatrove's own waits for ever."""

    def __init__(self, pool: ProcessPoolExecutor, **options: Any) -> None:
        super().__init__(**options)
        self._pool = [pool]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": []}

    def run(self) -> None:
        ranks = self.get_incomplete_ranks()
        with counted_progress(self.pipeline[0].step, len(ranks), "tasks") as show:
            futures = [self._pool[0].submit(self._run_quietly, rank) for rank in ranks]
            try:
                for done, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    show(done, "")
            finally:
                for future in futures:
                    future.cancel()

    def _run_quietly(self, rank: int) -> None:
        """One terminal is no place for the progress of all tasks, and an error is reported once."""
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            self._run_for_rank(rank)


def make_executor(cluster: Cluster, logs: Path, task: Task, tasks: int, pool: ProcessPoolExecutor) -> PipelineExecutor:
    options: dict[str, Any] = {
        "pipeline": [task],
        "tasks": tasks,
        "workers": cluster.workers,
        "logging_dir": str(logs / task.step),
    }
    if cluster.executor == "local":
        return LocalExecutor(pool, **options)
    if cluster.executor == "ray":
        import ray
        from datatrove.executor import RayPipelineExecutor

        environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)
        return RayPipelineExecutor(mem_per_cpu_gb=1, **options)
    sbatch = dict(cluster.sbatch)
    path = f"{Path(sys.executable).parent}:$PATH"
    return SlurmPipelineExecutor(
        time=sbatch.pop("time"),
        partition=sbatch.pop("partition"),
        qos="",
        sbatch_args={"wait": "", **sbatch},  # until the last task ends
        env_command=f"export PYTHONPATH={ROOT} PATH={path}",
        job_name=f"golf-{task.step}",
        with_srun=False,
        **options,
    )


def run_step(executor: PipelineExecutor, name: str) -> None:
    way_out = f"see {executor.logging_dir.path}/logs; the same command continues"
    try:
        executor.run()
    except BrokenProcessPool:
        raise CheckFailed(f"{name}: a worker was killed; {way_out}") from None
    except subprocess.CalledProcessError as error:
        raise CheckFailed(f"{name}: {error.cmd[0]} reports a failure; {way_out}") from None
    if left := executor.get_incomplete_ranks():
        failed = f"{len(left)} of {executor.world_size} tasks have failed, the first is {left[0]}"
        raise CheckFailed(f"{name}: {failed}; {way_out}")


def describe_request(job: Job) -> dict[str, Any]:
    """What a logs folder is for, without reading the corpus."""
    listing = hashlib.sha256()
    for file in job.corpus.files:
        stated = file.path.identity if isinstance(file.path, RemoteFile) else file.path.stat().st_mtime_ns
        listing.update(f"{file.name}\0{file.kind}\0{file.size_bytes}\0{stated}\n".encode("utf-8", "surrogateescape"))
    files = {"source": job.corpus.spec, "field": job.corpus.field, "files": listing.hexdigest(), "tasks": job.parts}
    return describe_recipe(job.recipe, job.model) | files


def claim_logs(logs: Path, request: dict[str, Any], out: Path) -> Manifest | None:
    """Make `logs` this request's, unless it has unfinished work for another; the dataset that it has published."""
    path = logs / REQUEST
    if path.is_file():
        found = read_json_object(path.read_text(errors="backslashreplace"), str(path))
        published = found.pop("published", None)
        changed = sorted(key for key in {*found, *request} if found.get(key) != request.get(key))
        if changed and not published:
            what = ", ".join(f"{key} {found.get(key)!s:.40} there, {request.get(key)!s:.40} here" for key in changed)
            raise BadInput(
                f"{logs}: holds another dataset's unfinished tasks ({what}); name another --logs or delete it"
            )
        manifest = find_current(out) if published and not changed else None
        if manifest and manifest.data_sha256() == published:
            return manifest
    elif any(not path.name.startswith(".") for path in logs.iterdir()):
        raise BadInput(f"{logs}: holds other files; name another --logs")
    write_json(path, request)
    return None
