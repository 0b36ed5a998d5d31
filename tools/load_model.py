"""Open a model with its tokenizer: an artifact, a run, a checkpoint, or a checkpoint of seed 001.

    opened = open_model("runs/demo", "model.golf")
    logits = opened.model(tokens)

The kind of a file is read from its content. A .pt holds no tokenizer: it is the one that is named, else
`tokenizer.model` beside it, else its dataset's.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from base.cli import OneLineParser
from base.config import Layer, build, to_dict
from base.errors import BadInput
from base.run_folder import ARTIFACT, MODEL, named_or_newest
from data.manifest import TOKENIZER
from data.tokenizer import Tokenizer, read_tokenizer
from engine.checkpoint import load_weights, read_state, run_from
from engine.saver import find_checkpoints, load_checkpoint
from model.config import ModelConfig
from model.gpt import GPT
from quant.format import MAGIC
from quant.unpack import attach_table, open_artifact
from tools.rscalm import from_rscalm, from_rscalm_config

RSCALM = "ckpt_last.pt"
YARN_FLAGS = ("yarn_factor", "yarn_original", "yarn_attention")


@dataclass(frozen=True)
class OpenModel:
    path: Path
    model: GPT  # fp32, in evaluation mode
    tokenizer: Tokenizer
    seq_len: int  # of training

    @property
    def context(self) -> int:
        """The most tokens that it takes: YaRN stretches positions by its factor, nothing else does."""
        config = self.model.config
        if config.pos == "none" or config.yarn_factor == 1:
            return self.seq_len
        return max(self.seq_len, int(config.yarn_original * config.yarn_factor))


def open_model(given: str | None, preferred: str, tokenizer: str | None = None) -> OpenModel:
    """The model at `given`, or the newest run's `preferred`; `tokenizer` names a file to use instead of its own."""
    opened = open_file(find_model(given, preferred), None if tokenizer is None else read_tokenizer(Path(tokenizer)))
    for name in ("vocab_size", "bos_id"):
        wanted, found = getattr(opened.model.config, name), getattr(opened.tokenizer, name)
        if wanted != found:
            raise BadInput(f"{opened.path}: its {name} is {wanted}, its tokenizer's {found}; name its own: --tokenizer")
    attach_table(opened.model, opened.tokenizer)
    return opened


def require_plain_text(tokenizer: Tokenizer, where: object) -> None:
    """For programs that encode with the tokenizer's own library, which does not fold a text before."""
    if tokenizer.transform.operators:
        raise BadInput(
            f"{where}: its tokenizer has the transform {tokenizer.transform.name}, which other programs do not carry "
            "out; make the dataset without --transform"
        )


def find_model(given: str | None, preferred: str) -> Path:
    if given is not None:
        if Path(given) in find_checkpoints(Path(given).parent).values():
            return Path(given)
        for name in (preferred, ARTIFACT, MODEL, RSCALM):
            if (Path(given) / name).is_file():
                return Path(given) / name
        if saved := find_checkpoints(Path(given)):  # of an unfinished run
            return saved[max(saved)]
    return named_or_newest(given, preferred)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Config and weights of a run under way, as its model.pt would have them."""

    def choose(name: str, size: torch.Size, dtype: torch.dtype) -> torch.Tensor | None:
        return torch.empty(size, dtype=dtype) if name.startswith("weights.") else None

    plain, found = load_checkpoint(path, {}, choose)
    return {**plain, "weights": {name.removeprefix("weights."): weight for name, weight in found.items()}}


def open_file(path: Path, tokenizer: Tokenizer | None) -> OpenModel:
    if path.is_dir():
        return open_state(path, read_checkpoint(path), tokenizer)
    with path.open("rb") as stream:
        head = stream.read(len(MAGIC))
    if head == MAGIC:
        artifact = open_artifact(path)
        return OpenModel(path, artifact.model, tokenizer or artifact.tokenizer, artifact.header.seq_len)
    if not head.startswith(b"PK\x03\x04"):  # torch.save writes a zip
        raise BadInput(f"{path}: neither an artifact nor a checkpoint (.pt)")
    return open_state(path, read_state(path), tokenizer)


def open_state(path: Path, state: dict[str, Any], tokenizer: Tokenizer | None) -> OpenModel:
    if isinstance(state.get("model"), dict) and isinstance(state.get("config"), dict):
        seq_len = state["config"].get("seq_len")
        shape = from_rscalm_config(state["config"], str(path))
        weights = from_rscalm(state["model"], shape.heads, str(path))
        dataset = None
    else:
        config, weights = run_from(state, path)
        seq_len = config["train"].get("seq_len")
        shape = build(ModelConfig, [Layer(str(path), config["model"])])
        dataset = config["data"].get("path")
    if not isinstance(seq_len, int) or seq_len < 1:
        raise BadInput(f"{path}: its training length, seq_len, is {seq_len!r:.40}; use 1 or more")
    model = GPT(shape).eval()
    load_weights(model, weights, str(path))
    return OpenModel(path, model, tokenizer or find_tokenizer(path, dataset), seq_len)


def find_tokenizer(path: Path, dataset: str | None) -> Tokenizer:
    found = path.with_name(TOKENIZER)
    if not found.is_file() and dataset is not None:
        found = Path(dataset) / TOKENIZER
    if not found.is_file():
        raise BadInput(f"{path}: its tokenizer, {found}, is not there; name one: --tokenizer FILE")
    return read_tokenizer(found)


# -- the flags of a command that opens a model ----------------------------------------------------------------------


def add_model_flags(flags: OneLineParser, default: str) -> None:
    flags.add_argument("model", nargs="?", metavar="ARTIFACT | RUN | CHECKPOINT", help=f"default: {default}")
    flags.add_argument("--tokenizer", metavar="FILE", help="for a .pt (default: beside it, or its dataset's)")
    flags.add_argument("--yarn", type=float, dest="yarn_factor", metavar="FACTOR", help="stretch the context so far")
    flags.add_argument("--yarn-original", type=int, metavar="TOKENS", help="the length to stretch (default: trained)")
    flags.add_argument("--yarn-attention", type=float, help="factor on cos and sin (default 0.1 ln(FACTOR) + 1)")


def open_from_flags(args: argparse.Namespace, preferred: str) -> OpenModel:
    """The model that the flags name, its positions stretched from the trained length if they ask for YaRN."""
    opened = open_model(args.model, preferred, args.tokenizer)
    yarn: dict[str, Any] = {name: getattr(args, name) for name in YARN_FLAGS if getattr(args, name) is not None}
    if not yarn:
        return opened
    if args.yarn_factor is None:
        raise BadInput("--yarn-original and --yarn-attention refine --yarn FACTOR, which is missing")
    fields = to_dict(opened.model.config) | {"yarn_original": opened.seq_len} | yarn
    model = GPT(build(ModelConfig, [Layer("--yarn", fields)])).eval()
    model.load_state_dict(opened.model.state_dict(), assign=True)
    return replace(opened, model=attach_table(model, opened.tokenizer))
