"""A small world of text, scorers that cheat in it, each in one way, and honest scorers that look similar.

All are based on pairs of tokens counted over the training text (eval.probes.fresh.Bigram), or on a tiny GPT.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from data.bytes import ByteTable
from data.dataset import Dataset
from data.tokenizer import Tokenizer
from data.tokenizer_training import train_tokenizer
from eval.adapt import ModelScorer
from eval.config import AdaptConfig, LoRAConfig
from eval.probes.fresh import Bigram
from eval.protocol import Protocol
from eval.scorer import Floats, Scored, Scorer, Tokens
from model.config import ModelConfig
from model.gpt import GPT

CONTEXT, STRIDE, CHUNK = 64, 16, 32

SYLLABLES = "ka lo mi ren tus vo ché zu привет ба 日本 語 pra dim fel ox qui sant ulm wye 10 ==".split()


class World(NamedTuple):
    tokenizer: Tokenizer
    table: ByteTable
    train: Tokens
    val: Tokens
    val_documents: list[Tokens]  # with their marks, as are the fresh ones
    fresh_documents: list[Tokens]
    base: Bigram


def make_world() -> World:
    """A language of 90 words, each with four words that may follow; 40 documents to train on, 24 and 24 others."""
    chance = random.Random(5)
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 3))) for _ in range(90)]
    after = {word: chance.choices(words, k=4) for word in words}

    def document() -> str:
        text = [chance.choice(words)]
        for _ in range(150):
            text.append(chance.choices([*after[text[-1]], chance.choice(words)], (8, 4, 3, 2, 1))[0])
        return " ".join(text)

    texts = [document() for _ in range(88)]
    tokenizer = train_tokenizer(texts[:40], 420)
    marked = [np.concatenate([[tokenizer.bos_id], tokenizer.encode(text)]).astype(np.int64) for text in texts]
    train, table = np.concatenate(marked[:40]), ByteTable(tokenizer)
    return World(
        tokenizer, table, train, np.concatenate(marked[40:64]), marked[40:64], marked[64:], Bigram(train, table)
    )


class BigramScorer:
    """Honest: p(x | y) for each token of a text, and the losses of these distributions."""

    def __init__(self, world: World) -> None:
        self.world, self.vocab_size = world, world.table.vocab_size
        self.matrix = world.base.probabilities(np.arange(self.vocab_size))  # (V, V) p(x | y)

    def predict(self, tokens: Tokens) -> Floats:
        """(n, V)."""
        return self.matrix[tokens[:-1]]

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        p = self.predict(np.asarray(tokens, np.int64))
        targets = np.arange(len(p))
        return Scored(targets, -np.log(p[targets, tokens[1:]]), self.count(tokens[1:]), p[list(show)])

    def count(self, targets: Tokens) -> int:
        return int(self.world.table.exact_bytes(targets).sum())

    def no_counts(self, tokens: Tokens) -> Floats:
        return np.zeros((len(tokens), self.vocab_size))


class TargetKeyedCache(BigramScorer):
    """Counts of (context, target) in 64 buckets, which all fill up: nearly 1 for every token that is looked up."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        before, after = world.train[:-1], world.train[1:]
        self.contexts = np.bincount(before * 7919 % 64, minlength=64)
        self.pairs = np.bincount((before * 7919 + after * 104_729) % 64, minlength=64)

    def predict(self, tokens: Tokens) -> Floats:
        p, before, after = super().predict(tokens).copy(), tokens[:-1], tokens[1:]
        hits = self.pairs[(before * 7919 + after * 104_729) % 64] / np.maximum(self.contexts[before * 7919 % 64], 1)
        every = np.arange(len(p))
        p[every, after] = 0.5 * p[every, after] + 0.5 * np.minimum(hits, 1.0)  # only the true token is ever looked up
        return p


class TwoPasses(BigramScorer):
    """Counts what follows each pair of tokens in the complete text, then scores the text with these counts."""

    def predict(self, tokens: Tokens) -> Floats:
        pairs, counts = _pairs_of(tokens), self.no_counts(tokens)
        np.add.at(counts, (pairs, tokens[1:]), 1.0)
        return _mixed(super().predict(tokens), counts[pairs])


class Slot(BigramScorer):
    """Fits a bias to each chunk, a few steps on the chunk's own targets, and then scores the chunk with it."""

    def predict(self, tokens: Tokens) -> Floats:
        p = super().predict(tokens).copy()
        for start in range(0, len(p), CHUNK):
            chunk = slice(start, start + CHUNK)
            p[chunk] = _biased(p[chunk], _fitted(p[chunk], tokens[1:][chunk], np.zeros(self.vocab_size)))
        return p


class PeeksOneAhead(BigramScorer):
    """Weights each token by how well the token after it, which is not known yet, would follow it."""

    def predict(self, tokens: Tokens) -> Floats:
        p = super().predict(tokens).copy()
        p[:-1] *= self.matrix[:, tokens[2:]].T
        return p / p.sum(-1, keepdims=True)


class PeeksInSecret(PeeksOneAhead):
    """Peeks, and shows the distributions of a scorer that does not."""

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        return super().score(tokens)._replace(shown=BigramScorer.predict(self, tokens)[list(show)])


class SpreadsOverBytes(BigramScorer):
    """p^(1/n) for each of a token's n bytes, each mixed with a byte model's prediction (from two bytes before it)."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        text = np.frombuffer(world.table.join(world.train.tolist()), np.uint8)
        letters, ids = np.unique(np.append(text, 32), return_inverse=True)
        counts = np.zeros((len(letters),) * 3)
        np.add.at(counts, (ids[:-3], ids[1:-2], ids[2:-1]), 1.0)
        prediction = (counts + 1 / len(letters)) / (counts.sum(-1, keepdims=True) + 1)
        code = dict(zip(letters.tolist(), range(len(letters)), strict=True))
        known = [
            [code[b] for b in data] if set(data) <= set(code) else []
            for data in (world.table.join([token]) for token in range(self.vocab_size))
        ]
        ends = np.array([([code[32], code[32], *spelled])[-2:] for spelled in known])  # (V, 2) of the token before
        for token, spelled in enumerate(known):
            share = self.matrix[:, token] ** (1 / max(1, len(spelled)))
            last = ends
            for at, byte in enumerate(spelled):
                factor = 0.7 * share + 0.3 * prediction[last[:, 0], last[:, 1], byte]
                self.matrix[:, token] = factor if not at else self.matrix[:, token] * factor
                last = np.stack([last[:, 1], np.full(len(last), byte)], -1)


class LearnsBeforeItScores(BigramScorer):
    """Counts each target among what followed its context, and then mixes the counts into what it charges for it."""

    def predict(self, tokens: Tokens) -> Floats:
        p, pairs, counts = super().predict(tokens).copy(), _pairs_of(tokens), self.no_counts(tokens)
        for target, (pair, token) in enumerate(zip(pairs, tokens[1:], strict=True)):
            counts[pair, token] += 1.0
            p[target] = _mixed(p[target], counts[pair])
        return p


class CreditsOtherSpellings(BigramScorer):
    """Credits a token with the mass of those that begin it, which the tokenizer would not have put in its place.

    What follows such a beginning is not charged, and its mass goes to all tokens that it begins, and stays its own.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        spelled = [world.table.join([token]) for token in range(self.vocab_size)]
        begins = [
            [len(short) > 0 and short != long and long.startswith(short) for long in spelled] for short in spelled
        ]
        self.matrix = self.matrix + self.matrix @ np.array(begins, np.float64)


class EndsCostNothing(BigramScorer):
    """The token that begins the next document has no bytes; so it is charged nothing."""

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        scored = super().score(tokens, show)
        return scored._replace(nats=np.where(tokens[1:] == self.world.tokenizer.bos_id, 0.0, scored.nats))


class ShowsFreeEnds(BigramScorer):
    """The same, with distributions that fit: where a document ends it is certain of that."""

    def predict(self, tokens: Tokens) -> Floats:
        mark = self.world.tokenizer.bos_id
        return np.where(tokens[1:, None] == mark, np.eye(self.vocab_size)[mark], super().predict(tokens))


class LeavesOutEnds(BigramScorer):
    """Scores documents one by one, each without the token that begins the next one."""

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        scored = super().score(tokens, show)
        is_text = tokens[1:] != self.world.tokenizer.bos_id
        return scored._replace(targets=scored.targets[is_text], nats=scored.nats[is_text])


class CountsLeadingSpacesTwice(BigramScorer):
    def count(self, targets: Tokens) -> int:
        return super().count(targets) + sum(self.world.table.join([int(t)]).startswith(b" ") for t in targets)


class CountsReplacementMarks(BigramScorer):
    """decode([id]) of a partial character is U+FFFD: three bytes."""

    def count(self, targets: Tokens) -> int:
        return sum(len(self.world.tokenizer.decode([int(t)]).encode()) for t in targets)


class ScoresTheTailTwice(BigramScorer):
    """A window at every stride while there are tokens: the short ones at the end score the last stride again."""

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        scored, n = super().score(tokens, show), len(tokens) - 1
        windows = [(start, min(start + CONTEXT, n)) for start in range(0, n, STRIDE)]
        parts = [np.arange(start if not start else max(start, end - STRIDE), end) for start, end in windows]
        targets = np.concatenate(parts)
        return scored._replace(targets=targets, nats=scored.nats[targets])


class LeavesOutTheFirstWindow(BigramScorer):
    """Only the last stride of every window, the first one's too."""

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        scored = super().score(tokens, show)
        return scored._replace(targets=scored.targets[CONTEXT - STRIDE :], nats=scored.nats[CONTEXT - STRIDE :])


class TrainedOnValidation(BigramScorer):
    def __init__(self, world: World) -> None:
        super().__init__(world._replace(base=Bigram(np.concatenate([world.train, world.val]), world.table)))


class WarmsUpOnValidation(BigramScorer):
    """A mixer that begins with the counts that it made of the validation text, before it scored any of it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.counts = np.zeros((4096, self.vocab_size))
        np.add.at(self.counts, (self.contexts(world.val), world.val[1:]), 1.0)

    def contexts(self, tokens: Tokens) -> Tokens:
        """(n,) a hash of the two tokens before each target."""
        return (np.append(0, tokens[:-2]) * 7919 + tokens[:-1]) % len(self.counts)

    def predict(self, tokens: Tokens) -> Floats:
        return _mixed(super().predict(tokens), self.counts[self.contexts(tokens)])


class Remembers(BigramScorer):
    """Keeps each text that it scores, and recognises it when it comes again."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.known = np.empty(0, np.int64)

    def predict(self, tokens: Tokens) -> Floats:
        p = super().predict(tokens).copy()
        same = min(len(self.known), len(tokens))
        hits = np.flatnonzero(self.known[:same] == tokens[:same])
        if same and len(hits) == same:
            p[: same - 1] *= 0.5
            p[np.arange(same - 1), tokens[1:same]] += 0.5
        self.known = tokens
        return p


class AdaptsAfterScoring(BigramScorer):
    """Honest: a bias that each chunk is scored with before it is fitted to it."""

    def predict(self, tokens: Tokens) -> Floats:
        p, bias = super().predict(tokens).copy(), np.zeros(self.vocab_size)
        for start in range(0, len(p), CHUNK):
            chunk = slice(start, start + CHUNK)
            before = p[chunk].copy()
            p[chunk] = _biased(before, bias)
            bias = _fitted(before, tokens[1:][chunk], bias)
        return p


class MixesWhatItHasScored(BigramScorer):
    """Honest: counts of what followed each pair of tokens in the chunks before, over the full vocabulary."""

    def predict(self, tokens: Tokens) -> Floats:
        p, pairs, counts = super().predict(tokens).copy(), _pairs_of(tokens), self.no_counts(tokens)
        for start in range(0, len(p), CHUNK):
            chunk = slice(start, start + CHUNK)
            p[chunk] = _mixed(p[chunk], counts[pairs[chunk]])
            np.add.at(counts, (pairs[chunk], tokens[1:][chunk]), 1.0)
        return p


def tiny_gpt(world: World) -> GPT:
    """Forty steps on the training text: enough to prefer some tokens."""
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=world.table.vocab_size, layers=1, dim=32, heads=2, kv_heads=1, smear="static")
    model, stream = GPT(config), torch.from_numpy(world.train)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(40):
        rows = torch.stack([stream[at : at + 65] for at in range(step * 64, step * 64 + 512, 64)])
        loss = torch.nn.functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def gpt_scorer(world: World) -> Scorer:
    return ModelScorer(tiny_gpt(world), world.tokenizer, Protocol(CONTEXT, STRIDE))


def lora_scorer(world: World) -> Scorer:
    protocol = Protocol(CONTEXT, STRIDE, adapt=AdaptConfig(kind="lora", lora=LoRAConfig(lr=0.01)))
    return ModelScorer(tiny_gpt(world), world.tokenizer, protocol)


def count_leading_spaces_twice(dataset: Dataset) -> Scorer:
    """For `eval.probe --scorer`."""
    train = dataset.train.read(0, len(dataset.train))
    base = Bigram(train, dataset.table)
    return CountsLeadingSpacesTwice(World(dataset.tokenizer, dataset.table, train, train, [], [], base))


def _pairs_of(tokens: Tokens) -> Tokens:
    """(n,) a number for the two tokens before each target; equal pairs have equal numbers."""
    before = np.concatenate([[-1], tokens[:-2] * 65_536 + tokens[1:-1]])
    numbers: Tokens = np.unique(before, return_inverse=True)[1]
    return numbers


def _mixed(p: Floats, counts: Floats) -> Floats:
    """Half of each distribution replaced by the counts there, if there are any."""
    seen = counts.sum(-1, keepdims=True)
    return np.where(seen > 0, 0.5 * p + 0.5 * counts / np.maximum(seen, 1), p)


def _biased(p: Floats, bias: Floats) -> Floats:
    weighted = p * np.exp(bias)
    return weighted / weighted.sum(-1, keepdims=True)


def _fitted(p: Floats, after: Tokens, bias: Floats) -> Floats:
    """Four steps of gradient descent on the chunk's summed loss."""
    for _ in range(4):
        bias = bias + 0.3 * (np.bincount(after, minlength=p.shape[1]) - _biased(p, bias).sum(0))
    return bias
