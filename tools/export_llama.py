"""Export a model as a folder that LlamaForCausalLM loads, with the same logits.

    python -m tools.export_llama runs/demo --out exported      (config.json, model.safetensors, tokenizer files)

The folder appears only after it has been checked: our own reader gets the weights back bit for bit, Hugging Face's code
gives the same logits within 1e-4 with the same first token everywhere, and its tokenizer gives the same ids. A model
that is no LLaMA is refused by the fields that make it none (docs/export.md). Needs transformers.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from base.cli import OneLineParser, command, run
from base.errors import BadInput, CheckFailed
from base.files import atomic_folder, write_json
from base.run_folder import MODEL
from data.manifest import TOKENIZER
from data.tokenizer import PROBES, Tokenizer
from tools.llama import fold, llama_config, llama_names, unsupported_fields
from tools.llama_tokenizer import tokenizer_config, tokenizer_json
from tools.load_model import LLAMA, LLAMA_CONFIG, OpenModel, add_yarn_flags, open_model, stretch_positions

LLAMA_TOKENIZER = "tokenizer.json"
LARGEST_DIFFERENCE = 1e-4
POSITIONS = 256  # compared, in rows of at most ROW_LENGTH
ROW_LENGTH = 128
HOSTILE = (*PROBES, "<s>", "</s>x", " " * 40 + "x", "日本語 🙂\u200d", "\ud7ff\ue000\U0010ffff", "x" * 30, "١٢٣ 123")
Logits = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Export:
    path: str
    source: str
    compared_with: str  # transformers and its version
    max_logit_difference: float
    argmax_agreement: float
    same_token_ids: bool | None  # None: the tokenizer has no tokenizer.json


def act(args: argparse.Namespace) -> Export:
    out = Path(args.out).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out}: exists already; name a new folder: --out")
    if find_spec("transformers") is None:
        raise BadInput("transformers, which checks the export, is missing: pip install -r requirements-dev.txt")
    opened = stretch_positions(open_model(args.model, MODEL, args.tokenizer), args)
    unsupported = unsupported_fields(opened.model.config)
    if unsupported:
        fields = ", ".join(f"{name}={value}" for name, value in unsupported.items())
        raise BadInput(f"{opened.path}: LLaMA has no place for {fields}; only a model without can be exported")
    with atomic_folder(out) as part:
        folded = replace(opened, model=fold(opened.model))
        write_llama(folded, part)
        return check_export(opened, folded, part, out)


def write_llama(opened: OpenModel, folder: Path) -> None:
    """`opened` must be folded."""
    config = opened.model.config
    weights = opened.model.state_dict()
    named = {theirs: weights[ours].contiguous() for ours, theirs in llama_names(config).items()}
    save_file(named, folder / LLAMA, {"format": "pt"})
    write_json(folder / LLAMA_CONFIG, llama_config(config, opened.context, opened.tokenizer))
    (folder / TOKENIZER).write_bytes(opened.tokenizer.model)
    if opened.tokenizer.lossless:  # sentencepiece reads any other from its own file
        write_json(folder / LLAMA_TOKENIZER, tokenizer_json(opened.tokenizer))
        write_json(folder / "tokenizer_config.json", tokenizer_config(opened.tokenizer, opened.context))


def check_export(given: OpenModel, folded: OpenModel, folder: Path, out: Path) -> Export:
    """What the folder holds, read back by us and by Hugging Face, against the model that was given."""
    kept = f"{out} is not written"
    read_back = open_model(str(folder), LLAMA).model.state_dict()
    own = folded.model.state_dict()
    if own.keys() != read_back.keys() or not all(torch.equal(own[name], read_back[name]) for name in own):
        raise CheckFailed(f"{kept}: its weights, read back, differ from those of {given.path}")
    theirs, version = load_with_transformers(folder)
    difference, agreement = compare_logits(given.model, theirs, min(ROW_LENGTH, given.context))
    same_ids = compare_token_ids(folder, given.tokenizer)
    export = Export(str(out), str(given.path.resolve()), version, difference, agreement, same_ids)
    if difference > LARGEST_DIFFERENCE or agreement < 1:
        found = f"{difference:.3g}, argmax agreement {agreement:.2%}"
        raise CheckFailed(f"{kept}: logits differ by {found}; at most {LARGEST_DIFFERENCE} and 100 %", export)
    if same_ids is False:
        raise CheckFailed(f"{kept}: {LLAMA_TOKENIZER} gives other ids than {TOKENIZER}", export)
    return export


@torch.inference_mode()
def compare_logits(ours: Logits, theirs: Logits, length: int) -> tuple[float, float]:
    """(largest difference, share of positions with the same first token) on random tokens, `length` per row."""
    vocab_size = ours(torch.zeros(1, 1, dtype=torch.long)).shape[-1]
    tokens = torch.randint(vocab_size, (POSITIONS // length, length), generator=torch.Generator().manual_seed(0))
    a, b = ours(tokens), theirs(tokens)
    if not (a.isfinite().all() and b.isfinite().all()):
        raise CheckFailed("logits are not finite: the weights are beyond fp32")
    return float((a - b).abs().max()), float((a.argmax(-1) == b.argmax(-1)).double().mean())


def load_with_transformers(folder: Path) -> tuple[Logits, str]:
    """LlamaForCausalLM of the folder, every weight accounted for, and the version that made it."""
    transformers: Any = import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    model, problems = transformers.LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    if any(problems.values()):
        raise CheckFailed(f"{folder}: transformers does not take every weight: {problems}")
    return lambda tokens: model(tokens).logits, f"transformers {transformers.__version__}"


def compare_token_ids(folder: Path, tokenizer: Tokenizer) -> bool | None:
    """Whether their tokenizer gives our ids on hostile text, and the text back; None where it has no file."""
    if not (folder / LLAMA_TOKENIZER).exists():
        return None
    theirs = import_module("transformers").AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in HOSTILE:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        if ids != tokenizer.encode(text).tolist() or theirs.decode(ids) != text:
            return False
    return True


def show(export: Export) -> str:
    return (
        f"{export.path}: logits within {export.max_logit_difference:.2g} of {export.compared_with}'s, the same first "
        f"token at {export.argmax_agreement:.0%} of {POSITIONS} positions"
        + ("; the same token ids" if export.same_token_ids else "")
    )


def parser() -> OneLineParser:
    flags = command("tools.export_llama", __doc__ or "")
    flags.add_argument("model", nargs="?", metavar="RUN | CHECKPOINT.pt | ARTIFACT", help="default: the newest run's")
    flags.add_argument("--out", required=True, metavar="DIR", help="a new folder")
    flags.add_argument("--tokenizer", metavar="FILE", help="for a .pt (default: beside it, or its dataset's)")
    add_yarn_flags(flags)
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
