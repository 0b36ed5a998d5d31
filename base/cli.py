"""The shell around every command: flags, exit codes, `--json`, one-line errors.

A command is a parser, an `act` that takes the parsed flags and returns its answer (a dataclass, or a dict where keys
vary), and a `show` that turns the answer into text for a person. It is not where work happens.

    exit 0  done        1  the claim or check failed        2  bad usage or bad input: one line on stderr
    130     interrupted          a bug keeps its traceback and exits 70, so that it is never read as a failed claim

With `--json` the answer is the only thing on stdout, one object; whatever the work prints goes to stderr.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from base.errors import BadInput, CheckFailed

Answer = dict[str, Any]
T = TypeVar("T")

DONE, FAILED, BAD_INPUT, BUG, INTERRUPTED = 0, 1, 2, 70, 130


class OneLineParser(argparse.ArgumentParser):
    """argparse prints its usage before an error; one clear line is enough, and `--help` has the rest."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see: {self.prog} --help)")


def command(prog: str, description: str) -> OneLineParser:
    """A parser for `python -m {prog}` that knows `--json`; `description` is the module's docstring."""
    parser = OneLineParser(
        prog=f"python -m {prog}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object on stdout")
    return parser


def run(
    parser: OneLineParser,
    act: Callable[[argparse.Namespace], T],
    show: Callable[[T], str],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, act, answer; returns the exit code. `act` may raise BadInput or CheckFailed at any point."""
    _open_streams()
    try:
        args = parser.parse_intermixed_args(argv)  # so that flags may come between words
        answer, failure = _acted(act, args)
        if answer is not None:
            text = json.dumps(plain(answer), allow_nan=False) if args.json else show(answer)
            if text:  # empty where stdout already holds the result itself
                print(text, flush=True)
        return DONE if failure is None else _report(parser, failure, FAILED)
    except BadInput as bad:
        return _report(parser, str(bad), BAD_INPUT)
    except BrokenPipeError:  # the reader of our stdout went away (`| head`): nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return BAD_INPUT
    except OSError as trouble:  # a full disk, a missing right, a path that is a folder
        where = f"{trouble.filename}: " if trouble.filename else ""
        return _report(parser, f"{where}{trouble.strerror or trouble}", BAD_INPUT)
    except KeyboardInterrupt:
        return _report(parser, "interrupted", INTERRUPTED)
    except Exception:
        traceback.print_exc()
        return BUG


def _acted(act: Callable[[argparse.Namespace], T], args: argparse.Namespace) -> tuple[T | None, str | None]:
    """The answer, which a failed check may carry as well, and why it failed."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return act(args), None
    except CheckFailed as failure:
        return failure.answer, str(failure)


def plain(answer: Any) -> Any:
    """A dataclass as the dict that JSON writes; anything else as it is."""
    return dataclasses.asdict(answer) if dataclasses.is_dataclass(answer) and not isinstance(answer, type) else answer


def show_pairs(answer: Any) -> str:
    """One line per key: the usual way to print an answer."""
    pairs = plain(answer)
    width = max(map(len, pairs))
    lines = [f"{key:<{width}}  {v:,}" if type(v) is int else f"{key:<{width}}  {v}" for key, v in pairs.items()]
    return "\n".join(lines)


def _open_streams() -> None:
    """An answer must not be lost to a closed stderr or to a terminal that cannot spell a name."""
    if sys.stderr is None:  # `2>&-`
        sys.stderr = open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _report(parser: OneLineParser, message: str, code: int) -> int:
    name = parser.prog.removeprefix("python -m ")
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code
