"""The shipped single file at work: alone in a clean directory, isolated (`python -I`), with the network cut.

    score = score_shipped(code, artifact, dataset)     what `train_gpt.py --score model.golf` measures of it
    run = train_again(code, seed, data, root)          --rerun: the same file trains

Its answer is the only thing that a record's scores are taken from. Seconds are the whole process's, from its start.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from base.errors import BadInput, CheckFailed
from tools.verify.measured_box import CUT, network_is_cut

CODE, ARTIFACT = "train_gpt.py", "model.golf"


class Scored(NamedTuple):
    bpb: float
    nats_per_token: float
    tokens: int
    bytes: int
    contest_bytes: int
    stride: int
    context: int
    seconds: float  # from the process's start to its end


def score_shipped(code: bytes, artifact: Path, data: Path) -> Scored:
    with tempfile.TemporaryDirectory(prefix="record-") as made:
        clean = Path(made)
        (clean / CODE).write_bytes(code)
        shutil.copyfile(artifact, clean / ARTIFACT)
        began = time.perf_counter()
        answer = _answer(["--score", ARTIFACT, "--data", str(data.resolve()), "--json"], clean, f"scoring {artifact}")
        seconds = time.perf_counter() - began
    if answer["partial"] or answer["coverage"] != 1.0:
        raise CheckFailed(f"{artifact}: {answer['coverage']:.2%} of the targets were scored; a record has them all")
    kept = {name: answer[name] for name in Scored._fields if name != "seconds"}
    return Scored(**kept, seconds=seconds)


def train_again(code: bytes, seed: int, data: Path, root: Path) -> Path:
    """The folder of a run of the single file itself; where it was interrupted, the same call goes on."""
    root.mkdir(parents=True, exist_ok=True)
    (root / CODE).write_bytes(code)
    words = [f"seed={seed}", f"data.path={data.resolve()}", "--name", f"seed{seed}", "--json"]
    return Path(_answer(words, root, f"training seed {seed}")["run"])


def _answer(words: Sequence[str], where: Path, what: str) -> dict[str, Any]:
    isolated = [*(CUT if network_is_cut() else ()), sys.executable, "-I", CODE, *words]
    done = subprocess.run(isolated, cwd=where, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise CheckFailed(f"{what}: the single file ended with exit code {done.returncode}; its own words are above")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise BadInput(f"{what}: the single file's answer is not one JSON object: {done.stdout!r:.100}")
    return answer
