"""A Scorer or a Predictor in another process, which speaks JSON over its stdin and stdout, one object a line.

The child says first what it is, then answers each question; whatever else it prints belongs on stderr. A list of
numbers with a point is a string: base64 of little-endian float64, row after row. Tokens and targets are JSON integers.

    child   {"vocab_size": 1024, "form": "scorer"}                       or "predictor"

    scorer, asked for a whole text (target i is token i + 1) and for the distributions of some targets:
    parent  {"tokens": [1, 17, 5], "show": [1]}
    child   {"targets": [0, 1], "nats": "…", "size_bytes": 4, "shown": "…"}     nats (2,), shown (1, vocab_size)

    predictor, told the first token of a new text, or the next one, and asked for the distribution of the one after it:
    parent  {"first": 1}      then {"next": 17}
    child   {"p": "…"}                                                   (vocab_size,)

A scorer in Python, whole:

    import base64, json, sys
    import numpy as np
    def floats(values): return base64.b64encode(np.asarray(values, "<f8").tobytes()).decode()
    def say(**answer): print(json.dumps(answer), flush=True)
    say(vocab_size=260, form="scorer")
    for line in sys.stdin:
        asked = json.loads(line)
        nats, p, size_bytes = my_score(asked["tokens"])                  # (n,) (n, vocab_size) int
        say(targets=list(range(len(nats))), nats=floats(nats), size_bytes=size_bytes, shown=floats(p[asked["show"]]))

A child that dies, hangs, or answers anything else has failed the check: one line names what it said.
"""

import base64
import contextlib
import json
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from threading import Event, Timer
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np

from base.errors import BadInput, CheckFailed
from eval.scorer import Floats, Scored, Tokens

LONGEST_LINE = 1 << 30  # bytes
MOST_SHOWN = 80  # characters of what it said


class Child:
    """The process and its line; used as a context, it is ended at the end."""

    def __init__(self, command: str, limit_s: float) -> None:
        """`limit_s` is for each answer, the first one included."""
        self._command, self._limit_s, self._errors = command, limit_s, tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                shlex.split(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                process_group=0,
            )
        except (OSError, ValueError, IndexError) as error:
            raise BadInput(f"--command {command!r} does not start: {error}") from None
        try:
            hello = self._answer()
            vocab_size, form = hello.get("vocab_size"), hello.get("form")
            if type(vocab_size) is not int or vocab_size < 2 or form not in ("scorer", "predictor"):
                self._fail("does not begin with its vocab_size and its form, scorer or predictor", json.dumps(hello))
            self.vocab_size, self.form = vocab_size, form
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def score(self, tokens: Tokens, show: Sequence[int] = ()) -> Scored:
        answer = self._ask({"tokens": np.asarray(tokens).tolist(), "show": list(show)})
        targets, size_bytes = answer.get("targets"), answer.get("size_bytes")
        if not isinstance(targets, list) or not all(
            type(target) is int and abs(target) < 1 << 62 for target in targets
        ):
            self._fail("says no list of whole numbers as targets", json.dumps(targets))
        if type(size_bytes) is not int or not 0 <= size_bytes < 1 << 62:
            self._fail("says no number of bytes as size_bytes", json.dumps(size_bytes))
        nats = self._floats(answer, "nats", (len(targets),))
        shown = self._floats(answer, "shown", (len(show), self.vocab_size))
        return Scored(np.array(targets, np.int64), nats, size_bytes, shown)

    def turn(self, key: str, token: int) -> Floats:
        """A predictor's answer to a token: the next one's distribution."""
        return self._floats(self._ask({key: token}), "p", (self.vocab_size,))

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        return self._answer(json.dumps(question).encode() + b"\n")

    def _answer(self, question: bytes = b"") -> dict[str, Any]:
        late = Event()
        timer = Timer(self._limit_s, self._kill, [late])
        timer.start()
        try:
            line = self._exchange(question)
        finally:
            timer.cancel()
        if late.is_set():
            self._fail(f"gave no answer in {self._limit_s:g} s", line)
        if not line.endswith(b"\n"):
            with contextlib.suppress(subprocess.TimeoutExpired):  # it lives on, without a word
                self._process.wait(1.0)
            self._fail(f"ended with exit code {self._process.poll()}", self._last_error() or line)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            self._fail("answers something else than JSON", line)
        if not isinstance(answer, dict):
            self._fail("answers something else than a JSON object", line)
        return answer

    def _exchange(self, question: bytes) -> bytes:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(question)
            self._process.stdin.flush()
        except BrokenPipeError:  # it is gone: what it last said is all there is
            return b""
        return self._process.stdout.readline(LONGEST_LINE)

    def _floats(self, answer: dict[str, Any], key: str, shape: tuple[int, ...]) -> Floats:
        said = answer.get(key)
        text = said if isinstance(said, str) else json.dumps(said)
        try:
            data = base64.b64decode(text, validate=True)
            numbers = np.frombuffer(data, "<f8").astype(np.float64).reshape(shape)
        except ValueError:
            self._fail(f"says no {' x '.join(map(str, shape))} float64 in base64 as {key}", text)
        if not np.isfinite(numbers).all():
            self._fail(f"says a {key} that is not finite, at {int(np.flatnonzero(~np.isfinite(numbers))[0])}", text)
        return numbers

    def _fail(self, what: str, said: str | bytes) -> NoReturn:
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        shown = repr(text.strip()[:MOST_SHOWN]) if text.strip() else "nothing"
        raise CheckFailed(f"{self._command!r} {what}; it said {shown}")

    def _last_error(self) -> bytes:
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 4096))
        return (self._errors.read().strip().splitlines() or [b""])[-1]

    def _kill(self, late: Event | None = None) -> None:
        if late is not None:
            late.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # and whatever it started, which may have outlived it

    def _end(self) -> None:
        self._kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            with contextlib.suppress(BrokenPipeError):  # a question that it never read
                stream.close()
        self._errors.close()


class ChildPredictor:
    """A new text in a child of the form `predictor`; one at a time, each begins where the last one was left."""

    def __init__(self, child: Child) -> None:
        self._child, self.vocab_size = child, child.vocab_size
        self._next: Floats | None = None

    def predict(self) -> Floats:
        assert self._next is not None, "a text's first token is revealed before anything is asked"
        return self._next

    def reveal(self, token: int) -> None:
        self._next = self._child.turn("first" if self._next is None else "next", token)
