"""Export a model as a folder that LlamaForCausalLM loads, with the same logits.

    python -m tools.export_llama runs/demo --out exported      (config.json, model.safetensors, tokenizer files)

The folder appears only after it has been checked: Hugging Face's code loads every weight and gives the same logits
within 1e-4, and its tokenizer gives the same ids. A model that is no LLaMA is refused, and the error names the fields
that make it none (docs/export.md). Needs transformers.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
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
from tools.llama import kept_by_llama, llama_config, llama_weights, require_supported
from tools.llama_tokenizer import LLAMA_TOKENIZER, write_tokenizer
from tools.load_model import OpenModel, add_model_flags, open_from_flags, require_plain_text

LARGEST_DIFFERENCE = 1e-4
POSITIONS = 256  # compared, in rows of at most ROW_LENGTH
ROW_LENGTH = 128
HOSTILE = (*PROBES, "<s>", "</s>x", " " * 40 + "x", "日本語 🙂\u200d", "\ud7ff\ue000\U0010ffff", "x" * 30, "١٢٣ 123")
Logits = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Export:
    path: str
    max_logit_difference: float
    argmax_agreement: float
    same_token_ids: bool | None  # None: the tokenizer has no tokenizer.json


def act(args: argparse.Namespace) -> Export:
    out = Path(args.out).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out}: exists already; name a new folder: --out")
    if find_spec("transformers") is None:
        raise BadInput("transformers, which checks the export, is missing: pip install -r requirements-dev.txt")
    opened = open_from_flags(args, MODEL)
    require_plain_text(opened.tokenizer, opened.path)
    config = opened.model.config
    require_supported(config, kept_by_llama(config, str(opened.path)), str(opened.path), "a LLaMA")
    with atomic_folder(out) as part:
        write_llama(opened, part)
        theirs = load_with_transformers(part)
        difference, agreement = compare_logits(opened.model, theirs, min(ROW_LENGTH, opened.context))
        same_ids = has_same_token_ids(part, opened.tokenizer) if opened.tokenizer.lossless else None
        export = Export(str(out), difference, agreement, same_ids)
        if difference > LARGEST_DIFFERENCE:
            found = f"{difference:.3g}, argmax agreement {agreement:.2%}"
            raise CheckFailed(f"{out} is not written: logits differ by {found}; at most {LARGEST_DIFFERENCE}", export)
        if same_ids is False:
            raise CheckFailed(f"{out} is not written: {LLAMA_TOKENIZER} gives other ids than {TOKENIZER}", export)
    return export


def write_llama(opened: OpenModel, folder: Path) -> None:
    config = opened.model.config
    save_file(llama_weights(opened.model.state_dict(), config), folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", llama_config(config, opened.context, opened.tokenizer))
    (folder / TOKENIZER).write_bytes(opened.tokenizer.model)
    if opened.tokenizer.lossless:  # sentencepiece reads any other from its own file
        write_tokenizer(opened.tokenizer, folder, opened.context)


@torch.inference_mode()
def compare_logits(ours: Logits, theirs: Logits, length: int) -> tuple[float, float]:
    """(largest difference, share of positions with the same first token) on random tokens, `length` per row.

    Tokens that tie within the difference that is allowed count as the same: rounding decides which is first.
    """
    vocab_size = ours(torch.zeros(1, 1, dtype=torch.long)).shape[-1]
    tokens = torch.randint(vocab_size, (POSITIONS // length, length), generator=torch.Generator().manual_seed(0))
    a = ours(tokens)
    b = theirs(tokens)
    if not (a.isfinite().all() and b.isfinite().all()):
        raise CheckFailed("logits are not finite: the weights are beyond fp32")
    behind = a.amax(-1) - a.gather(-1, b.argmax(-1, keepdim=True)).squeeze(-1)
    return float((a - b).abs().max()), float((behind <= 2 * LARGEST_DIFFERENCE).double().mean())


def load_with_transformers(folder: Path) -> Logits:
    """LlamaForCausalLM of the folder, every weight accounted for."""
    transformers: Any = import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    model, problems = transformers.LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    if any(problems.values()):
        raise CheckFailed(f"{folder}: transformers does not take every weight: {problems}")
    return lambda tokens: model(tokens).logits


def has_same_token_ids(folder: Path, tokenizer: Tokenizer) -> bool:
    """Whether their tokenizer gives our ids on hostile text, and the text back."""
    theirs = import_module("transformers").AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in HOSTILE:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        if ids != tokenizer.encode(text).tolist() or theirs.decode(ids) != text:
            return False
    return True


def show(export: Export) -> str:
    ids = "; the same token ids" if export.same_token_ids else ""
    return (
        f"{export.path}: logits within {export.max_logit_difference:.2g} of Hugging Face's, the same first token at "
        f"{export.argmax_agreement:.0%} of {POSITIONS} positions{ids}"
    )


def parser() -> OneLineParser:
    flags = command("tools.export_llama", __doc__ or "")
    add_model_flags(flags, "the newest run's")
    flags.add_argument("--out", required=True, metavar="DIR", help="a new folder")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
