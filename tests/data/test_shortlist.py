"""data.shortlist: every target is drawn, shares are frequencies, and the loss over all tokens is the plain one."""

import numpy as np
import pytest
import torch

from base.errors import BadInput
from data.shards import TokenStream
from data.shortlist import Shortlist
from model.config import ModelConfig
from model.gpt import GPT
from tests.runs import small

VOCAB, SIZE = 50, 30


@pytest.fixture
def stream() -> TokenStream:
    rate = 1 / np.arange(1, VOCAB + 1)
    tokens = np.random.default_rng(0).choice(VOCAB, 40_000, p=rate / rate.sum())
    return TokenStream([tokens.astype(np.uint16)])


def batch_of(stream: TokenStream, number: int) -> torch.Tensor:
    return torch.from_numpy(stream.read(16 * number, 16).astype(np.int64)).view(2, 8)


def test_all_targets_are_drawn_and_found_at_their_places(stream: TokenStream) -> None:
    shortlist = Shortlist(stream, VOCAB, SIZE, 7)
    for number in range(20):
        targets = batch_of(stream, number)
        drawn = shortlist.draw(targets, number)
        assert drawn is not None
        assert torch.equal(drawn.tokens[drawn.places], targets)
        assert len(drawn.tokens.unique()) == SIZE
        again = Shortlist(stream, VOCAB, SIZE, 7).draw(targets, number)
        assert again is not None
        assert torch.equal(again.tokens, drawn.tokens)


def test_a_share_is_the_frequency_of_being_drawn(stream: TokenStream) -> None:
    shortlist = Shortlist(stream, VOCAB, SIZE, 7)
    times, shares = np.zeros(VOCAB), np.zeros(VOCAB)
    steps = 2000
    for number in range(steps):
        drawn = shortlist.draw(batch_of(stream, number), number)
        assert drawn is not None
        times[drawn.tokens.numpy()] += 1
        shares[drawn.tokens.numpy()] += drawn.log_share.exp().numpy()
    assert np.abs(shares / times - times / steps).max() < 0.05


def test_a_batch_with_more_kinds_of_targets_has_no_list_and_a_list_of_all_is_refused(stream: TokenStream) -> None:
    assert Shortlist(stream, VOCAB, 10, 0).draw(torch.arange(16), 0) is None
    with pytest.raises(BadInput, match="train.shortlist 50 is no part of 50 tokens; use less, or 0 for all of them"):
        Shortlist(stream, VOCAB, VOCAB, 0)


def test_a_head_that_is_split_over_ranks_is_refused_before_training() -> None:
    with pytest.raises(BadInput, match="picks rows of the head, which fsdp splits; use shard ddp or shortlist 0"):
        small("train.shortlist=8", "train.shard=fsdp")


def test_the_loss_over_all_tokens_is_the_loss() -> None:
    model = GPT(ModelConfig(vocab_size=VOCAB, dim=32, heads=4, layers=2, softcap=5.0))
    rows = torch.randint(VOCAB, (3, 12))
    tokens, targets = rows[:, :-1], rows[:, 1:]
    found = model.shortlist_loss(tokens, torch.arange(VOCAB), targets, torch.zeros(VOCAB))
    torch.testing.assert_close(found, model.loss(tokens, targets))
