"""A clean folder in which a record's own code may run: no network, no writing outside, a bare environment, a clock.

    with tempfile.TemporaryDirectory() as made:
        ran = run_boxed(["train_gpt.py", "--score", …], Path(made), limit_s=600)

Only `--rerun` comes here. What could not be cut on this machine is listed by `open_doors`, for a finding to say.
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
from typing import IO, NamedTuple

from tools.verify.measured_confined import can_confine

# A network and processes of its own: nothing to connect to, and nobody else to signal.
CUT = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
KEPT = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")  # of the environment
CONFINED = str(Path(__file__).with_name("measured_confined.py").resolve())
MOST_SAID = 1 << 24  # bytes of its stdout


class Ran(NamedTuple):
    code: int | None  # None: stopped at the limit
    out: bytes
    last_words: str
    seconds: float  # from the process's start to its end, by our clock


@cache
def network_is_cut() -> bool:
    """Whether this kernel lets us."""
    return shutil.which(CUT[0]) is not None and not subprocess.run([*CUT, "true"], capture_output=True).returncode


def open_doors() -> list[str]:
    """What this machine cannot keep a boxed command from."""
    return ["the network"] * (not network_is_cut()) + ["files outside its folder"] * (not can_confine())


def run_boxed(words: Sequence[str], folder: Path, limit_s: float) -> Ran:
    """`python -I WORDS` in `folder`; its output goes into files without a name, so that no flood needs memory."""
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    confined = [sys.executable, "-I", CONFINED, str(folder)] if can_confine() else []
    command = [*(CUT if network_is_cut() else ()), *confined, sys.executable, "-I", *words]
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "LANG": "C.UTF-8"}
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=errors,
            process_group=0,
        )  # fmt: skip
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # and whatever it left running
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return Ran(code, _end(out, MOST_SAID), _last_line(errors), time.monotonic() - started)


def _end(stream: IO[bytes], size: int) -> bytes:
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - size))
    return stream.read(size)


def _last_line(stream: IO[bytes]) -> str:
    lines = _end(stream, 4096).decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "nothing"
