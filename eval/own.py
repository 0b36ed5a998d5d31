"""An artifact's score under its own rule: what a record claims, by the least code that can say it.

No flags but how much of the text; `python -m eval.bpb` has all the others, and gives the same numbers.
"""

import time
from pathlib import Path
from typing import Any

from base.errors import BadInput
from engine.device import Device
from eval.config import EvalConfig
from eval.metric import Tally
from eval.protocol import checked_context, checked_stride, matching_dataset, own_stride
from eval.score import losses, total
from quant.unpack import open_artifact


def own_score(path: Path, data: str | None, limit: int | None, device: Device) -> dict[str, Any]:
    """`data`: the dataset's folder (None: the one that the artifact names); `limit`: its first so many targets only."""
    if not path.is_file():
        raise BadInput(f"{path}: no such artifact")
    if limit is not None and limit < 1:
        raise BadInput(f"--limit {limit}: there is nothing to score; use at least 1")
    artifact = open_artifact(path)
    context = checked_context(artifact, None)
    stride = checked_stride(own_stride(artifact), context)
    dataset = matching_dataset(data, artifact)
    tokens, started = dataset.val.read(0, len(dataset.val)), time.perf_counter()
    scored = tokens if limit is None else tokens[: limit + 1]
    tally, size = Tally(dataset.table, tokens), EvalConfig().batch_tokens
    model = artifact.model.to(device.torch)
    for first, nats in losses(model, scored, context, stride, size, device.rank, device.ranks):
        tally.add(first, nats)
    score = total(tally, device, partial=len(scored) < len(tokens))
    return {
        **score._asdict(),
        "stride": stride,
        "context": context,
        "artifact_sha256": artifact.sha256,
        "data_sha256": dataset.manifest.data_sha256("val"),
        "seconds": time.perf_counter() - started,
    }
