"""The small world of text that the cheaters live in, as tests/eval has it."""

from tests.eval.conftest import world

__all__ = ["world"]
