"""The single file that is shipped: which one, what it imports, and the score that it measures.

    nats, seconds = score_shipped(code, artifact, data, ranks)      block sums of nats, and the complete run's seconds

A record's scores come from nowhere else: the file runs alone in a clean folder, isolated (`python -I`), with the
network cut, on one rank or under torchrun on several.
"""

import hashlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path

from base.errors import BadInput, CheckFailed
from base.files import read_json_object
from base.run_folder import ARTIFACT
from base.source import sources_sha256
from tools.bundle import bundle, unbundle
from tools.record.claim import neutral_path
from tools.record.evidence import Floats, read_nats
from tools.record.runs import Run
from tools.record.schema import CODE
from tools.verify.sandbox import cut_off

PINNED = Path(__file__).parents[2] / "requirements.txt"
NATS = "nats.npy"


def make_code(runs: Sequence[Run], readable: bool) -> bytes:
    """A single file of this tree, which the runs have to have run; the lowest seed's config is its default."""
    first = min(runs, key=lambda run: run.seed)
    data = replace(first.config.data, path=neutral_path(first.config.data.path))
    if first.result.sources_sha256 != sources_sha256():
        raise BadInput(
            f"{first.folder}: the sources {first.result.sources_sha256:.12}… that it ran are not this tree's "
            f"{sources_sha256():.12}…; check out that tree, or name the file that it ran with --bundle FILE"
        )
    return bundle(replace(first.config, data=data), first.folder.name, readable)


def read_code(path: Path, runs: Sequence[Run]) -> bytes:
    """The single file that the runs ran."""
    if not path.is_file():
        raise BadInput(f"--bundle {path}: no such file")
    data = path.read_bytes()
    if unbundle(data) is None:
        raise BadInput(f"--bundle {path}: not a single file that tools.bundle made")
    for run in runs:
        if run.result.bundle_sha256 != hashlib.sha256(data).hexdigest():
            raise BadInput(f"{run.folder}: did not run the --bundle file {path}; name the file that it ran")
    return data


def score_shipped(code: bytes, artifact: Path, data: Path, ranks: int) -> tuple[Floats, float]:
    with tempfile.TemporaryDirectory(prefix="record-") as made:
        clean = Path(made)
        (clean / CODE).write_bytes(code)
        shutil.copyfile(artifact, clean / ARTIFACT)
        words = [CODE, "--score", ARTIFACT, "--data", str(data.absolute()), "--nats", NATS, "--json"]
        began = time.perf_counter()
        done = subprocess.run(cut_off(words, ranks), cwd=clean, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise CheckFailed(f"scoring {artifact}: the single file failed with exit code {done.returncode}, see above")
        answer = read_json_object(done.stdout, f"the single file's answer for {artifact}")
        if answer["partial"]:
            raise CheckFailed(f"{artifact}: {answer['coverage']:.2%} of the targets were scored; a record needs all")
        return read_nats((clean / NATS).read_bytes(), NATS), seconds


def requirements(code: bytes) -> str:
    """The project's pins of what the single file's modules import."""
    inside = unbundle(code)
    assert inside is not None, "tools.record ships what tools.bundle made"
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", "\n".join(inside.modules.values()), re.M))
    distributions = packages_distributions()
    needed = {normal_name(name) for module in imported for name in distributions.get(module, ())}
    lines = [line.partition("#")[0].strip() for line in PINNED.read_text(encoding="utf-8").splitlines()]
    return "".join(f"{line}\n" for line in sorted(lines) if normal_name(line.partition("==")[0]) in needed)


def normal_name(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
