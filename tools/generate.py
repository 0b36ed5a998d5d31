"""Text from a model: an artifact, a run, a checkpoint, an exported LLaMA.

    python -m tools.generate --prompt "import" --stream                      (the newest artifact)
    python -m tools.generate runs/demo/model.pt --prompt "import" --temperature 0
    python -m tools.generate ckpt_last.pt --tokenizer tokenizer.model --prompt "The sun is" --mark eos
    python -m tools.generate --prompts prompts.txt --seed 7 --json           (one prompt a line; .jsonl: one string or
                                                                              {"prompt": ...} a line)

Every prompt begins a document, after the mark that stood before documents in training: BOS, or EOS where they were
prepared with --layout rscalm (--mark eos). A text ends with the next mark or after --max-new-tokens. A prompt longer
than the context is refused; a text that outgrows it goes on with the newer half in view, read anew (docs/generate.md).
The seed is every prompt's own: in a batch it gets what it gets alone.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from base.cli import Answer, OneLineParser, command, run
from base.config import Layer, build
from base.errors import BadInput
from engine.device import joined
from tools.generation import Speech, continued, healed
from tools.load_model import ARTIFACT, MODEL, Opened, add_yarn_flags, open_model, stretched
from tools.sampling import Sampling

MOST_NEW = 50


def act(args: argparse.Namespace) -> Answer:
    flags = {name: value for name in get_type_hints(Sampling) if (value := getattr(args, name)) is not None}
    sampling = build(Sampling, [Layer("the command line", flags)])
    if args.max_new_tokens < 1:
        raise BadInput(f"--max-new-tokens {args.max_new_tokens}: use 1 or more")
    if not -(1 << 63) <= args.seed < 1 << 63:
        raise BadInput(f"--seed {args.seed}: a seed is a whole number of 64 bits")
    prompts = [args.prompt] if args.prompts is None else read_prompts(Path(args.prompts))
    for number, prompt in enumerate(prompts, 1):
        require_text(prompt, f"{args.prompts}:{number}: the prompt" if args.prompts else "--prompt")
    if args.stream and len(prompts) > 1:
        raise BadInput(f"--stream writes one text, and there are {len(prompts)} prompts; leave it out")
    opened = stretched(open_model(args.model, (ARTIFACT, MODEL), args.tokenizer), args)
    out = sys.stdout if args.json else sys.__stdout__  # the answer alone is on stdout: base.cli sends this to stderr
    if out is None:
        raise BadInput("stdout is closed, and the text has nowhere to go")
    return generated(opened, prompts, sampling, args, out.write if args.stream else lambda text: None, out.flush)


def generated(
    opened: Opened,
    prompts: list[str],
    sampling: Sampling,
    args: argparse.Namespace,
    write: Callable[[str], Any],
    flush: Callable[[], None],
) -> Answer:
    tokenizer = opened.tokenizer
    marks = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id}
    ids = [[marks[args.mark], *tokenizer.encode(prompt).tolist()] for prompt in prompts]
    for number, each in enumerate(ids, 1):
        if len(each) > opened.context:
            raise BadInput(
                f"prompt {number} has {len(each)} tokens with its mark, and the context {opened.context}; "
                "shorten it, or stretch the context with --yarn FACTOR"
            )
    ends = {*marks.values()}
    begun = [healed(each, tokenizer) for each in ids]
    pieces = tokenizer.pieces()
    known = [0 if first is None else len(pieces[each[-1]].data) for each, (_, first) in zip(ids, begun, strict=True)]
    speeches, texts = [Speech(tokenizer, said) for said in known], [""] * len(ids)
    made: list[list[int]] = [[] for _ in ids]
    with joined() as device:
        model, started = opened.model.to(device.torch), time.perf_counter()
        write(prompts[0])
        for row, token in continued(
            model, [prompt for prompt, _ in begun], opened.context, sampling, args.max_new_tokens, args.seed, ends,
            not args.no_cache, [first for _, first in begun],
        ):  # fmt: skip
            made[row].append(token)
            said = "" if token in ends else speeches[row].say(token)
            texts[row] += said
            write(said)
            flush()
        seconds = time.perf_counter() - started
    for row, speech in enumerate(speeches):
        texts[row] += (rest := speech.end())
        write(rest)
    write("\n")
    flush()
    tokens = sum(map(len, made))
    return {
        "model": str(opened.path.resolve()), "context": opened.context, "seed": args.seed, "cached": not args.no_cache,
        "streamed": args.stream,
        "texts": [
            {"prompt": prompt, "text": text, "tokens": new, "ended": "mark" if new[-1] in ends else "length"}
            for prompt, text, new in zip(prompts, texts, made, strict=True)
        ],
        "tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds,
    }  # fmt: skip


def read_prompts(path: Path) -> list[str]:
    """One a line; of .jsonl, a string a line, or an object's `prompt`."""
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}; prompts are text") from None
    lines = text.split("\n")
    if path.suffix != ".jsonl":
        return lines
    return [_from_json(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _from_json(line: str, where: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(prompt, str):
        raise BadInput(f'{where}: a line of .jsonl is a string, or an object with a "prompt"')
    return prompt


def require_text(prompt: str, where: str) -> None:
    if not prompt:
        raise BadInput(f"{where} is empty; give the text a beginning")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput(f"{where} is not UTF-8 text") from None


def show(answer: Answer) -> str:
    if answer["streamed"]:
        return ""
    return "\n\n".join(each["prompt"] + each["text"] for each in answer["texts"])


def parser() -> OneLineParser:
    flags = command("tools.generate", __doc__ or "")
    flags.add_argument("model", nargs="?", metavar="ARTIFACT | RUN | CHECKPOINT.pt", help="default: newest artifact")
    text = flags.add_mutually_exclusive_group(required=True)
    text.add_argument("--prompt", metavar="TEXT")
    text.add_argument("--prompts", metavar="FILE", help="a prompt a line; .jsonl: a JSON string or object a line")
    flags.add_argument("--tokenizer", metavar="FILE", help="for a .pt (default: beside it, or its dataset's)")
    flags.add_argument(
        "--mark", choices=("bos", "eos"), default="bos", help="that begins a document (default %(default)s)"
    )
    flags.add_argument("--max-new-tokens", type=int, default=MOST_NEW, help="a prompt (default %(default)s)")
    flags.add_argument("--temperature", type=float, help=f"0: the likeliest token (default {Sampling.temperature})")
    flags.add_argument("--top-k", type=int, help=f"0: off (default {Sampling.top_k})")
    flags.add_argument("--top-p", type=float, help=f"1: off (default {Sampling.top_p})")
    flags.add_argument("--repetition-penalty", type=float, help="of tokens that were there already (default 1: off)")
    flags.add_argument("--no-repeat-ngram", type=int, metavar="N", help="no N tokens twice in a row (default 0: off)")
    flags.add_argument("--seed", type=int, default=1337, help="of every prompt's draws (default %(default)s)")
    flags.add_argument("--stream", action="store_true", help="write as it comes, whole characters at a time")
    add_yarn_flags(flags)
    flags.add_argument("--no-cache", action="store_true", help="every token from the whole text anew: slow, the same")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
