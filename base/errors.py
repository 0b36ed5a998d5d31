"""The two ways a command fails, as exceptions.

Not for bugs: those keep their traceback. `base.cli` turns these into exit codes and one line on stderr.
"""

from typing import Any


class BadInput(Exception):
    """Bad usage or bad input (exit code 2). The message names the value, the rule and the way out, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class CheckFailed(Exception):
    """The claim or check does not hold (exit code 1). `answer`: what the command prints all the same."""

    def __init__(self, message: str, answer: Any = None) -> None:
        super().__init__(message)
        self.answer = answer
