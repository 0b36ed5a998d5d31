"""`model.golf` -> a model and its tokenizer: all that a scorer needs of this folder.

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
from data.canonical import forbidden_pairs
from data.tokenizer import Tokenizer, load_tokenizer
from model.cost import parameters
from model.gpt import GPT
from quant.format import Contents, PackedTensor, read_artifact, refuse_malformed
from quant.header import ArtifactHeader

MOST_LAYERS = 10_000  # executed, repeats included


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
    with refuse_malformed():
        _require_modest(contents)
        model = GPT(contents.header.model)
        load_tensors(model, contents.tensors)
        tokenizer = load_tokenizer(contents.tokenizer)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise BadInput(f"its tokenizer has {tokenizer.vocab_size} entries, its model {model.config.vocab_size}")
    with refuse_malformed():
        attach_table(model, tokenizer)
    return Artifact(model.eval(), tokenizer, contents.header, hashlib.sha256(data).hexdigest(), len(data))


def attach_table(model: GPT, tokenizer: Tokenizer) -> GPT:
    """The model, with the table that a canonical one needs, on the CPU; no checkpoint and no artifact holds it."""
    if model.config.canonical and model.forbidden is None:
        model.forbidden = torch.from_numpy(forbidden_pairs(tokenizer))
    return model


def _require_modest(contents: Contents) -> None:
    """Before the model is built: its config must take no more memory than the tensors that are there."""
    config = contents.header.model
    if config.layers * (1 + config.loop_repeats) > MOST_LAYERS:
        raise BadInput(
            f"its config runs {config.layers} layers {1 + config.loop_repeats} times; more than {MOST_LAYERS:,}"
        )
    described = sum(parameters(config).values())
    held = sum(tensor.values.size for tensor in contents.tensors)
    if held != described:
        raise BadInput(f"its config describes {described:,} weights and it holds {held:,}")


@torch.no_grad()
def load_tensors(model: torch.nn.Module, tensors: Iterable[PackedTensor]) -> None:
    """Give the model the weights that every reader of the artifact gets; the tensors must be exactly its own."""
    missing = dict(model.named_parameters())
    for tensor in tensors:
        parameter = missing.pop(tensor.name, None)
        if parameter is None or tuple(parameter.shape) != tensor.shape:
            raise BadInput(f"tensor {tensor.name!r:.60} of shape {tensor.shape} is not this model's")
        weights = tensor.weights()
        if not np.isfinite(weights).all():
            raise BadInput(f"tensor {tensor.name!r:.60}: its steps make weights that are not finite")
        parameter.copy_(torch.from_numpy(weights))
    if missing:
        raise BadInput(f"tensor {min(missing)} is missing")
