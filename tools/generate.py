"""Generate text from a model: an artifact, a run, a checkpoint, an exported LLaMA.

    python -m tools.generate --prompt "import" --stream                      (the newest artifact)
    python -m tools.generate runs/demo/model.pt --prompt "import" --temperature 0
    python -m tools.generate ckpt_last.pt --tokenizer tokenizer.model --prompt "The sun is" --mark eos
    python -m tools.generate --prompts prompts.txt --seed 7 --json           (one prompt per line; .jsonl: one string
                                                                              or {"prompt": ...} per line)

Each prompt begins a document, after the mark that preceded documents in training: BOS, or EOS for seed 001's own
checkpoints (--mark eos). A text ends with the next mark or after --max-new-tokens. A prompt longer than the context is
refused; a text that outgrows it keeps its newer half in view (docs/generate.md). In a batch each prompt gets what it
gets alone with the same seed.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_type_hints

import torch

from base.cli import OneLineParser, command, run
from base.config import Layer, build
from base.errors import BadInput
from base.files import read_json
from base.run_folder import ARTIFACT
from tools.generation import Settings, TextDecoder, generate_tokens, trim_prompt
from tools.load_model import OpenModel, add_yarn_flags, open_model, stretch_positions
from tools.sampling import Sampling


@dataclass
class Text:
    prompt: str
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    ended: str = "length"  # or "mark"


@dataclass(frozen=True)
class Generated:
    model: str
    context: int
    seed: int
    cached: bool
    streamed: bool
    texts: list[Text]
    tokens: int
    seconds: float
    tokens_per_second: float


def act(args: argparse.Namespace) -> Generated:
    flags = {name: getattr(args, name) for name in get_type_hints(Sampling) if getattr(args, name) is not None}
    sampling = build(Sampling, [Layer("the command line", flags)])
    prompts = [args.prompt] if args.prompts is None else read_prompts(Path(args.prompts))
    for number, prompt in enumerate(prompts, 1):
        require_text(prompt, f"{args.prompts}:{number}: the prompt" if args.prompts else "--prompt")
    if args.stream and len(prompts) > 1:
        raise BadInput(f"--stream writes one text, and there are {len(prompts)} prompts; leave it out")
    write = stream_writer(args.json) if args.stream else (lambda text: None)
    opened = stretch_positions(open_model(args.model, ARTIFACT, args.tokenizer), args)
    marks = {"bos": opened.tokenizer.bos_id, "eos": opened.tokenizer.eos_id}
    settings = Settings(
        context=opened.context, sampling=sampling, marks=set(marks.values()), use_cache=not args.no_cache
    )
    started = time.perf_counter()
    texts = generate_texts(opened, prompts, marks[args.mark], settings, write)
    seconds = time.perf_counter() - started
    tokens = sum(len(text.tokens) for text in texts)
    return Generated(
        model=str(opened.path.resolve()), context=opened.context, seed=sampling.seed, cached=not args.no_cache,
        streamed=args.stream, texts=texts, tokens=tokens, seconds=seconds, tokens_per_second=tokens / seconds,
    )  # fmt: skip


def generate_texts(
    opened: OpenModel, prompts: list[str], mark: int, settings: Settings, write: Callable[[str], None]
) -> list[Text]:
    """`write` gets a lone prompt and its text as they come."""
    tokenizer = opened.tokenizer
    ids = [[mark, *tokenizer.encode(prompt).tolist()] for prompt in prompts]
    for number, each in enumerate(ids, 1):
        if len(each) > opened.context:
            raise BadInput(
                f"prompt {number} has {len(each)} tokens with its mark, and the context {opened.context}; "
                "shorten it, or stretch the context with --yarn FACTOR"
            )
    spellings = [piece.data for piece in tokenizer.pieces()]
    trimmed = [trim_prompt(each, spellings) for each in ids]
    decoders = [TextDecoder(spellings, len(prompt.blanks)) for prompt in trimmed]
    model = opened.model.to("cuda" if torch.cuda.is_available() else "cpu")
    texts = [Text(prompt) for prompt in prompts]
    write(prompts[0])
    for row, token in generate_tokens(model, trimmed, settings):
        texts[row].tokens.append(token)
        if token in settings.marks:
            texts[row].ended = "mark"
            continue
        piece = decoders[row].decode(token)
        texts[row].text += piece
        write(piece)
    for text, decoder in zip(texts, decoders, strict=True):
        rest = decoder.finish()
        text.text += rest
        write(rest)
    write("\n")
    return texts


def stream_writer(as_json: bool) -> Callable[[str], None]:
    """Onto stdout, which base.cli keeps for the answer; with --json onto stderr."""
    out = sys.stderr if as_json else sys.__stdout__
    if out is None:
        raise BadInput("stdout is closed, and --stream writes to it")

    def write(text: str) -> None:
        out.write(text)
        out.flush()

    return write


def read_prompts(path: Path) -> list[str]:
    """One per line; in a .jsonl each line is a string, or an object with a `prompt`."""
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}; prompts are text") from None
    if path.suffix != ".jsonl":
        return text.split("\n")
    prompts = []
    for number, line in enumerate(text.split("\n"), 1):
        value = read_json(line, f"{path}:{number}")
        prompt = value.get("prompt") if isinstance(value, dict) else value
        if not isinstance(prompt, str):
            raise BadInput(f'{path}:{number}: a line of .jsonl is a string, or an object with a "prompt"')
        prompts.append(prompt)
    return prompts


def require_text(prompt: str, name: str) -> None:
    if not prompt:
        raise BadInput(f"{name} is empty; a text needs a beginning")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput(f"{name} is not UTF-8 text") from None


def show(answer: Generated) -> str:
    return "" if answer.streamed else "\n\n".join(text.prompt + text.text for text in answer.texts)


def parser() -> OneLineParser:
    flags = command("tools.generate", __doc__ or "")
    flags.add_argument("model", nargs="?", metavar="ARTIFACT | RUN | CHECKPOINT.pt", help="default: newest artifact")
    text = flags.add_mutually_exclusive_group(required=True)
    text.add_argument("--prompt", metavar="TEXT")
    text.add_argument("--prompts", metavar="FILE", help="one prompt per line; .jsonl: one string or object per line")
    flags.add_argument("--tokenizer", metavar="FILE", help="for a .pt (default: beside it, or its dataset's)")
    flags.add_argument("--mark", choices=("bos", "eos"), default="bos", help="before a document (default %(default)s)")
    flags.add_argument("--max-new-tokens", type=int, help=f"per prompt (default {Sampling.max_new_tokens})")
    flags.add_argument("--temperature", type=float, help=f"0: the likeliest token (default {Sampling.temperature})")
    flags.add_argument("--top-k", type=int, help=f"0: off (default {Sampling.top_k})")
    flags.add_argument("--top-p", type=float, help=f"1: off (default {Sampling.top_p})")
    flags.add_argument("--repetition-penalty", type=float, help="of tokens that occurred already (default 1: off)")
    flags.add_argument("--no-repeat-ngram", type=int, metavar="N", help="no N tokens in a row twice (default 0: off)")
    flags.add_argument("--seed", type=int, help=f"of each prompt's draws (default {Sampling.seed})")
    flags.add_argument("--stream", action="store_true", help="write as it comes, complete characters at a time")
    add_yarn_flags(flags)
    flags.add_argument("--no-cache", action="store_true", help="feed all tokens for each new one: slow, the same text")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
