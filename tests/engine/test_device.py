"""engine/device.py: ranks that join must leave nothing behind, or the interpreter aborts on its way out."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]  # on a free port
LEAVE = """
import os, sys, torch
from engine.device import gather, joined
with joined() as device:
    torch.optim.AdamW(torch.nn.Linear(2, 2).parameters())
    assert gather(device.rank, device) == [0, 1]
threads = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
sys.exit(any("gloo" in name for name in threads))
"""


def test_no_thread_of_the_group_outlives_it(tmp_path: Path) -> None:
    (tmp_path / "leave.py").write_text(LEAVE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*TORCHRUN, str(tmp_path / "leave.py")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
