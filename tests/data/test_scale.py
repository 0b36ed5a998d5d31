"""data.prep's tasks: the dataset is the corpus's alone, whatever executor, tasks, order and deaths there were."""

import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest

from base.errors import BadInput
from base.files import locked
from data import scale
from data.assemble import write
from data.build import STEPS, Step
from data.corpus import open_corpus
from data.dataset import open_dataset
from data.job import Job, Recipe
from tests.conftest import make_text, prep
from tests.runs import ROOT, printed, write_texts


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Five files of several sizes, one of them empty; with copies, and with near copies."""
    texts = [make_text(seed, 20 + seed % 50) for seed in range(400)]
    texts += [f"{text} and more" for text in texts[:60]] + texts[:9]
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, (first, last) in enumerate([(0, 40), (40, 40), (40, 300), (300, 310), (310, len(texts))]):
        write_texts(folder / f"{number}.jsonl", texts[first:last])
    return folder


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks in this process, the last first."""

    class Pool:
        def __enter__(self) -> "Pool":
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, act: Callable[..., Any], *words: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(act(*words))
            return future

    class Reversed(scale.LocalExecutor):
        def get_incomplete_ranks(self, *words: Any, **named: Any) -> list[int]:
            return list(reversed(super().get_incomplete_ranks(*words, **named)))

    monkeypatch.setattr(scale, "start_pool", lambda _: Pool())
    monkeypatch.setattr(scale, "LocalExecutor", Reversed)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "words",
    [
        ["--vocab", "400"],
        ["--vocab", "400", "--split", "tail", "--tokenizer-mb", "1"],
        ["--tokenizer", "byte", "--near-duplicates", "0.5"],
    ],
)
def test_any_number_of_tasks_in_any_order_makes_the_same_dataset(
    corpus: Path, tmp_path: Path, words: list[str], inline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.assemble.SHARD_TOKENS", 4000)
    monkeypatch.setattr("data.build.MB", 20_000)  # of the tokenizer's sample
    recipe = [corpus, *words, "--val-fraction", 0.1]
    one = prep(*recipe, "--workers", 1, "--out", tmp_path / "one")
    assert one["train_docs"] > 300
    assert len(open_dataset(tmp_path / "one").manifest.shards) > 5
    assert (one["dropped_docs"] > 3) == ("tail" in words or "--near-duplicates" in words)
    for tasks in (1, 3, 7):
        out = tmp_path / str(tasks)
        many = prep(*recipe, "--executor", "local", "--tasks", tasks, "--out", out)
        assert files_of(out) == files_of(tmp_path / "one")
        assert not (tmp_path / f"{tasks}.logs" / "steps").exists()
        assert many["corpus_sha256"] == one["corpus_sha256"]
        assert prep(*recipe, "--executor", "local", "--tasks", tasks, "--out", out)["up_to_date"]


def test_near_copies_of_validation_are_dropped_and_others_kept(tmp_path: Path) -> None:
    unlike = [make_text(seed, 80) for seed in range(100)]
    alike = [f"{text} and more" for text in unlike[50:]]
    source = write_texts(tmp_path / "a.jsonl", [*unlike, *alike])
    words = ["--tokenizer", "byte", "--split", "tail", "--val-fraction", "0.333334"]
    answer = prep(source, *words, "--near-duplicates", 0.7, "--out", tmp_path / "out")
    assert (answer["train_docs"], answer["dropped_docs"]) == (50, 50)
    assert "about 0.7" in open_dataset(tmp_path / "out").manifest.split
    assert prep(source, *words, "--out", tmp_path / "all")["train_docs"] == 100


def test_bad_input_is_one_line(corpus: Path, tmp_path: Path, inline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*words: object) -> str:
        out, error = printed("data.prep", corpus, "--vocab", 400, "--out", tmp_path / "out", *words, code=2)
        assert not out
        return error.splitlines()[-1]

    local = ("--executor", "local", "--logs", tmp_path / "logs", "--tasks")
    slurm = ("--executor", "slurm", "--tasks", 3, "--sbatch", "partition=a")
    assert "are for an --executor" in refused("--tasks", 3)
    assert "--tasks 0: name how many parts" in refused(*local, 0)
    assert "--sbatch partition=NAME and --sbatch time" in refused(*slurm)
    assert "no sbatch here" in refused(*slurm, "--sbatch", "time=1:00")
    (corpus / "2.jsonl").write_text("oops\n")
    assert "2.jsonl:1: not readable as jsonl" in refused(*local, 3)
    assert "holds another dataset's unfinished tasks (tasks 3 there, 2 here)" in refused(*local, 2)
    (corpus / "2.jsonl").write_text('{"text": "another"}\n')
    assert "holds another dataset's unfinished tasks (files" in refused(*local, 3)
    assert "is in the dataset's own folder" in refused(*local[:2], "--logs", tmp_path / "out" / "logs", "--tasks", 3)
    assert "--sbatch is for --executor slurm" in refused(*local, 3, "--sbatch", "partition=a")
    with locked(tmp_path / "logs"):
        assert "another command is at work in it" in refused(*local, 3)
    assert "holds other files" in refused("--executor", "local", "--tasks", 3, "--logs", corpus)
    monkeypatch.setitem(sys.modules, "data.scale", None)
    assert "pip install -r requirements-cluster.txt" in refused(*local, 3)


def test_two_tasks_of_one_rank_and_a_folder_that_a_node_does_not_see_are_refused(corpus: Path, tmp_path: Path) -> None:
    task = scale.Task(Job(open_corpus(str(corpus)), Recipe(vocab=400), None, tmp_path / "steps", 2), "scan")
    with pytest.raises(BadInput, match="must be a folder that all nodes share"):
        task(None, 1, 2)
    (tmp_path / "steps" / "dataset").mkdir(parents=True)
    task(None, 1, 2)
    with locked(tmp_path / "steps" / "scan.lock_000001"), pytest.raises(BadInput, match="scan: another process is at"):
        task(None, 1, 2)


def test_a_url_is_read_as_the_files_are(corpus: Path, tmp_path: Path) -> None:
    plain = prep(corpus, "--vocab", 400, "--out", tmp_path / "plain")
    by_url = prep(f"file://{corpus}", "--vocab", 400, "--out", tmp_path / "url")
    assert by_url["data_sha256"] == plain["data_sha256"]
    (corpus / ".hidden.jsonl").write_text("oops")
    assert len(open_corpus(f"file://{corpus}").files) == 5
    for spec, expected in (
        (f"file://{tmp_path}/nothing", "No such file"),
        (f"file://{tmp_path}/*.nothing", "no file is there"),
        ("nowhere://a", "Protocol not known: nowhere"),
        ("gs://a/b", "Please install gcsfs"),
    ):
        with pytest.raises(BadInput, match=expected):
            open_corpus(spec)


def test_a_web_server_that_states_an_entity_tag_is_a_store(corpus: Path, tmp_path: Path) -> None:
    class Handler(http.server.SimpleHTTPRequestHandler):
        tagged = True

        def end_headers(self) -> None:
            if self.tagged:
                self.send_header("ETag", '"1"')
            super().end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(corpus))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        texts = [each.text for each in open_corpus(f"{url}/2.jsonl").documents(pytest.fail)]
        assert texts == [each.text for each in open_corpus(str(corpus / "2.jsonl")).documents(pytest.fail)]
        with pytest.raises(BadInput, match="nowhere: cannot be read"):
            open_corpus(f"{url}/nowhere")
        Handler.tagged = False
        fsspec.filesystem("http").clear_instance_cache()
        with pytest.raises(BadInput, match="nothing that changes with the contents; download it first"):
            open_corpus(f"{url}/2.jsonl")
        server.shutdown()


def test_what_is_damaged_or_changed_between_steps_makes_no_dataset(
    corpus: Path, tmp_path: Path, inline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [corpus, "--vocab", 400, "--out", tmp_path / "out", "--executor", "local", "--tasks", 3]

    def spoil_and_write(job: Job, part: int) -> None:
        file = job.path("train.tokens", 1)
        file.write_bytes(file.read_bytes()[:-20])
        write(job, part)

    with monkeypatch.context() as context:
        context.setitem(STEPS, "write", Step(spoil_and_write))
        with pytest.raises(BadInput, match=r"train\.tokens_000001: shorter than its documents; delete"):
            prep(*words)
    assert not (tmp_path / "out").exists()
    shutil.rmtree(tmp_path / "out.logs")
    prep(*words)
    (tmp_path / "out" / "train_000000.bin").unlink()
    assert not prep(*words)["up_to_date"]
    assert prep(*words)["up_to_date"]
    files = open_corpus(str(corpus)).files
    (corpus / "2.jsonl").write_text('{"text": "another"}\n')
    with pytest.raises(BadInput, match=r"2\.jsonl: it changed while it was being read"):
        files[2].require_size()


def test_a_bucket_without_credentials_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=r"s3://bucket/a: cannot be read \(Unable to locate credentials\); check"):
        open_corpus("s3://bucket/a")


SBATCH = """#!/bin/bash
# Runs a job array here, one task after another.
script="${!#}"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for task in $(seq 0 "$last"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=here bash "$script" >&2 || code=1
done
echo "Submitted batch job 1"
exit ${code:-0}
"""

# A worker imports its parent's script, and so dies in the middle of its first part.
MORTAL = """
import os, signal, sys
import data.build
data.build.EncodedSide.save = lambda self: os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    from base.cli import run, show_pairs
    from data.prep import act, parser
    sys.exit(run(parser(), act, show_pairs))
"""


@pytest.mark.slow
def test_local_tasks_slurm_and_ray_make_the_same_dataset_and_outlive_a_killed_worker(
    corpus: Path, tmp_path: Path
) -> None:
    shims = tmp_path / "bin"
    shims.mkdir()
    for name, text in (("sbatch", SBATCH), ("scontrol", "#!/bin/bash\necho here\n")):
        (shims / name).write_text(text)
        (shims / name).chmod(0o755)
    (tmp_path / "mortal.py").write_text(MORTAL)

    def run(program: list[str], name: str, *words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, *program, str(corpus), "--vocab", "400", "--out", str(tmp_path / name), *words]
        environment = os.environ | {"PATH": f"{shims}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    prepare = ["-m", "data.prep"]
    assert run(prepare, "one").returncode == 0
    tasks = ("--workers", "2", "--tasks", "3", "--executor")
    killed = run([str(tmp_path / "mortal.py")], "local", *tasks, "local")
    assert (killed.returncode, "encode: a worker was killed" in killed.stderr) == (1, True), killed.stderr
    assert not (tmp_path / "local").exists()
    slurm = ("slurm", "--sbatch", "partition=cpu", "--sbatch", "time=1:00:00")
    for executor in (("local",), ("ray",), slurm):
        answer = run(prepare, executor[0], *tasks, *executor)
        assert answer.returncode == 0, answer.stderr
        assert files_of(tmp_path / executor[0]) == files_of(tmp_path / "one")
