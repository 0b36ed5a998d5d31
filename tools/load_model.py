"""A model and its tokenizer, wherever they are: an artifact, a run, a checkpoint, a LLaMA, a checkpoint of seed 001.

    opened = open_model("runs/demo", ("model.golf", "model.pt"))
    logits = opened.model(tokens)

What a file is, its content says. A .pt holds no tokenizer: it is the file that is named, or `tokenizer.model` beside
it, or its dataset's.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file

from base.cli import OneLineParser
from base.config import Layer, build, to_dict
from base.errors import BadInput
from base.run_folder import CHECKPOINT, named_or_newest
from data.manifest import TOKENIZER
from data.tokenizer import Tokenizer, read_tokenizer
from engine.checkpoint import load_weights, read_state, run_from
from model.config import ModelConfig
from model.gpt import GPT
from quant.format import MAGIC
from quant.unpack import open_artifact
from tools.llama import Weights, from_llama_config, from_rscalm_config, from_rscalm_weights, llama_names

ARTIFACT, MODEL, LLAMA, LLAMA_CONFIG, RSCALM = (
    "model.golf", "model.pt", "model.safetensors", "config.json", "ckpt_last.pt",
)  # fmt: skip
YARN = ("yarn_factor", "yarn_original", "yarn_attention")
ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class Opened:
    path: Path
    model: GPT  # in fp32, evaluating
    tokenizer: Tokenizer
    seq_len: int  # that it was trained with

    @property
    def context(self) -> int:
        """The most tokens that it can be fed: YaRN stretches positions by its factor, nothing else does."""
        config = self.model.config
        if config.pos == "none" or config.yarn_factor == 1:
            return self.seq_len
        return max(self.seq_len, int(config.yarn_original * config.yarn_factor))


def open_model(given: str | None, preferred: tuple[str, ...], tokenizer: str | None = None) -> Opened:
    """`given`, or the newest run's; of a folder, the first of `preferred` that is in it, or what else is a model."""
    path = named_or_newest(None, preferred[0]) if given is None else Path(given)
    if path.is_dir():
        marks = [*dict.fromkeys([*preferred, ARTIFACT, MODEL, CHECKPOINT, LLAMA, RSCALM])]
        inside = [path / mark for mark in marks if (path / mark).is_file()]
        if not inside:
            raise BadInput(f"{path}: holds none of {', '.join(marks)}; name a run's folder, an artifact or a .pt file")
        path = inside[0]
    if not path.is_file():
        raise BadInput(f"{path}: no such file; name an artifact, a run's folder or a checkpoint")
    opened = _reader(path)(path, tokenizer)
    for name in ("vocab_size", "bos_id"):
        wanted, found = getattr(opened.model.config, name), getattr(opened.tokenizer, name)
        if wanted != found:
            raise BadInput(
                f"{path}: its {name} is {wanted}, and the tokenizer's {found}; name its own: --tokenizer FILE"
            )
    for name, weight in opened.model.named_parameters():
        if not weight.isfinite().all():
            raise BadInput(f"{path}: {name} holds NaN or infinity; nothing can come of it")
    return opened


def stretched(opened: Opened, args: argparse.Namespace) -> Opened:
    """The same weights under YaRN, if the flags ask for it: from the trained length on, unless they say another."""
    said = {name: value for name in YARN if (value := getattr(args, name)) is not None}
    if not said:
        return opened
    if "yarn_factor" not in said:
        raise BadInput("--yarn-original and --yarn-attention say more of --yarn FACTOR, which is missing")
    if opened.model.config.pos == "none":
        raise BadInput("--yarn stretches RoPE, and this model has no positions (pos=none)")
    fields = to_dict(opened.model.config) | {"yarn_original": opened.seq_len} | said
    model = GPT(build(ModelConfig, [Layer("--yarn", fields)])).eval()
    model.load_state_dict(opened.model.state_dict(), assign=True)
    return replace(opened, model=model)


def add_yarn_flags(flags: OneLineParser) -> None:
    flags.add_argument(
        "--yarn", type=float, dest="yarn_factor", metavar="FACTOR", help="so many times the length as the context"
    )
    flags.add_argument("--yarn-original", type=int, metavar="TOKENS", help="the length to stretch (default: trained)")
    flags.add_argument("--yarn-attention", type=float, help="on cos and sin (default 0.1 ln(factor) + 1)")


def _reader(path: Path) -> Callable[[Path, str | None], Opened]:
    with path.open("rb") as stream:
        head = stream.read(9)
    if head.startswith(MAGIC):
        return _from_artifact
    if head.startswith(ZIP):
        return _from_pt
    if head[8:] == b"{":
        return _from_llama
    raise BadInput(f"{path}: neither an artifact, nor a checkpoint (.pt), nor a .safetensors file")


def _from_artifact(path: Path, tokenizer: str | None) -> Opened:
    artifact = open_artifact(path)
    own = artifact.tokenizer if tokenizer is None else read_tokenizer(Path(tokenizer))
    return Opened(path, artifact.model, own, artifact.header.seq_len)


def _from_pt(path: Path, tokenizer: str | None) -> Opened:
    state = read_state(path)
    config, theirs = state.get("config"), state.get("model")
    beside = path.with_name(TOKENIZER)
    if isinstance(config, dict) and isinstance(theirs, dict):
        shape, seq_len = from_rscalm_config(config, str(path))
        return _built(path, shape, from_rscalm_weights(theirs, shape, str(path)), seq_len, tokenizer, beside)
    config, weights = run_from(state, path)
    data = config.get("data", {}).get("path")
    if not beside.is_file() and data is not None:
        beside = Path(data) / TOKENIZER
    shape = build(ModelConfig, [Layer(str(path), config["model"])])
    return _built(path, shape, weights, _seq_len(config, path), tokenizer, beside)


def _from_llama(path: Path, tokenizer: str | None) -> Opened:
    said = path.with_name(LLAMA_CONFIG)
    try:
        values = json.loads(said.read_bytes())
        theirs = load_file(path)
    except (ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise BadInput(f"{path}, {said.name}: not a LLaMA that can be read: {error!s:.200}") from None
    if not isinstance(values, dict):
        raise BadInput(f"{said}: a config.json is one object")
    shape, seq_len = from_llama_config(values, str(said))
    names = {theirs: ours for ours, theirs in llama_names(shape).items()}
    weights = {names.get(name, name): tensor for name, tensor in theirs.items()}
    return _built(path, shape, weights, seq_len, tokenizer, path.with_name(TOKENIZER))


def _built(
    path: Path, shape: ModelConfig, weights: Weights, seq_len: int, tokenizer: str | None, beside: Path
) -> Opened:
    model = GPT(shape)
    load_weights(model, weights, str(path))
    if tokenizer is None and not beside.is_file():
        raise BadInput(f"{path}: {beside}, its tokenizer, is not there; name one: --tokenizer FILE")
    return Opened(path, model.eval(), read_tokenizer(Path(tokenizer) if tokenizer else beside), seq_len)


def _seq_len(config: Any, path: Path) -> int:
    train = config.get("train") if isinstance(config, dict) else None
    seq_len = train.get("seq_len") if isinstance(train, dict) else None
    if not isinstance(seq_len, int) or seq_len < 1:
        raise BadInput(f"{path}: its config says no train.seq_len, the length that it was trained with")
    return seq_len
