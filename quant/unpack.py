"""`model.golf` -> a model and its tokenizer. All that a scorer needs of this folder.

artifact = open_artifact("runs/demo/model.golf")
logits = artifact.model(tokens)
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from base.errors import BadInput
from data.tokenizer import Tokenizer, load_tokenizer
from model.config import ModelConfig
from model.cost import parameters
from model.gpt import GPT
from quant.format import MALFORMED, ArtifactHeader, Contents, read_artifact
from quant.stored import Stored

MOST_LAYERS = 10_000  # executed ones


@dataclass(frozen=True)
class Artifact:
    model: GPT
    tokenizer: Tokenizer
    header: ArtifactHeader
    sha256: str
    size_bytes: int


def open_artifact(path: str | Path) -> Artifact:
    data = Path(path).read_bytes()
    try:
        return from_bytes(data)
    except BadInput as bad:
        raise BadInput(f"{path}: {bad}") from None


def from_bytes(data: bytes) -> Artifact:
    contents = read_artifact(data)
    try:
        return _built(data, contents)
    except MALFORMED as error:
        raise BadInput(f"the artifact is malformed: {error!r:.200}") from None


def _built(data: bytes, contents: Contents) -> Artifact:
    model = GPT(_config(contents))
    put_into(model, contents.tensors)
    tokenizer = load_tokenizer(contents.tokenizer)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise BadInput(f"its tokenizer has {tokenizer.vocab_size} entries, its model {model.config.vocab_size}")
    return Artifact(model.eval(), tokenizer, contents.header, hashlib.sha256(data).hexdigest(), len(data))


def _config(contents: Contents) -> ModelConfig:
    """The model's, once it is sure that building it takes no more than the tensors that are there."""
    config = contents.header.model
    if config.layers * (1 + config.loop_repeats) > MOST_LAYERS:
        raise BadInput(
            f"its config runs {config.layers} layers {1 + config.loop_repeats} times; more than {MOST_LAYERS:,}"
        )
    held, wanted = sum(tensor.values.size for tensor in contents.tensors), sum(parameters(config).values())
    if held != wanted:
        raise BadInput(f"its config describes {wanted:,} weights and it holds {held:,}")
    return config


@torch.no_grad()
def put_into(model: torch.nn.Module, tensors: Iterable[Stored]) -> None:
    """The model as every reader of the artifact has it; the tensors must be exactly its own."""
    parameters, put = dict(model.named_parameters()), set[str]()
    for tensor in tensors:
        own = parameters.get(tensor.name)
        if own is None or tensor.name in put or tuple(own.shape) != tensor.shape:
            raise BadInput(f"tensor {tensor.name!r:.60} of shape {tensor.shape} is not this model's")
        weights = tensor.weights()
        if not np.isfinite(weights).all():
            raise BadInput(f"tensor {tensor.name!r:.60}: its steps make weights that are no numbers")
        own.copy_(torch.from_numpy(weights))
        put.add(tensor.name)
    if missing := set(parameters) - put:
        raise BadInput(f"tensor {min(missing)} is missing")
