"""Tokens <-> range-coded streams by a model's predictions: many rows at once, one token per step, with the KV cache.

    streams, nats = encode(model, tokenizer, tokens, rule, advance)
    tokens = decode(model, tokenizer, streams, count, rule, advance)

The tokens are cut into rows of equal length. Each row begins with BOS and is predicted on its own, from the windows of
eval.windows: what a window only reads is fed in one piece, then a token per step. With one row this is the score's own
rule. Rows go in blocks; a block has one stream, and blocks share nothing, so each can have a thread of its own.

Where the rule has a table, predictions are mixed with what the block's text has taught (eval.mixing): its rows have one
past, in the order that they are coded in, and a token is coded by steps down one tree of the vocabulary.

Encoder and decoder run the same steps (`_Block`): same shapes, same order, one thread per operation, so that a file
does not depend on the number of cores. Another processor or torch can still give other last bits: every 2^15 bits the
streams contain 16 bits of a checksum of the frequencies used so far, and a decoder with other frequencies stops there.
"""

import math
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import numpy as np
import numpy.typing as npt
import torch

from data.encoding import cores
from data.tokenizer import Tokenizer
from eval.codec_format import Rule
from eval.mixing.memory import LEVELS
from eval.mixing.mixer import TreeMixture
from eval.mixing.text import spell
from eval.mixing.tree import plant_trees
from eval.range_coder import TOTAL, Counts, Decoder, Encoder, frequencies
from eval.windows import plan_windows
from model.cache import Cache
from model.gpt import GPT

Tokens = npt.NDArray[np.integer]
Advance = Callable[[Tokens], None]  # called with the tokens of each step

BLOCK_ROWS = 32  # enough for fast matrix products; more would not fit into a core's share of the cache
# A row's first tokens have little context, which costs about 50 bits: 1 % of a row of 1,024 tokens, 0.25 % of 4,096.
ROW_TOKENS = 1024
MANY_ROWS = 64
LONG_ROW_TOKENS = 4096
MOST_ROW_TOKENS = 1 << 20  # the windows of a row are planned at once, and a forged length must not fill the memory
CHECK_EVERY_BITS = 1 << 15  # 16 bits per 2^15: 0.05 %
UNIFORM = np.full(256, TOTAL // 256, np.int64)  # frequencies of a checksum's byte


class Desynchronised(Exception):
    """The decoder's predictions are not the encoder's."""


def rows_for(tokens: int) -> int:
    """The number of rows to cut a text into: enough to be fast, and few enough to lose little at their starts."""
    return max(1, min(tokens // ROW_TOKENS, MANY_ROWS), tokens // LONG_ROW_TOKENS)


def block_count(tokens: int, rows: int) -> int:
    """An even number where there are enough rows, so that two cores are busy to the end."""
    return min(rows, tokens, 2 * math.ceil(rows / (2 * BLOCK_ROWS)))


def encode(model: GPT, tokenizer: Tokenizer, tokens: Tokens, rule: Rule, advance: Advance) -> tuple[list[bytes], float]:
    """The stream of each block, and the nats of all tokens by the probabilities that they are coded with."""
    blocks = []
    encoders = []
    done = 0
    for lengths in _row_lengths(len(tokens), rule.rows):
        encoders.append(Encoder())
        block = _Block(encoders[-1], lengths, tokenizer, rule, advance)
        block.rows[block.is_token] = tokens[done : done + sum(lengths)]
        done += sum(lengths)
        blocks.append(block)
    _walk_in_threads(blocks, model)
    return [encoder.finish() for encoder in encoders], math.fsum(block.nats for block in blocks)


def decode(
    model: GPT, tokenizer: Tokenizer, streams: Sequence[bytes], tokens: int, rule: Rule, advance: Advance
) -> Tokens:
    rows = _row_lengths(tokens, rule.rows)
    pairs = zip(streams, rows, strict=True)
    blocks = [_Block(Decoder(data), lengths, tokenizer, rule, advance) for data, lengths in pairs]
    try:
        _walk_in_threads(blocks, model)
    except ValueError as error:  # no symbol has such bits
        raise Desynchronised(str(error)) from None
    return np.concatenate([np.empty(0, np.int64), *(block.rows[block.is_token] for block in blocks)])


def _row_lengths(tokens: int, rows: int) -> list[list[int]]:
    """The length of every row, by blocks; rows differ by one token at most, longer ones first."""
    lengths = [tokens // rows + (1 if row < tokens % rows else 0) for row in range(min(rows, tokens))]
    count = block_count(tokens, rows)
    return [lengths[len(lengths) * block // count : len(lengths) * (block + 1) // count] for block in range(count)]


class _Block:
    """The rows of a block, coded a column at a time: what encoder and decoder do in the same way."""

    def __init__(
        self, coder: Encoder | Decoder, lengths: Sequence[int], tokenizer: Tokenizer, rule: Rule, advance: Advance
    ) -> None:
        self.nats = 0.0
        self._rule = rule
        self._tokenizer = tokenizer
        self._stream = np.zeros((len(lengths), lengths[0] + 1), np.int64)
        self._stream[:, 0] = tokenizer.bos_id
        self.rows = self._stream[:, 1:]  # (R, T) given to an encoder, filled in by a decoder
        self._lengths = np.array(lengths)
        self._coder = coder
        self._advance = advance
        self._checksum = 0  # CRC-32 of the frequencies used so far
        self._unchecked_bits = 0

    @property
    def is_token(self) -> npt.NDArray[np.bool_]:
        """(R, T) False where a row is one shorter than the first."""
        return np.arange(self.rows.shape[1]) < self._lengths[:, None]

    @torch.no_grad()
    def walk(self, model: GPT, stopped: threading.Event) -> None:
        """Predict every token from its row's window, and code it, until `stopped`."""
        plan = plan_windows(self.rows.shape[1], self._rule.context, self._rule.stride)
        mixture = self._begin_mixture() if self._rule.table_bits else None
        for start, end, score_from in zip(plan.start, plan.end, plan.score_from, strict=True):
            cache = Cache()
            first = start
            for target in range(score_from, end):
                if stopped.is_set():
                    return
                fed = torch.from_numpy(self._stream[:, first : target + 1])
                logits = model.logits(model.trunk(fed, cache)[:, -1], fed[:, -1])  # (R, V)
                unfinished = int((self._lengths > target).sum())  # the last column may lack the shorter rows
                column = self.rows[:unfinished, target]
                if mixture is None:
                    used = self._code_column(column, logits[:unfinished])
                else:
                    used = self._code_mixed_column(column, logits[:unfinished], mixture)
                self._check(used)
                self._advance(column)
                first = target + 1

    def _begin_mixture(self) -> TreeMixture:
        (tree,) = plant_trees(self._tokenizer, 1)
        lengths = (self._lengths + 1).tolist()
        mixture = TreeMixture(tree, spell(self._tokenizer), self._rule.table_bits, lengths)
        for row in range(len(lengths)):
            mixture.begin(self._tokenizer.bos_id, row)
        return mixture

    def _code_column(self, column: Tokens, logits: torch.Tensor) -> Counts:
        log_p = logits.double().log_softmax(-1).numpy()
        counts = frequencies(np.exp(log_p))
        for row in range(len(column)):
            column[row] = self._coder.code(counts[row], int(column[row]))
        self.nats -= float(log_p[np.arange(len(column)), column].sum())
        return np.take_along_axis(counts, column[:, None], -1)

    def _code_mixed_column(self, column: Tokens, logits: torch.Tensor, mixture: TreeMixture) -> Counts:
        """Row by row, as each teaches the next; a token is a few steps of LEVELS levels each."""
        used = []
        tree = mixture.tree
        p = logits.float()[:, torch.from_numpy(tree.order)].softmax(-1).numpy()
        for row in range(len(column)):
            leaf = int(tree.leaf[tree.place[column[row]]])  # a decoder does not use it
            node = 0
            for level in range(0, tree.levels, LEVELS):
                depth = min(LEVELS, tree.levels - level)
                counts = mixture.count(TOTAL, p[row], level, node, depth, row)
                step = leaf >> (tree.levels - level - depth) & ((1 << depth) - 1)
                step = self._coder.code(counts, step)
                used.append(counts[step])
                node = (node << depth) + step
            column[row] = tree.token(node)
            self.nats += float(mixture.learn(p[row : row + 1], column[row : row + 1], row)[0])
        return np.array(used)

    def _check(self, used: Counts) -> None:
        self._checksum = zlib.crc32(used.astype("<i8").tobytes(), self._checksum)
        bits = TOTAL.bit_length() - 1 - np.frexp(used)[1]  # rounded down: exact arithmetic
        self._unchecked_bits += int(bits.sum())
        if self._unchecked_bits >= CHECK_EVERY_BITS:
            self._unchecked_bits = 0
            for value in (self._checksum & 255, self._checksum >> 8 & 255):
                if self._coder.code(UNIFORM, value) != value:
                    raise Desynchronised("a checksum within the stream differs")


def _walk_in_threads(blocks: Sequence[_Block], model: GPT) -> None:
    """Walk the blocks on all cores, each operation on one; the first failure (or Ctrl-C) stops all of them."""
    stopped = threading.Event()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                futures = [pool.submit(block.walk, model, stopped) for block in blocks]
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stopped.set()
        for future in finished:
            future.result()  # raises the failure that stopped the others
    finally:
        torch.set_num_threads(threads)
