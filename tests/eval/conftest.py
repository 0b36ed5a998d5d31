"""The small world of text that the tests of the probes share."""

import pytest

from tests.eval.cheaters import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()
