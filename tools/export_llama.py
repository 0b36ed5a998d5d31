"""A model of ours as a LlamaForCausalLM that gives the same logits, and back, bit for bit.

    python -m tools.export_llama runs/demo --out exported            (config.json, model.safetensors, tokenizer files)
    python -m tools.export_llama runs/demo --out old --layout rscalm (seed 001: ckpt_last.pt, ckpt_best.pt,
                                                                      pytorch_model.bin, config.json, tokenizer.model)
    python -m tools.export_llama exported --out back --layout bitgolf     (back again: model.pt, tokenizer.model)

Any layout can be read, any can be written. What was written is read again: weights must come back bit for bit, and
logits must be those of the model that was given, within 1e-4 and with the same token first at every position. For a
LLaMA, Hugging Face's own code computes them, where it is installed. A model that is no LLaMA is refused, with every
field that makes it none (docs/export.md).
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from base.cli import Answer, OneLineParser, command, run
from base.config import to_dict
from base.errors import BadInput, CheckFailed
from data.manifest import TOKENIZER
from data.tokenizer import PROBES, Tokenizer
from engine.checkpoint import save_checkpoint
from model.config import ModelConfig
from tools.llama import (
    forbidding,
    forbidding_rscalm,
    llama_config,
    llama_names,
    plain,
    rscalm_config,
    rscalm_weights,
)
from tools.llama_tokenizer import tokenizer_config, tokenizer_json
from tools.load_model import (
    ARTIFACT,
    LLAMA,
    LLAMA_CONFIG,
    MODEL,
    RSCALM,
    Opened,
    add_yarn_flags,
    open_model,
    stretched,
)

LLAMA_TOKENIZER = "tokenizer.json"
LARGEST_DIFFERENCE = 1e-4
ROWS, LENGTH = 2, 128  # of the tokens that logits are compared on
HOSTILE = (*PROBES, "<s>", "</s>x", " " * 40 + "x", "日本語 🙂\u200d", "\ud7ff\ue000\U0010ffff", "x" * 30, "١٢٣ 123")
Logits = Callable[[torch.Tensor], torch.Tensor]


def act(args: argparse.Namespace) -> Answer:
    out = Path(args.out).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out}: is there already; name a new folder: --out")
    opened = stretched(open_model(args.model, (MODEL, ARTIFACT), args.tokenizer), args)
    layout = LAYOUTS[args.layout]
    if forbidden := layout.forbidding(opened.model.config):
        fields = ", ".join(f"{name}={value}" for name, value in forbidden.items())
        other = " --layout bitgolf takes any model" if args.layout == "llama" else " --layout llama may take it"
        raise BadInput(f"{opened.path}: {args.layout} has no place for {fields};{other}")
    going = opened if args.layout == "bitgolf" else replace(opened, model=plain(opened.model))
    _written_whole(out, lambda part: layout.write(going, part))
    return checked(opened, going, out)


# -- writing --------------------------------------------------------------------------------------------------------


def write_llama(opened: Opened, folder: Path) -> None:
    config, weights = opened.model.config, opened.model.state_dict()
    named = {theirs: weights[ours].contiguous() for ours, theirs in llama_names(config).items()}
    save_file(named, folder / LLAMA, {"format": "pt"})
    _write_json(folder / LLAMA_CONFIG, llama_config(config, opened.context, opened.tokenizer))
    (folder / TOKENIZER).write_bytes(opened.tokenizer.model)
    if opened.tokenizer.lossless:  # one that normalises is read from its own file, by a sentencepiece of theirs
        _write_json(folder / LLAMA_TOKENIZER, tokenizer_json(opened.tokenizer))
        _write_json(folder / "tokenizer_config.json", tokenizer_config(opened.tokenizer, opened.context))


def write_rscalm(opened: Opened, folder: Path) -> None:
    """Weights only: a run of ours keeps no optimizer in that project's order, so `optim` and `scaler` are empty."""
    config = rscalm_config(opened.model.config, opened.seq_len)
    weights = rscalm_weights(opened.model.state_dict(), opened.model.config)
    for name in (RSCALM, "ckpt_best.pt"):
        torch.save({"model": weights, "config": config, "optim": {}, "scaler": {}}, folder / name)
    torch.save(weights, folder / "pytorch_model.bin")
    _write_json(folder / LLAMA_CONFIG, config)
    (folder / TOKENIZER).write_bytes(opened.tokenizer.model)


def write_bitgolf(opened: Opened, folder: Path) -> None:
    """A model.pt as a run leaves it; its dataset is for whoever quantizes it to name."""
    config = {"model": to_dict(opened.model.config), "train": {"seq_len": opened.seq_len}, "data": {"path": "."}}
    save_checkpoint(folder, {"config": config, "weights": opened.model.state_dict()}, MODEL)
    (folder / TOKENIZER).write_bytes(opened.tokenizer.model)


class Layout(NamedTuple):
    forbidding: Callable[[ModelConfig], dict[str, Any]]
    write: Callable[[Opened, Path], None]


LAYOUTS = {
    "llama": Layout(forbidding, write_llama),
    "rscalm": Layout(forbidding_rscalm, write_rscalm),
    "bitgolf": Layout(lambda config: {}, write_bitgolf),
}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _written_whole(out: Path, write: Callable[[Path], None]) -> None:
    """A folder with all of its files, or none."""
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        write(part)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


# -- checking -------------------------------------------------------------------------------------------------------


def checked(given: Opened, going: Opened, out: Path) -> Answer:
    """What is in the folder now, against what went in."""
    again = open_model(str(out), (LLAMA, RSCALM, MODEL))
    own, back = going.model.state_dict(), again.model.state_dict()
    exact = own.keys() == back.keys() and all(torch.equal(own[name], back[name]) for name in own)
    answer: Answer = {
        "path": str(out.resolve()), "source": str(given.path.resolve()),
        "parameters": sum(weight.numel() for weight in own.values()),
        "files": sorted(file.name for file in out.iterdir()), "import_bit_exact": exact,
        "max_logit_difference": None, "argmax_agreement": None, "positions": 0, "compared_with": None,
        "tokenizer_agrees": None,
    }  # fmt: skip
    theirs: Logits = again.model
    answer["compared_with"] = "the model as read again"
    if (out / LLAMA).exists():
        if find_spec("transformers") is None:
            said = "transformers is not installed, so the logits were not compared; pip install -r requirements-dev.txt"
            raise CheckFailed(f"{out} is written, but {said}", answer | {"compared_with": None})
        theirs, answer["compared_with"] = hugging_face(out)
        answer["tokenizer_agrees"] = same_ids(out, given.tokenizer)
    answer |= compared(given.model, theirs, min(LENGTH, given.context))
    if not exact:
        raise CheckFailed(f"{out}: the weights that are read back are not those that were written", answer)
    if answer["max_logit_difference"] > LARGEST_DIFFERENCE or answer["argmax_agreement"] < 1:
        found = f"{answer['max_logit_difference']:.3g}, argmax agreement {answer['argmax_agreement']:.2%}"
        raise CheckFailed(f"{out}: logits differ by {found}; at most {LARGEST_DIFFERENCE} and all", answer)
    if answer["tokenizer_agrees"] is False:
        raise CheckFailed(f"{out}: {LLAMA_TOKENIZER} gives other ids than {TOKENIZER}", answer)
    return answer


@torch.inference_mode()
def compared(ours: Logits, theirs: Logits, length: int) -> Answer:
    vocabulary = ours(torch.zeros(1, 1, dtype=torch.long)).shape[-1]
    tokens = torch.randint(vocabulary, (ROWS * LENGTH // length, length), generator=torch.Generator().manual_seed(0))
    a, b = ours(tokens), theirs(tokens)
    if not (a.isfinite().all() and b.isfinite().all()):
        raise CheckFailed("logits are no numbers; the weights are beyond fp32")
    return {
        "max_logit_difference": float((a - b).abs().max()),
        "argmax_agreement": float((a.argmax(-1) == b.argmax(-1)).double().mean()),
        "positions": tokens.numel(),
    }


def hugging_face(folder: Path) -> tuple[Logits, str]:
    """Their model of the folder, strictly loaded, and its name; imported here, as the runtime does without."""
    transformers: Any = import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    model, info = transformers.LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    if any(info.values()):
        raise CheckFailed(f"{folder}: transformers does not take every weight: {info}")
    return lambda tokens: model(tokens).logits, f"transformers {transformers.__version__}"


def same_ids(folder: Path, tokenizer: Tokenizer) -> bool | None:
    """Whether their tokenizer gives our ids on hostile text, and the text back; None where it has no file of theirs."""
    if not (folder / LLAMA_TOKENIZER).exists():
        return None
    theirs = import_module("transformers").AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in HOSTILE:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        if ids != tokenizer.encode(text).tolist() or theirs.decode(ids) != text:
            return False
    return True


def show(answer: Answer) -> str:
    if answer["compared_with"] is None:
        return f"{answer['path']}: {', '.join(answer['files'])}"
    alike = (
        f"logits within {answer['max_logit_difference']:.2g}, the same token first at {answer['argmax_agreement']:.0%}"
    )
    ids = {True: "; tokenizer: the same ids", False: "; tokenizer: other ids", None: ""}[answer["tokenizer_agrees"]]
    return "\n".join(
        [
            f"{answer['path']}: {', '.join(answer['files'])}",
            f"{alike} of {answer['positions']} positions ({answer['compared_with']})" + ids,
        ]
    )


def parser() -> OneLineParser:
    flags = command("tools.export_llama", __doc__ or "")
    flags.add_argument(
        "model", nargs="?", metavar="RUN | CHECKPOINT.pt | ARTIFACT | EXPORTED", help="default: the newest run's"
    )
    flags.add_argument("--out", required=True, metavar="DIR", help="a new folder")
    flags.add_argument("--layout", choices=LAYOUTS, default="llama", help="default %(default)s")
    flags.add_argument("--tokenizer", metavar="FILE", help="for a .pt (default: beside it, or its dataset's)")
    add_yarn_flags(flags)
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
