"""Continue prompts token by token from a KV cache, and decode tokens into text, complete characters at a time.

    for row, token in generate_tokens(model, prompts, settings): ...

All rows of a batch are at the same position, so there is no padding: a row whose prompt is longer is fed its own next
token, and only the others sample one. So each row gets what it would get alone, to rounding.

Once a text is longer than the context, its oldest half context drops out of view, and what is left is read again as if
it were the beginning (`window_start`): positions stay those of training. Cached and uncached decoding see the same.
"""

import codecs
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from base.errors import BadInput
from model.cache import Cache
from model.gpt import GPT
from tools.sampling import Sampling, choose_token


@dataclass(frozen=True, kw_only=True)
class Settings:
    context: int
    sampling: Sampling
    marks: Collection[int] = ()  # tokens between documents: one of them ends a text
    use_cache: bool = True


@dataclass(frozen=True)
class Prompt:
    ids: list[int]  # at least one
    blanks: bytes = b""  # trimmed from its end
    is_first: torch.Tensor | None = None  # (V,) which tokens may be the first new one; None: all


def trim_prompt(ids: Sequence[int], spellings: Sequence[bytes]) -> Prompt:
    """Drop a last token of blanks; the first new token must begin with them.

    In training the blank before a word is part of the word's token. A token of blanks alone at the prompt's end says
    that no word follows, and the model continues as texts hardly ever do.
    """
    blanks = spellings[ids[-1]]
    if len(ids) < 2 or not blanks or blanks.strip():
        return Prompt(list(ids))
    return Prompt(list(ids[:-1]), blanks, torch.tensor([data.startswith(blanks) for data in spellings]))


def window_start(length: int, context: int) -> int:
    """Where the view of a text of `length` tokens begins: at 0 while it fits, then moved by half contexts."""
    half = max(1, context // 2)
    return max(0, math.ceil((length - context) / half) * half)


@torch.inference_mode()
def generate_tokens(model: GPT, prompts: Sequence[Prompt], settings: Settings) -> Iterator[tuple[int, int]]:
    """(index of the prompt, its next token), as they are made."""
    device = next(model.parameters()).device
    texts = [list(prompt.ids) for prompt in prompts]
    generators = [torch.Generator().manual_seed(settings.sampling.seed) for _ in prompts]
    active = list(range(len(prompts)))
    cache = Cache()
    start = 0
    while active:
        known = min(len(texts[row]) for row in active)  # tokens that every active row has
        begin = window_start(known, settings.context)
        if begin != start or not settings.use_cache:
            cache = Cache()
            start = begin
        fed = torch.tensor([texts[row][start + cache.length : known] for row in active], device=device)
        x = model.trunk(fed, cache if settings.use_cache else None, last=1)
        logits = model.logits(x)[:, -1].cpu()
        if not logits.isfinite().all():
            raise BadInput(f"after {known} tokens the model's logits are not finite; its weights are beyond fp32")
        kept = []
        for at, row in enumerate(active):
            if len(texts[row]) == known:  # it has no more of its prompt to feed
                token = next_token(logits[at], texts[row], prompts[row], settings, generators[row])
                texts[row].append(token)
                yield row, token
                if (
                    token in settings.marks
                    or len(texts[row]) == len(prompts[row].ids) + settings.sampling.max_new_tokens
                ):
                    continue
            kept.append(at)
        if len(kept) < len(active):
            cache = cache.select(torch.tensor(kept, dtype=torch.long, device=device))
            active = [active[at] for at in kept]


def next_token(
    logits: torch.Tensor, text: list[int], prompt: Prompt, settings: Settings, generator: torch.Generator
) -> int:
    seen = [token for token in text if token not in settings.marks]
    uniform = float(torch.rand((), generator=generator, dtype=torch.float64))
    if prompt.is_first is None or len(text) > len(prompt.ids):
        return choose_token(logits, seen, settings.sampling, uniform)
    # Few tokens are possible, and a rule against repetition might leave none.
    sampling = replace(settings.sampling, no_repeat_ngram=0)
    return choose_token(logits.masked_fill(~prompt.is_first, -math.inf), seen, sampling, uniform)


class TextDecoder:
    """Tokens in, text out: bytes wait for the rest of their character; what never becomes one is U+FFFD."""

    def __init__(self, spellings: Sequence[bytes], skip_bytes: int = 0) -> None:
        """`spellings`: each token's bytes; `skip_bytes`: of the first token."""
        self._spellings = spellings
        self._skip_bytes = skip_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, token: int) -> str:
        data = self._spellings[token][self._skip_bytes :]
        self._skip_bytes = 0
        return self._decoder.decode(data)

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)
