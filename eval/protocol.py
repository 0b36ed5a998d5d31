"""What an artifact is scored on, and how, unless told otherwise: dataset, context, stride; what it cannot take."""

import hashlib
from typing import TypeVar

from base.errors import BadInput
from data.dataset import Dataset, open_dataset
from quant.unpack import Artifact

T = TypeVar("T")


def own_context(artifact: Artifact) -> int:
    """What its run was scored with: eval.context, or the training length."""
    return _present(artifact.header.context, "train.seq_len")


def own_stride(artifact: Artifact) -> int:
    return _present(artifact.header.stride, "eval.stride")


def _present(value: T, name: str) -> T:
    if not value:
        raise BadInput(f"the artifact's header has no usable {name}: it was not made by a run; name it with a flag")
    return value


def longest_context(artifact: Artifact) -> int | None:
    """YaRN stretches positions by its factor; otherwise none beyond the trained length means anything."""
    config = artifact.model.config
    if config.pos == "none":
        return None
    if config.yarn_factor > 1:
        return int(config.yarn_original * config.yarn_factor)
    return max(own_context(artifact), artifact.header.seq_len)


def checked_context(artifact: Artifact, context: int | None) -> int:
    """`context` if the model can be fed so much, the artifact's own if it is None."""
    longest = longest_context(artifact)
    context = own_context(artifact) if context is None else context
    if context < 1 or (longest is not None and context > longest):
        raise BadInput(f"--context {context}: this model takes a context of 1 to {longest or 'any length'}")
    return context


def checked_stride(stride: int, context: int) -> int:
    if not 1 <= stride <= context:
        raise BadInput(f"stride {stride} with a context of {context}: use 1 to {context} (--stride)")
    return stride


def matching_dataset(given: str | None, artifact: Artifact) -> Dataset:
    """`given`, or the one that the artifact was trained on; its tokenizer must be the artifact's own."""
    path = given if given is not None else _present(artifact.header.data_path, "data.path")
    dataset = open_dataset(path)
    own, theirs = hashlib.sha256(artifact.tokenizer.model).hexdigest(), dataset.manifest.tokenizer.sha256
    if own != theirs:
        raise BadInput(
            f"{path}: its tokenizer {theirs[:12]}… is not the artifact's {own[:12]}…; "
            "name a dataset with --data that was made with the artifact's"
        )
    if len(dataset.val) < 2:
        raise BadInput(f"{path}: its validation side has {len(dataset.val)} tokens; a score needs at least 2")
    return dataset
