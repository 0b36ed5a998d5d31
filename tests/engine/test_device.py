"""engine.device: what it does to a process before a run."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from engine.device import keep_freed_memory
keep_freed_memory()
for _ in range(50):
    torch.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
for _ in range(50):
    torch.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is asked to keep what is freed")
def test_a_large_tensor_takes_the_memory_that_the_last_one_freed() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    before, after = map(int, done.split())
    assert after - before < 10_000  # fifty times 16 MiB are 204,800 pages
