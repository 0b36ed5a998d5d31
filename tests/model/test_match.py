"""model.match: against a search that tries every earlier position."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.match import longest_matches

MOST = 4


def slow_matches(tokens: list[int], at: int, count: int) -> list[tuple[int, int]]:
    """(length, follower) of the longest, then latest, earlier runs that end like the text up to `at`."""
    found: dict[int, tuple[int, int, int]] = {}
    for end in range(at):
        length = 0
        while length < MOST and end - length >= 0 and tokens[end - length] == tokens[at - length]:
            length += 1
        follower = tokens[end + 1]
        if length:
            found[follower] = max(found.get(follower, (0, 0, 0)), (length, end, follower))
    best = [(length, follower) for length, _, follower in sorted(found.values(), reverse=True)]
    return (best + [(0, tokens[at])] * count)[:count]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 40), st.integers(1, 3))
def test_the_longest_then_latest_runs_are_found(tokens: list[int], last: int, count: int) -> None:
    last = min(last, len(tokens))
    found = longest_matches(torch.tensor([tokens]), last, MOST, count)
    for column, at in enumerate(range(len(tokens) - last, len(tokens))):
        assert [(int(size[0, column]), int(follower[0, column])) for size, follower in found] == slow_matches(
            tokens, at, count
        )


def test_a_document_does_not_see_the_one_before() -> None:
    tokens = torch.tensor([[1, 5, 6, 7, 1, 5, 6, 5]])  # 1 begins a document
    begins = torch.tensor([[0, 0, 0, 0, 4, 4, 4, 4]])
    size, follower = longest_matches(tokens, 8, MOST, 1, begins)[0]
    assert size.tolist() == [[0, 0, 0, 0, 0, 0, 0, 1]]
    assert int(follower[0, -1]) == 6
