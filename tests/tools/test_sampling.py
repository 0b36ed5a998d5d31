"""tools.sampling: every sampler against plain loops, on logits with ties and forbidden tokens among them."""

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tools.sampling import Sampling, choose_token, forbid_repeats, keep_top_k, keep_top_p, penalize

LOGITS = st.lists(st.integers(-12, 12).map(lambda n: n / 4), min_size=1, max_size=12)
SEEN = st.lists(st.integers(0, 3), max_size=14)


def as_row(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


@given(LOGITS, SEEN, st.floats(0.2, 5))
def test_the_penalty_applies_once_to_each_seen_token(values: list[float], seen: list[int], penalty: float) -> None:
    seen = [token % len(values) for token in seen]
    expected = list(values)
    for token in range(len(values)):
        if token in seen:
            expected[token] = values[token] / penalty if values[token] > 0 else values[token] * penalty
    assert penalize(as_row(values), seen, penalty).tolist() == pytest.approx(expected)


@given(SEEN, st.integers(0, 5))
def test_a_token_is_forbidden_exactly_if_it_would_repeat_an_ngram(seen: list[int], size: int) -> None:
    out = forbid_repeats(torch.zeros(4), seen, size).tolist()
    grams = {tuple(seen[at : at + size]) for at in range(len(seen) - size + 1)} if size else set()
    for token in range(4):
        after = [*seen, token]
        repeats = size > 0 and len(after) > size and tuple(after[-size:]) in grams
        assert (out[token] == -math.inf) == repeats


@given(LOGITS, st.integers(0, 14))
def test_top_k_keeps_tokens_that_fewer_than_k_surpass(values: list[float], count: int) -> None:
    out = keep_top_k(as_row(values), count).tolist()
    for value, kept in zip(values, out, strict=True):
        surpassing = sum(other > value for other in values)
        assert kept == (value if count == 0 or surpassing < count else -math.inf)


@given(LOGITS, st.floats(0.01, 1))
def test_top_p_keeps_the_fewest_likeliest_tokens_that_reach_the_share(values: list[float], share: float) -> None:
    out = keep_top_p(as_row(values), share).tolist()
    probabilities = softmax(values)
    kept = [token for token, value in enumerate(out) if value > -math.inf]
    dropped = [token for token in range(len(values)) if token not in kept]
    assert kept
    assert all(out[token] == values[token] for token in kept)
    assert all(values[a] >= values[b] for a in kept for b in dropped)
    total = sum(probabilities[token] for token in kept)
    assert total >= share - 1e-9 or not dropped
    assert len(kept) == 1 or total - min(probabilities[token] for token in kept) < share + 1e-9


def test_draws_follow_the_tempered_distribution() -> None:
    values = [1.0, 0.0, -1.0, 2.0]
    sampling = Sampling(temperature=0.5, top_k=3, top_p=1)
    generator = torch.Generator().manual_seed(0)
    tokens = [choose_token(as_row(values), [], sampling, generator) for _ in range(4000)]
    expected = softmax([value / 0.5 for value in (1.0, 0.0, 2.0)])
    for token, share in zip((0, 1, 3), expected, strict=True):
        assert tokens.count(token) / 4000 == pytest.approx(share, abs=0.03)
    assert 2 not in tokens


@given(LOGITS, SEEN, st.integers(0, 10**6))
def test_only_possible_tokens_are_chosen_under_any_settings(values: list[float], seen: list[int], seed: int) -> None:
    rng = random.Random(seed)
    sampling = Sampling(
        temperature=rng.choice([0, 1e-300, 1, 100]), top_k=rng.choice([0, 1, 3]), top_p=rng.choice([1e-9, 0.5, 1]),
        repetition_penalty=rng.choice([1, 1.3, 100]), no_repeat_ngram=rng.choice([0, 2, 4]),
    )  # fmt: skip
    values = [*values, 0.5]  # a mark: never seen, so never forbidden
    seen = [token % (len(values) - 1) for token in seen]
    token = choose_token(as_row(values), seen, sampling, torch.Generator().manual_seed(seed))
    assert forbid_repeats(as_row(values), seen, sampling.no_repeat_ngram)[token] > -math.inf
    if sampling.temperature == 0 and sampling.repetition_penalty == 1 and not sampling.no_repeat_ngram:
        assert values[token] == max(values)
