"""Tokens <-> range-coded streams by a model's forecasts: many rows at once, a token a step, with the KV cache.

    coded = encode(model, bos, tokens, rule, advance)           decode(model, bos, streams, n, rule, advance) -> tokens

The tokens are cut into rows of equal length, each of which begins with BOS and is forecast on its own, by the windows
of eval.windows: a window is fed what it only reads in one piece, then a token a step. With one row this is the score's
own rule. Rows go in blocks, a block has one stream, and blocks share nothing, so threads may take one each.

Encoder and decoder run the very same steps (`_walk`): same shapes, same order, one thread an operation, so a file does
not depend on how many cores there are. Another processor or torch may still give other last bits: every so many bits
the streams hold 16 bits of a checksum of the frequencies used so far, and a decoder that has others stops there.
"""

import math
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from data.encoding import cores
from eval.range_coder import TOTAL, Counts, Decoder, Encoder, frequencies
from model.cache import Cache
from model.gpt import GPT

Tokens = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Advance = Callable[[Tokens], None]  # is told the tokens of each step as they are done
Turn = Callable[[Floats], Tokens]  # log-probabilities (R, V) -> the tokens that came (R,)
T = TypeVar("T")

BLOCK_ROWS = 32  # what a step's matrices need to be quick; more would not fit a core's share of the cache
ROW_TOKENS, MANY_ROWS, LONG_ROW_TOKENS = 1024, 64, 4096  # a cold start costs about 50 bits: 1 % of such a row, 0.25 %
CHECK_EVERY_BITS = 1 << 15  # 16 bits for so many: 0.05 %
EVEN = np.full(256, TOTAL // 256, np.int64)  # frequencies of a checksum's byte


class Rule(NamedTuple):
    context: int
    stride: int
    rows: int


class Coded(NamedTuple):
    streams: list[bytes]
    nats: float  # of the model's own probabilities


class Desynchronised(Exception):
    """The decoder's forecasts are not those that the encoder had."""


def rows_for(tokens: int) -> int:
    """How many rows a text should be cut into: enough to be quick, so few that cold starts cost little."""
    return max(1, min(tokens // ROW_TOKENS, MANY_ROWS), tokens // LONG_ROW_TOKENS)


def block_count(tokens: int, rows: int) -> int:
    """Even, where there are rows enough: two cores shall be busy to the end."""
    return min(rows, tokens, 2 * math.ceil(rows / (2 * BLOCK_ROWS)))


def encode(model: GPT, bos: int, tokens: Tokens, rule: Rule, advance: Advance) -> Coded:
    blocks = _blocks(len(tokens), rule.rows)
    edges = np.cumsum([0, *map(sum, blocks)])

    def work(number: int, advance: Advance) -> tuple[bytes, float]:
        writer = _Writer(np.split(tokens[edges[number] : edges[number + 1]], np.cumsum(blocks[number])[:-1]), advance)
        _walk(model, bos, rule, blocks[number], writer.turn)
        return writer.encoder.finish(), writer.nats

    done = _in_threads(work, len(blocks), advance)
    return Coded([stream for stream, _ in done], math.fsum(nats for _, nats in done))


def decode(model: GPT, bos: int, streams: Sequence[bytes], tokens: int, rule: Rule, advance: Advance) -> Tokens:
    blocks = _blocks(tokens, rule.rows)

    def work(number: int, advance: Advance) -> Tokens:
        reader = _Reader(streams[number], advance)
        try:
            _walk(model, bos, rule, blocks[number], reader.turn)
        except ValueError as error:  # what constriction raises where no symbol has such bits
            raise Desynchronised(str(error)) from None
        return reader.rows()

    return np.concatenate([np.empty(0, np.int64), *_in_threads(work, len(blocks), advance)])


def _blocks(tokens: int, rows: int) -> list[list[int]]:
    """The length of every row, by blocks; rows differ by one token at most, longer ones first."""
    lengths = [tokens // rows + (row < tokens % rows) for row in range(min(rows, tokens))]
    count = block_count(tokens, rows)
    edges = [len(lengths) * block // count for block in range(count + 1)] if count else [0]
    return [lengths[begin:end] for begin, end in zip(edges[:-1], edges[1:], strict=True)]


def windows(targets: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """eval.windows' plan, a window (start, end, score_from) at a time: a forged length must not fill the memory."""
    start, score_from = 0, 0
    while score_from < targets:
        end = min(start + context, targets)
        yield start, end, score_from
        start, score_from = start + stride, end


@torch.no_grad()
def _walk(model: GPT, bos: int, rule: Rule, lengths: Sequence[int], turn: Turn) -> None:
    """Forecast every token of a block's rows and take turns: `turn` is given the forecasts and says what came."""
    seen = [np.full(len(lengths), bos, np.int64)]  # a column of the rows each
    for start, end, score_from in windows(lengths[0], rule.context, rule.stride):
        cache = Cache()
        fed = np.stack(seen[start : score_from + 1], axis=1)  # (R, score_from + 1 - start)
        for target in range(score_from, end):
            logits = model.logits(model.trunk(torch.from_numpy(fed), cache)[:, -1])  # (R, V)
            going = sum(length > target for length in lengths)  # all, but for the last column of uneven rows
            column = np.zeros(len(lengths), np.int64)
            column[:going] = turn(logits[:going].double().log_softmax(-1).numpy())
            seen.append(column)
            fed = column[:, None]


class _Checksum:
    """Of the frequencies that were used; due every CHECK_EVERY_BITS of the stream, as both sides can tell."""

    def __init__(self) -> None:
        self._sum = 0
        self._bits = 0

    def due(self, counts: Counts, tokens: Tokens) -> list[int]:
        """The two bytes to be coded next, if it is time."""
        used = np.take_along_axis(counts, tokens[:, None], -1)
        self._sum = zlib.crc32(used.astype("<i8").tobytes(), self._sum)
        self._bits += int((TOTAL.bit_length() - 1 - np.frexp(used)[1]).sum())  # rounded down, without a logarithm
        if self._bits < CHECK_EVERY_BITS:
            return []
        self._bits = 0
        return [self._sum & 255, self._sum >> 8 & 255]


class _Writer:
    def __init__(self, rows: Sequence[Tokens], advance: Advance) -> None:
        self.encoder, self.nats = Encoder(), 0.0
        self._rows, self._advance, self._check, self._at = rows, advance, _Checksum(), 0

    def turn(self, logs: Floats) -> Tokens:
        tokens = np.array([row[self._at] for row in self._rows[: len(logs)]])
        counts = frequencies(np.exp(logs))
        for row, token in zip(counts, tokens.tolist(), strict=True):
            self.encoder.add(row, token)
        for value in self._check.due(counts, tokens):
            self.encoder.add(EVEN, value)
        self.nats -= float(logs[np.arange(len(logs)), tokens].sum())
        self._at += 1
        self._advance(tokens)
        return tokens


class _Reader:
    def __init__(self, stream: bytes, advance: Advance) -> None:
        self._decoder, self._columns = Decoder(stream), list[Tokens]()
        self._advance, self._check = advance, _Checksum()

    def turn(self, logs: Floats) -> Tokens:
        counts = frequencies(np.exp(logs))
        tokens = np.array([self._decoder.take(row) for row in counts])
        for value in self._check.due(counts, tokens):
            if self._decoder.take(EVEN) != value:
                raise Desynchronised("a checksum within the stream is another")
        self._columns.append(tokens)
        self._advance(tokens)
        return tokens

    def rows(self) -> Tokens:
        """One row after another."""
        return np.concatenate([[c[row] for c in self._columns if row < len(c)] for row in range(len(self._columns[0]))])


class _Stopped(Exception):
    pass


def _in_threads(work: Callable[[int, Advance], T], count: int, advance: Advance) -> list[T]:
    """Blocks on all cores, each operation on one; the first failure (or Ctrl-C) ends them all."""
    stopped, threads = threading.Event(), torch.get_num_threads()

    def told(tokens: Tokens) -> None:
        if stopped.is_set():
            raise _Stopped
        advance(tokens)

    def guarded(number: int) -> T:
        torch.set_num_threads(1)  # it is each thread's own
        try:
            return work(number, told)
        except BaseException:
            stopped.set()
            raise

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores()) as pool:
            futures = [pool.submit(guarded, number) for number in range(count)]
            try:
                failures = [error for error in (future.exception() for future in futures) if error is not None]
            finally:
                stopped.set()
        for error in sorted(failures, key=lambda error: isinstance(error, _Stopped)):
            raise error
        return [future.result() for future in futures]
    finally:
        torch.set_num_threads(threads)
