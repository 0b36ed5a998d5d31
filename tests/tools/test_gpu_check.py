"""tools.gpu_check: every part runs at a small size, and a figure out of its bounds fails the command."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.runs import ROOT, command
from tools import gpu_check
from tools.gpu_check import Bench, Row


@pytest.mark.slow
def test_every_part_holds_on_a_cpu(tmp_path: Path) -> None:
    output = tmp_path / "check.md"
    words = [sys.executable, "-m", "tools.gpu_check", "--cpu", "-o", str(output)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # two crawl where something else runs beside them
    done = subprocess.run(words, cwd=ROOT, env=one_thread, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.with_suffix(".json").read_text())["rows"]
    bounded = [row["what"] for row in rows if (row["at_least"], row["at_most"]) != (None, None)]
    assert len(bounded) == 9
    assert output.read_text().count("| holds |") == len(bounded)


def test_a_part_that_fails_is_a_row_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Bench) -> Iterator[Row]:
        yield Row("before", 1.0, "s", at_most=2)
        raise RuntimeError("CUDA error:\nno kernel image")

    monkeypatch.setattr(gpu_check, "PARTS", {"one": fail, "two": lambda _: iter([Row("after", 3.0, "s", at_most=2)])})
    monkeypatch.setattr(gpu_check, "ensure_dataset", lambda *_: None)
    monkeypatch.setattr(gpu_check, "open_dataset", lambda _: None)
    output = tmp_path / "check.md"
    assert command("tools.gpu_check", "--cpu", "-o", str(output)) == 1
    assert "2 of 3 figures are out of bounds: one; after" in capsys.readouterr().err
    lines = output.read_text().splitlines()
    assert "| before | 1 s | <= 2 | holds |" in lines
    assert "| one | RuntimeError: no kernel image  |  | **out of bounds** |" in lines


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert command("tools.gpu_check", "-o", str(tmp_path / "check.md")) == 2
    assert "no CUDA device, only 1 x cpu" in capsys.readouterr().err
    assert command("tools.gpu_check", "--cpu", "-o", str(tmp_path / "check.txt")) == 2
    assert "ends in .md" in capsys.readouterr().err
