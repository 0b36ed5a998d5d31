"""Open a model with its tokenizer: an artifact, a run, a checkpoint, an exported LLaMA, a checkpoint of seed 001.

    opened = open_model("runs/demo", "model.golf")
    logits = opened.model(tokens)

The kind of a file is read from its content. A .pt holds no tokenizer: it is the one that is named, else
`tokenizer.model` beside it, else its dataset's.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file

from base.cli import OneLineParser
from base.config import Layer, build, to_dict
from base.errors import BadInput
from base.files import read_json_object
from base.run_folder import ARTIFACT, CHECKPOINT, MODEL, named_or_newest
from data.manifest import TOKENIZER
from data.tokenizer import Tokenizer, read_tokenizer
from engine.checkpoint import load_weights, read_state, run_from
from model.config import ModelConfig
from model.gpt import GPT
from quant.format import MAGIC
from quant.unpack import open_artifact
from tools.llama import Weights, llama_names, read_llama_config
from tools.rscalm import from_rscalm, from_rscalm_config

LLAMA, LLAMA_CONFIG = "model.safetensors", "config.json"
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
    return opened


def find_model(given: str | None, preferred: str) -> Path:
    if given is None or not Path(given).is_dir():
        return named_or_newest(given, preferred)
    names = dict.fromkeys([preferred, ARTIFACT, MODEL, CHECKPOINT, LLAMA, RSCALM])
    for name in names:
        if (Path(given) / name).is_file():
            return Path(given) / name
    raise BadInput(f"{given}: holds none of {', '.join(names)}; name a run's folder, an artifact or a .pt file")


def open_file(path: Path, tokenizer: Tokenizer | None) -> OpenModel:
    with path.open("rb") as stream:
        head = stream.read(9)
    if head.startswith(MAGIC):
        artifact = open_artifact(path)
        return OpenModel(path, artifact.model, tokenizer or artifact.tokenizer, artifact.header.seq_len)
    if head.startswith(b"PK\x03\x04"):  # torch.save writes a zip
        return open_checkpoint(path, tokenizer)
    if head[8:] == b"{":  # safetensors: the header's length in 8 bytes, then its JSON
        return open_llama(path, tokenizer)
    raise BadInput(f"{path}: neither an artifact, nor a checkpoint (.pt), nor a .safetensors file")


def open_checkpoint(path: Path, tokenizer: Tokenizer | None) -> OpenModel:
    """A run's .pt (`config`, `weights`) or seed 001's (`config`, `model`)."""
    state = read_state(path)
    config = state.get("config")
    if isinstance(config, dict) and isinstance(state.get("model"), dict):
        shape = from_rscalm_config(config, str(path))
        weights = from_rscalm(state["model"], shape.heads, str(path))
        return build_model(path, shape, weights, config.get("seq_len"), tokenizer or find_tokenizer(path, None))
    config, weights = run_from(state, path)
    shape = build(ModelConfig, [Layer(str(path), config["model"])])
    tokenizer = tokenizer or find_tokenizer(path, config["data"].get("path"))
    return build_model(path, shape, weights, config["train"].get("seq_len"), tokenizer)


def open_llama(path: Path, tokenizer: Tokenizer | None) -> OpenModel:
    described = path.with_name(LLAMA_CONFIG)
    tokenizer = tokenizer or find_tokenizer(path, None)
    try:
        values = read_json_object(described.read_text(encoding="utf-8"), str(described))
        theirs = load_file(path)
    except (UnicodeDecodeError, safetensors.SafetensorError) as error:
        raise BadInput(f"{path}: not a LLaMA that can be read: {error!s:.200}") from None
    shape, seq_len = read_llama_config(values, tokenizer, str(described))
    ours = {theirs: ours for ours, theirs in llama_names(shape).items()}
    return build_model(path, shape, {ours.get(name, name): theirs[name] for name in theirs}, seq_len, tokenizer)


def find_tokenizer(path: Path, dataset: str | None) -> Tokenizer:
    beside = path.with_name(TOKENIZER)
    if not beside.is_file() and dataset is not None:
        beside = Path(dataset) / TOKENIZER
    if not beside.is_file():
        raise BadInput(f"{path}: its tokenizer, {beside}, is not there; name one: --tokenizer FILE")
    return read_tokenizer(beside)


def build_model(path: Path, shape: ModelConfig, weights: Weights, seq_len: Any, tokenizer: Tokenizer) -> OpenModel:
    if not isinstance(seq_len, int) or seq_len < 1:
        raise BadInput(f"{path}: its training length, seq_len, is {seq_len!r:.40}; use 1 or more")
    model = GPT(shape)
    load_weights(model, weights, str(path))
    return OpenModel(path, model.eval(), tokenizer, seq_len)


def stretch_positions(opened: OpenModel, args: argparse.Namespace) -> OpenModel:
    """The same weights under YaRN if the flags ask for it, from the trained length on unless they name another."""
    flags = {name: getattr(args, name) for name in YARN_FLAGS if getattr(args, name) is not None}
    if not flags:
        return opened
    if "yarn_factor" not in flags:
        raise BadInput("--yarn-original and --yarn-attention refine --yarn FACTOR, which is missing")
    if opened.model.config.pos == "none":
        raise BadInput("--yarn stretches RoPE, and this model has no positions (pos=none)")
    fields = to_dict(opened.model.config) | {"yarn_original": opened.seq_len} | flags
    model = GPT(build(ModelConfig, [Layer("--yarn", fields)])).eval()
    model.load_state_dict(opened.model.state_dict(), assign=True)
    return replace(opened, model=model)


def add_yarn_flags(flags: OneLineParser) -> None:
    flags.add_argument("--yarn", type=float, dest="yarn_factor", metavar="FACTOR", help="stretch the context so far")
    flags.add_argument("--yarn-original", type=int, metavar="TOKENS", help="the length to stretch (default: trained)")
    flags.add_argument("--yarn-attention", type=float, help="factor on cos and sin (default 0.1 ln(FACTOR) + 1)")
