"""Generate text from a model: an artifact, a run, a checkpoint.

    python -m tools.generate --prompt "import" --stream                      (the newest artifact)
    python -m tools.generate runs/demo/model.pt --prompt "import" --temperature 0
    python -m tools.generate ckpt_last.pt --tokenizer tokenizer.model --prompt "The sun is" --mark eos

The prompt begins a document, after the mark that preceded documents in training: BOS, or EOS for seed 001's own
checkpoints (--mark eos). The text ends with the next mark or after --max-new-tokens. A prompt longer than the context
is refused; a text that outgrows it keeps its newer half in view (docs/generate.md).
"""

import argparse
import codecs
import math
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields

import torch

from base.cli import OneLineParser, command, run
from base.config import Layer, build
from base.errors import BadInput
from base.run_folder import ARTIFACT
from model.cache import Cache
from model.gpt import GPT
from tools.load_model import OpenModel, add_model_flags, open_from_flags
from tools.sampling import Sampling, choose_token


@dataclass(frozen=True)
class Generated:
    model: str
    context: int
    prompt: str
    text: str
    tokens: list[int]
    ended: str  # with a "mark", or by its "length"
    seconds: float
    tokens_per_second: float
    streamed: bool


def act(args: argparse.Namespace) -> Generated:
    flags = {each.name: getattr(args, each.name) for each in fields(Sampling)}
    sampling = build(Sampling, [Layer("the command line", flags)])
    opened = open_from_flags(args, ARTIFACT)
    prompt = encode_prompt(args.prompt, opened, args.mark)
    marks = {opened.tokenizer.bos_id, opened.tokenizer.eos_id}
    transform = opened.tokenizer.transform
    spellings = [piece.spelling for piece in opened.tokenizer.pieces()]
    model = opened.model.to("cuda" if torch.cuda.is_available() else "cpu")

    def write(text: str) -> None:  # base.cli keeps sys.stdout for the answer
        if args.stream:
            print(text, end="", flush=True, file=sys.stderr if args.json else sys.__stdout__)

    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # bytes that never become a character are U+FFFD
    folded = transform.fold(args.prompt)  # of complete characters
    text = args.prompt

    def extend(data: bytes, final: bool = False) -> None:
        nonlocal folded, text
        folded += decoder.decode(data, final)
        before = len(text)
        text = transform.unfold(folded)
        write(text[before:])

    started = time.perf_counter()
    tokens = []
    write(text)
    for token in generate_tokens(model, prompt, sampling, opened.context, marks, not args.no_cache):
        tokens.append(token)
        extend(spellings[token])
    extend(b"", final=True)
    write("\n")
    seconds = time.perf_counter() - started
    return Generated(
        model=str(opened.path.resolve()), context=opened.context, prompt=args.prompt, text=text[len(args.prompt) :],
        tokens=tokens, ended="mark" if tokens[-1] in marks else "length",
        seconds=seconds, tokens_per_second=len(tokens) / seconds, streamed=args.stream,
    )  # fmt: skip


def encode_prompt(prompt: str, opened: OpenModel, mark: str) -> list[int]:
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput("--prompt is not UTF-8 text") from None
    tokenizer = opened.tokenizer
    ids = [tokenizer.eos_id if mark == "eos" else tokenizer.bos_id, *tokenizer.encode(prompt).tolist()]
    if len(ids) > opened.context:
        raise BadInput(
            f"the prompt has {len(ids)} tokens with its mark, and the context {opened.context}; "
            "shorten it, or stretch the context with --yarn FACTOR"
        )
    return ids


@torch.inference_mode()
def generate_tokens(
    model: GPT,
    prompt: Sequence[int],  # at least one token
    sampling: Sampling,
    context: int,
    marks: Collection[int] = (),  # tokens between documents: one of them ends the text
    use_cache: bool = True,
) -> Iterator[int]:
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(sampling.seed)
    text = list(prompt)
    cache = Cache()
    start = 0
    for _ in range(sampling.max_new_tokens):
        begin = window_start(len(text), context)
        if begin != start or not use_cache:
            cache = Cache()
            start = begin
        fed = torch.tensor([text[start + cache.length :]], device=device)
        logits = model.logits(model.trunk(fed, cache, last=1), fed[:, -1:])[0, -1].cpu()
        if not logits.isfinite().all():
            raise BadInput(f"after {len(text)} tokens the model's logits are not finite; its weights are beyond fp32")
        seen = [token for token in text if token not in marks]
        text.append(choose_token(logits, seen, sampling, generator))
        yield text[-1]
        if text[-1] in marks:
            return


def window_start(length: int, context: int) -> int:
    """Where the view of a text of `length` tokens begins: at 0 while it fits, then moved by half contexts.

    What is left in view is read again as if it were the beginning, so positions stay those of training.
    """
    half = max(1, context // 2)
    return max(0, math.ceil((length - context) / half) * half)


def show(answer: Generated) -> str:
    return "" if answer.streamed else answer.prompt + answer.text


def parser() -> OneLineParser:
    flags = command("tools.generate", __doc__ or "")
    add_model_flags(flags, "the newest artifact")
    flags.add_argument("--prompt", metavar="TEXT", required=True)
    flags.add_argument("--mark", choices=("bos", "eos"), default="bos", help="before a document (default %(default)s)")
    shown = "(default %(default)s)"
    flags.add_argument("--max-new-tokens", type=int, default=Sampling.max_new_tokens, help=shown)
    flags.add_argument("--temperature", type=float, default=Sampling.temperature, help=f"0: the likeliest {shown}")
    flags.add_argument("--top-k", type=int, default=Sampling.top_k, help=f"0: off {shown}")
    flags.add_argument("--top-p", type=float, default=Sampling.top_p, help=f"1: off {shown}")
    flags.add_argument("--repetition-penalty", type=float, default=Sampling.repetition_penalty, help=f"1: off {shown}")
    flags.add_argument("--no-repeat-ngram", type=int, default=Sampling.no_repeat_ngram, help=f"0: off {shown}")
    flags.add_argument("--seed", type=int, default=Sampling.seed, help=f"of the draws {shown}")
    flags.add_argument("--stream", action="store_true", help="write as it comes, complete characters at a time")
    flags.add_argument("--no-cache", action="store_true", help="feed all tokens for each new one: slow, the same text")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
