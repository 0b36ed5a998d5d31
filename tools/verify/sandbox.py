"""A folder in which a stranger's program may run: no network, no writing outside, a bare environment, a time limit.

    ran = run_code(code, ["seed=1"], folder, work_s=600)                   a record's single file, of such a budget
    answer, seconds = score_boxed(code, artifact, data, work_s=600)        what it measures of its artifact

Only --rerun, a contest folder that ships a model, and tools.record come here. What this machine cannot keep a program
from is listed by `open_doors`.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

from base.errors import BadInput
from base.files import read_json_object
from base.run_folder import ARTIFACT
from tools.record.schema import CODE
from tools.verify.confine import can_confine

# Its own network and process namespace: nothing to connect to, and nobody else to signal.
CUT = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
KEPT = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")  # of the environment
CONFINE, LOOPBACK = (str(Path(__file__).with_name(name).resolve()) for name in ("confine.py", "loopback.py"))
MOST_OUTPUT = 1 << 24  # bytes of stdout that are kept

SLOWER = 2.0  # than its budget: a machine that takes longer is given up on
SETUP_S = 900.0  # beyond a budget: imports, compilation, validations during the run


class Ran(NamedTuple):
    code: int | None  # None: stopped at the limit
    out: bytes
    last_line: str  # of stderr
    seconds: float  # from the process's start to its end, by our clock


@cache
def is_network_cut() -> bool:
    """Whether this kernel lets a user cut it."""
    if shutil.which(CUT[0]) is None:
        return False
    return subprocess.run([*CUT, "true"], capture_output=True).returncode == 0


def open_doors() -> list[str]:
    closed = {"the network": is_network_cut(), "files outside its folder": can_confine()}
    return [door for door, is_closed in closed.items() if not is_closed]


def scoring_ranks(adapt: str) -> int:
    """How many processes score here: one per GPU, or one where a text has one past (eval.adapt.kind mix)."""
    import torch  # here, since --fast does without

    return 1 if adapt == "mix" else max(1, torch.cuda.device_count())


def cut_off(words: Sequence[str], ranks: int, confined: Sequence[str] = ()) -> list[str]:
    """The command `python -I WORDS` without a network, where that can be cut; several ranks of it under torchrun."""
    python = [sys.executable, "-I"]
    if ranks == 1:
        return [*(CUT if is_network_cut() else ()), *confined, *python, *words]
    alone = [*CUT, *python, LOOPBACK] if is_network_cut() else []
    here = ["--standalone", "--local-addr=127.0.0.1"]
    torchrun = [*python, "-m", "torch.distributed.run", *here, f"--nproc_per_node={ranks}", "--no-python"]
    return [*alone, *confined, *torchrun, *python, *words]


def run_code(code: bytes, words: Sequence[str], folder: Path, work_s: float, ranks: int = 1) -> Ran:
    """A single file in an empty folder; one that fails or takes too long is bad input."""
    limit_s = SLOWER * work_s + SETUP_S
    (folder / CODE).write_bytes(code)
    ran = run_boxed([CODE, *words], folder, limit_s, ranks)
    if ran.code is None:
        raise BadInput(f"{CODE} {words[0]} had not ended after {limit_s:.0f} s, which is more than enough")
    if ran.code:
        raise BadInput(f"{CODE} {words[0]} ended with exit code {ran.code}: {ran.last_line}")
    return ran


def score_boxed(code: bytes, artifact: bytes, data: Path, work_s: float, ranks: int) -> tuple[dict[str, Any], float]:
    """The single file's answer of how its artifact scores, `bpb` among the rest, and the process's seconds."""
    with tempfile.TemporaryDirectory(prefix="verify-", ignore_cleanup_errors=True) as made:
        folder = Path(made).resolve()
        (folder / ARTIFACT).write_bytes(artifact)
        words = ["--score", ARTIFACT, "--data", str(data.absolute()), "--json"]
        ran = run_code(code, words, folder, work_s, ranks)
    name = f"the answer of {CODE} --score"
    answer = read_json_object(ran.out.decode("utf-8", errors="replace"), name)
    if not isinstance(answer.get("bpb"), float):
        raise BadInput(f"{name} has no bpb")
    return answer, ran.seconds


def run_boxed(words: Sequence[str], folder: Path, limit_s: float, ranks: int = 1) -> Ran:
    """`python -I WORDS` in `folder`; output goes to unnamed files, so that a flood of it needs no memory."""
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    command = cut_off(words, ranks, [sys.executable, "-I", CONFINE, str(folder)] if can_confine() else [])
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "LANG": "C.UTF-8"}
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": errors}
        process = subprocess.Popen(command, cwd=folder, env=environment, process_group=0, **streams)
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # also what it left running
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - started
        lines = _read_end(errors, 4096).decode(errors="replace").strip().splitlines()
        return Ran(code, _read_end(out, MOST_OUTPUT), lines[-1][:200] if lines else "no message", seconds)


def _read_end(stream: IO[bytes], size: int) -> bytes:
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - size))
    return stream.read(size)
