"""eval.lm_coder: tokens come back, at the model's own cost, and never from predictions that differ."""

import itertools
import math

import numpy as np
import pytest
import torch

from data.tokenizer import ByteTokenizer
from eval import lm_coder
from eval.batches import Feed, window_losses
from eval.codec_format import Rule
from eval.lm_coder import Desynchronised, decode, encode
from eval.windows import plan_windows
from model.gpt import GPT
from quant.unpack import from_bytes
from tests.eval.tiny import tiny_artifact

BYTES = ByteTokenizer()
TOKENS = BYTES.encode("a score is a file that decompresses. " * 16).astype(np.int64)


@pytest.fixture(scope="module")
def model() -> GPT:
    return from_bytes(tiny_artifact(ByteTokenizer())).model


def ignore(tokens: np.ndarray) -> None:
    pass


def reference(model: GPT, tokens: np.ndarray, rule: Rule) -> float:
    """Each row a text of its own, scored as eval.bpb scores."""
    lengths = [len(tokens) // rule.rows + (row < len(tokens) % rule.rows) for row in range(rule.rows)]
    return math.fsum(
        float(nats.sum())
        for row in np.split(tokens, np.cumsum(lengths)[:-1])
        for _, nats in window_losses(
            model, np.concatenate([[BYTES.bos_id], row]), plan_windows(len(row), rule.context, rule.stride), Feed(1000)
        )
    )


def test_the_streams_are_as_long_as_the_score_says(model: GPT) -> None:
    for rule in (Rule(16, 4, 1), Rule(13, 1, 1), Rule(16, 8, 3), Rule(9, 5, 40)):
        streams, nats = encode(model, BYTES, TOKENS, rule, ignore)
        assert nats == pytest.approx(reference(model, TOKENS, rule), rel=1e-6)
        bits = nats / math.log(2)
        assert bits - 1 < 8 * sum(map(len, streams)) < 1.001 * bits + 64 * len(streams)


def test_the_streams_do_not_depend_on_cores_or_threads(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    found = set()
    try:
        for cores, inside in itertools.product((1, 4), (1, 2)):
            monkeypatch.setattr(lm_coder, "cores", lambda cores=cores: cores)
            torch.set_num_threads(inside)
            streams, _ = encode(model, BYTES, TOKENS, Rule(16, 8, 70), ignore)
            found.add(tuple(streams))
            assert torch.get_num_threads() == inside
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


def test_predictions_that_differ_by_bits_are_noticed_early(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_coder, "CHECK_EVERY_BITS", 256)
    other = from_bytes(tiny_artifact(ByteTokenizer())).model
    with torch.no_grad():
        other.blocks[0].mlp.up.weight.mul_(1 + 2e-6)
    for rows in (1, 4):
        rule = Rule(16, 8, rows)
        streams, _ = encode(model, BYTES, TOKENS, rule, ignore)
        assert decode(model, BYTES, streams, len(TOKENS), rule, ignore).tolist() == TOKENS.tolist()
        steps = list[int]()
        with pytest.raises(Desynchronised):
            decode(other, BYTES, streams, len(TOKENS), rule, lambda done, steps=steps: steps.append(len(done)))
        assert sum(steps) < len(TOKENS) / 2
