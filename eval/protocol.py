"""What an artifact is scored on, and how, unless told otherwise: dataset, context, stride; what it cannot take."""

import hashlib
from typing import TypeVar

from base.errors import BadInput
from data.dataset import Dataset, open_dataset
from quant.unpack import Artifact

Said = TypeVar("Said")


def said(artifact: Artifact, section: str, name: str, kind: type[Said]) -> Said:
    """A value of the run's config, from the header; an artifact that was not made by a run may lack it."""
    config = artifact.header.get("config")
    values = config.get(section) if isinstance(config, dict) else None
    value = values.get(name) if isinstance(values, dict) else None
    if not isinstance(value, kind):
        raise BadInput(f"the artifact's header says nothing usable as {section}.{name}")
    return value


def own_context(artifact: Artifact) -> int:
    """What its run was scored with: eval.context, or the training length."""
    return said(artifact, "eval", "context", int) or said(artifact, "train", "seq_len", int)


def own_stride(artifact: Artifact) -> int:
    return said(artifact, "eval", "stride", int)


def longest_context(artifact: Artifact) -> int | None:
    """YaRN stretches positions by its factor; otherwise none beyond the trained length means anything."""
    config = artifact.model.config
    if config.pos == "none":
        return None
    if config.yarn_factor > 1:
        return int(config.yarn_original * config.yarn_factor)
    return max(own_context(artifact), said(artifact, "train", "seq_len", int))


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
    path = given if given is not None else said(artifact, "data", "path", str)
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
