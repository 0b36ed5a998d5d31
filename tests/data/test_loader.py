"""data.loader: order, disjointness, resumption."""

import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import BadInput
from data.loader import Loader as AnyLoader
from data.loader import Order
from data.shards import TokenStream


def Loader(
    stream: TokenStream, order: Order, seq_len: int, batch: int, seed: int, rank: int = 0, ranks: int = 1
) -> AnyLoader:
    return AnyLoader(stream, order, seq_len, batch, seed, f"of {len(stream)} tokens", rank, ranks)


def counting(tokens: int, shards: int = 1) -> TokenStream:
    """Token i is i, so that a batch shows where it was cut."""
    return TokenStream(np.array_split(np.arange(tokens, dtype=np.uint16), shards))


def test_sequential_order_is_the_contest_baselines() -> None:
    batch, seq_len, ranks = 2, 4, 3
    loaders = [Loader(counting(60, 4), "sequential", seq_len, batch, 0, rank, ranks) for rank in range(ranks)]
    span = batch * seq_len + 1
    for step in range(5):
        for rank, loader in enumerate(loaders):
            start = (step * ranks + rank) * span
            cut = torch.tensor([(start + i) % 60 for i in range(span)])
            x, y = (tokens.long() for tokens in loader.next_batch())
            assert torch.equal(x.view(-1), cut[:-1])
            assert torch.equal(y.view(-1), cut[1:])


@settings(max_examples=40)
@given(
    tokens=st.integers(40, 300), seq_len=st.integers(1, 16), batch=st.integers(1, 5), ranks=st.integers(1, 4),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_an_epoch_is_seen_once_over_all_ranks(tokens: int, seq_len: int, batch: int, ranks: int, seed: int) -> None:
    stream = counting(tokens, 3)
    windows = (tokens - seq_len) // seq_len
    loaders = [Loader(stream, "shuffled", seq_len, batch, seed, rank, ranks) for rank in range(ranks)]
    starts: list[int] = []
    while len(starts) < 2 * windows:
        for loader in loaders:
            x, y = (tokens.long() for tokens in loader.next_batch())
            assert torch.equal(x[:, 1:], y[:, :-1])
            assert torch.equal(y - x, torch.ones_like(x))  # no window wraps round the stream's end
            starts += x[:, 0].tolist()
    for epoch in (starts[:windows], starts[windows : 2 * windows]):
        assert len(set(epoch)) == windows
        assert len({start % seq_len for start in epoch}) == 1


def test_epochs_differ_in_order_and_phase_and_seeds_differ_too() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        loader = Loader(counting(1000), "shuffled", 10, 99, seed)
        for _ in range(number):
            loader.next_batch()
        return loader.next_batch()[0][:, 0].tolist()

    assert epoch(1, 0) == epoch(1, 0)
    assert epoch(1, 0) != epoch(1, 1)
    assert epoch(1, 0) != epoch(2, 0)
    assert len({epoch(1, number)[0] % 10 for number in range(12)}) > 3
    assert epoch(1, 0) != sorted(epoch(1, 0))


def test_a_resumed_loader_continues_exactly() -> None:
    for order, steps in itertools.product(get_args(Order), (0, 1, 7, 23)):
        one = Loader(counting(200, 2), order, 8, 3, seed=5)
        for _ in range(steps):
            one.next_batch()
        two = Loader(counting(200, 2), order, 8, 3, seed=5)
        two.load_state_dict(one.state_dict())
        for _ in range(30):
            assert all(torch.equal(a, b) for a, b in zip(one.next_batch(), two.next_batch(), strict=True))


def test_a_batch_does_not_depend_on_ranks_or_accumulation_and_resumes_on_another_number_of_ranks() -> None:
    together = Loader(counting(500), "shuffled", 8, 6, seed=1)
    single = Loader(counting(500), "shuffled", 8, 1, seed=1)
    assert torch.equal(together.next_batch()[0], torch.cat([single.next_batch()[0] for _ in range(6)]))
    halves = [Loader(counting(500), "shuffled", 8, 3, seed=1, rank=rank, ranks=2) for rank in range(2)]
    for loader in halves:
        loader.load_state_dict(together.state_dict())
    both = torch.cat([loader.next_batch()[0] for loader in halves])
    assert torch.equal(both, together.next_batch()[0])


def test_a_position_from_other_data_is_refused() -> None:
    state = Loader(counting(500), "shuffled", 8, 1, seed=1).state_dict()
    with pytest.raises(BadInput, match="data is of 499 token and the checkpoint's was of 500 token; use"):
        Loader(counting(499), "shuffled", 8, 1, seed=1).load_state_dict(state)
    with pytest.raises(BadInput, match="15 training tokens are too few for seq_len 8; it takes 16"):
        Loader(counting(15), "shuffled", 8, 1, seed=0)
