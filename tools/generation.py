"""A model goes on with prompts, token by token, from a KV cache; and tokens become text, whole characters at a time.

for row, token in continued(model, prompts, context, sampling, 50, seed, ends): ...

All rows of a batch stand at the same position, so there is no padding: what a row's prompt already says there is fed,
and only a row whose prompt is over is asked for more. So each row gets what it would get alone, to rounding.

The context's end: once a text is longer than the context, its oldest half context falls out of view, and what is left
is read anew as if it stood at the beginning (`window_start`). Cached and uncached decoding have the same view.
"""

import codecs
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import torch

from base.errors import BadInput
from data.tokenizer import Tokenizer
from model.cache import Cache
from model.gpt import GPT
from tools.sampling import Sampling, next_token


def healed(ids: Sequence[int], tokenizer: Tokenizer) -> tuple[list[int], torch.Tensor | None]:
    """A prompt without the blanks that it ends in, and which tokens (V,) may come first: those that begin with them.

    In training the blank before a word is a part of the word's token. A token of blanks alone at the prompt's end says
    that no word follows, and the model goes on as texts hardly ever do.
    """
    data = [piece.data for piece in tokenizer.pieces()]
    blanks = data[ids[-1]]
    if len(ids) < 2 or not blanks or blanks.strip():
        return list(ids), None
    return list(ids[:-1]), torch.tensor([each.startswith(blanks) for each in data])


def window_start(length: int, context: int) -> int:
    """Where the view of a text of `length` tokens begins: 0 while it fits, then moved on by half contexts."""
    half = max(1, context // 2)
    return max(0, -(-(length - context) // half) * half)


@torch.inference_mode()
def continued(
    model: GPT,
    prompts: Sequence[Sequence[int]],  # each with at least one token, which may be the mark of a new document
    context: int,
    sampling: Sampling,
    most: int,  # new tokens a prompt
    seed: int,
    ends: Collection[int],  # tokens that mark where documents begin or end: one of them ends a text
    cached: bool = True,
    firsts: Sequence[torch.Tensor | None] = (),  # (V,) a prompt: which tokens may follow it; None, or none given: all
) -> Iterator[tuple[int, int]]:
    """(which prompt, its next token) as they are made; every prompt draws as if it were the only one of this seed."""
    device = next(model.parameters()).device
    texts = [list(prompt) for prompt in prompts]
    draws = [torch.Generator().manual_seed(seed) for _ in prompts]
    living, cache, start = [*range(len(texts))], Cache(), 0
    while living:
        known = min(len(texts[row]) for row in living)  # up to here every row says what it is
        if (begin := window_start(known, context)) != start or not cached:
            cache, start = Cache(), begin
        fed = torch.tensor([texts[row][start + cache.length : known] for row in living], device=device)
        x = model.trunk(fed, cache if cached else None, last=1)
        logits = model.logits(x)[:, -1].cpu()
        if not logits.isfinite().all():
            raise BadInput(f"after {known} tokens the model's logits are no numbers; its weights are beyond fp32")
        going_on = []
        for at, row in enumerate(living):
            text = texts[row]
            if len(text) == known:
                seen = [token for token in text if token not in ends]
                uniform = float(torch.rand((), generator=draws[row], dtype=torch.float64))
                first = firsts[row] if firsts and len(text) == len(prompts[row]) else None
                if first is None:
                    text.append(next_token(logits[at], seen, sampling, uniform))
                else:  # of few tokens a rule against repetition might leave none
                    z = logits[at].masked_fill(~first, -math.inf)
                    text.append(next_token(z, seen, replace(sampling, no_repeat_ngram=0), uniform))
                yield row, text[-1]
                if text[-1] in ends or len(text) == len(prompts[row]) + most:
                    continue
            going_on.append(at)
        if len(going_on) < len(living):
            cache, living = (
                cache.select(torch.tensor(going_on, dtype=torch.long, device=device)),
                [living[at] for at in going_on],
            )


class Speech:
    """Tokens in, text out: bytes wait until they make a whole character; what never does is U+FFFD."""

    def __init__(self, tokenizer: Tokenizer, said: int = 0) -> None:
        """`said`: so many bytes of the first token are known already."""
        self._data, self._said = [piece.data for piece in tokenizer.pieces()], said
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def say(self, token: int) -> str:
        data, self._said = self._data[token][self._said :], 0
        return self._decoder.decode(data)

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)
