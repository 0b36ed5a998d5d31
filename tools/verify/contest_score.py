"""A contest folder that ships a model.golf of ours: the artifact is scored and compared with what the folder claims.

    for finding in score_shipped_artifact(folder, data, entry): ...

It imports torch, so contest.py loads it by name. One artifact is one seed's: it can contradict the claim of one seed,
and of a mean over several seeds it can only show that none of those listed has its score.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from base.errors import BadInput, CheckFailed
from base.run_folder import ARTIFACT
from data.manifest import read_manifest
from engine.device import joined, memory_hint
from eval.protocol import artifact_protocol, matching_dataset
from eval.score import score
from quant.unpack import Artifact, from_bytes
from tools.verify.contest_entry import Entry, agrees
from tools.verify.datasets import DATASETS, datasets_with
from tools.verify.folder import Folder
from tools.verify.measure import OTHER_KIND, require_scorable
from tools.verify.verdict import Finding, Level

LEARNS = re.compile(r"adapt|test.?time|\bttt\b", re.I)  # while it scores; here that is done as the artifact says


def score_shipped_artifact(folder: Folder, data: Path | None, entry: Entry) -> Iterator[Finding]:
    if data is not None:
        read_manifest(data)  # a folder that is no dataset is bad usage, and not the entry's fault
    try:
        artifact = from_bytes(folder.read(ARTIFACT))
        dataset = matching_dataset(str(data or _find_dataset(artifact)), artifact)
        protocol = artifact_protocol(artifact)
        require_scorable(artifact, dataset, protocol)
        with joined() as device, memory_hint("score it on a larger machine"):
            found = score(artifact.model.to(device.torch), dataset, protocol, device)
    except (BadInput, CheckFailed) as reason:
        yield Finding("score.begun", "unverified", f"{ARTIFACT} was not scored: {reason}")
        return
    what = f"{ARTIFACT} ({artifact.size_bytes:,} bytes) scores {found.bpb:.8f} bits per byte"
    evidence = {"bpb": found.bpb, "bytes": artifact.size_bytes, "tokens": found.tokens}
    yield Finding("score.measured", "note", f"{what} on {dataset.path}", evidence)
    claims = list(entry.per_seed.values()) or ([] if entry.bpb is None else [entry.bpb])
    measured = (found.bpb, found.bpb * found.bytes / found.contest_bytes)  # the contest counts some bytes otherwise
    pairs = [(claimed, bpb) for claimed in claims for bpb in measured]
    if not pairs or any(agrees(claimed, bpb) for claimed, bpb in pairs):
        return
    nearest, bpb = min(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    is_one_seed = max(entry.seeds, len(entry.per_seed)) < 2
    is_same_data = dataset.manifest.data_sha256() == artifact.header.data_sha256
    is_plain = not LEARNS.search(f"{entry.claim} {entry.readme}")
    is_sure = is_one_seed and is_same_data and is_plain and abs(nearest - bpb) > OTHER_KIND
    level: Level = "invalid" if is_sure else "flag"
    yield Finding("score.val_bpb", level, f"{what}; the nearest that is claimed is {nearest:.8f}", evidence)


def _find_dataset(artifact: Artifact) -> Path:
    """The one here that the artifact was trained on. The path in its header is a stranger's, and is not opened."""
    wanted = artifact.header.data_sha256
    for path in datasets_with(wanted, None):
        return path
    raise BadInput(f"no dataset in {DATASETS} is {wanted[:12]}…, which it was trained on; name it with --data DIR")
