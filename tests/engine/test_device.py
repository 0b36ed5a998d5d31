"""engine/device.py: how the ranks of a command end."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]  # on a free port
# The interpreter of a rank must not be taken down: threads of gloo that outlive the group abort it then.
COMMAND = """
import atexit, sys
from engine.device import run_rank, gather, joined

def work():
    with joined() as device:
        assert gather(device.rank, device) == [0, 1]
        sys.stdout.write(f"said by {device.rank}")
    return int(sys.argv[1]) if device.main else 0

atexit.register(lambda: sys.stderr.write("taken down"))
run_rank(work)
"""


def ranks(folder: Path, code: int) -> "subprocess.CompletedProcess[str]":
    (folder / "command.py").write_text(COMMAND)
    command = [*TORCHRUN, str(folder / "command.py"), str(code)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_ranks_give_one_answer_and_end_without_taking_the_interpreter_down(tmp_path: Path) -> None:
    done = ranks(tmp_path, 0)
    assert (done.returncode, done.stdout) == (0, "said by 0"), done.stderr
    assert "taken down" not in done.stderr


def test_a_rank_that_fails_says_its_exit_code(tmp_path: Path) -> None:
    done = ranks(tmp_path, 3)
    assert done.returncode != 0
    assert "exitcode  : 3" in done.stderr
