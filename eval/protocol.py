"""What decides a score besides the model and the text: context, stride, documents, adaptation; an artifact's own."""

import hashlib
from dataclasses import dataclass
from typing import Any, TypeVar

from base.errors import BadInput
from base.precision import Precision
from data.dataset import Dataset, open_dataset
from eval.batches import Feed
from eval.config import PLAIN, AdaptConfig, EvalConfig, read_adapt, read_precision
from quant.unpack import Artifact

T = TypeVar("T")


@dataclass(frozen=True)
class Protocol:
    context: int  # tokens that a window feeds
    stride: int  # targets that a window adds
    docs: bool = False  # score every document as if it were alone
    adapt: AdaptConfig = PLAIN  # what is learned from targets that are scored
    precision: Precision = "fp32"  # of the matrix products
    batch_tokens: int = EvalConfig.batch_tokens  # this and the next: see eval.batches.Feed
    compiled: bool | None = None

    @property
    def feed(self) -> Feed:
        return Feed(self.batch_tokens, self.compiled, self.precision)

    @property
    def by_document(self) -> bool:
        """Whether documents are scored as if alone, which adapters of their own imply."""
        return self.docs or self.adapt.kind == "lora"


def artifact_protocol(
    artifact: Artifact,
    context: int | None = None,
    stride: int | None = None,
    precision: Precision | None = None,
    **adapt_flags: Any,
) -> Protocol:
    """What is given of context, stride, precision and adaptation, and for the rest that of the artifact's run."""
    context = checked_context(artifact, context)
    stride = _present(artifact.header.stride, "eval.stride") if stride is None else stride
    config = artifact.header.config
    adapt = read_adapt(config, **adapt_flags)
    return Protocol(context, checked_stride(stride, context), adapt=adapt, precision=read_precision(config, precision))


def longest_context(artifact: Artifact) -> int | None:
    """YaRN stretches positions by its factor; without it a context beyond the trained length means nothing."""
    config = artifact.model.config
    if config.pos == "none":
        return None
    if config.yarn_factor > 1:
        return int(config.yarn_original * config.yarn_factor)
    return max(_own_context(artifact), artifact.header.seq_len)


def checked_context(artifact: Artifact, context: int | None) -> int:
    """`context` if the model can take it; the artifact's own (eval.context, or the training length) if it is None."""
    longest = longest_context(artifact)
    context = _own_context(artifact) if context is None else context
    if context < 1 or (longest is not None and context > longest):
        raise BadInput(f"--context {context}: this model takes a context of 1 to {longest or 'any length'}")
    return context


def checked_stride(stride: int, context: int) -> int:
    if not 1 <= stride <= context:
        raise BadInput(f"stride {stride} with a context of {context}: use 1 to {context} (--stride)")
    return stride


def matching_dataset(given: str | None, artifact: Artifact, val_only: bool = True) -> Dataset:
    """`given`, or the dataset that the artifact was trained on; its tokenizer must be the artifact's own."""
    path = _present(artifact.header.data_path, "data.path") if given is None else given
    dataset = open_dataset(path, val_only)
    own = hashlib.sha256(artifact.tokenizer.model).hexdigest()
    if own != dataset.manifest.tokenizer.sha256:
        raise BadInput(f"{path}: its tokenizer is not the artifact's; name its own dataset with --data")
    if len(dataset.val) < 2:
        raise BadInput(f"{path}: its validation side has {len(dataset.val)} tokens; a score needs at least 2")
    return dataset


def _own_context(artifact: Artifact) -> int:
    return _present(artifact.header.context, "train.seq_len")


def _present(value: T, name: str) -> T:
    if not value:
        raise BadInput(f"the artifact's header has no usable {name}: it was not made by a run; name it with a flag")
    return value
