"""model.match: against a search that tries every earlier position."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.match import longest_match

MOST = 4


def slow_match(tokens: list[int], at: int, begin: int) -> tuple[int, int]:
    """(length, follower) of the longest, then latest, earlier run that ends like the text up to `at`."""
    best = (0, tokens[at])
    for end in range(begin, at):
        length = 0
        while length < MOST and end - length >= 0 and tokens[end - length] == tokens[at - length]:
            length += 1
        if length and length >= best[0]:
            best = (length, tokens[end + 1])
    return best


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 40))
def test_the_longest_then_latest_run_is_found(tokens: list[int], last: int) -> None:
    last = min(last, len(tokens))
    size, follower = longest_match(torch.tensor([tokens]), last, MOST)
    for column, at in enumerate(range(len(tokens) - last, len(tokens))):
        assert (int(size[0, column]), int(follower[0, column])) == slow_match(tokens, at, 0)


def test_a_document_does_not_see_the_one_before() -> None:
    tokens = torch.tensor([[1, 5, 6, 7, 1, 5, 6, 5]])  # 1 begins a document
    begins = torch.tensor([[0, 0, 0, 0, 4, 4, 4, 4]])
    size, follower = longest_match(tokens, 8, MOST, begins)
    assert size.tolist() == [[0, 0, 0, 0, 0, 0, 0, 1]]
    assert int(follower[0, -1]) == 6
